"""Operations of a step against torch's own counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import T5Config, T5ForConditionalGeneration

from benchmarks.flops import step_flops
from ept.backbones.encoder_decoder import EncoderDecoder


@pytest.mark.parametrize(("layers", "decoder_layers", "inner"), [(2, 3, 4), (1, 1, 8), (3, 2, 2)])
def test_operations_are_those_that_torch_counts(layers, decoder_layers, inner):
    # Eager attention: torch does not count its fused attention on a CPU.
    config = T5Config(
        vocab_size=50,
        d_model=16,
        d_kv=inner,
        d_ff=24,
        num_heads=2,
        num_layers=layers,
        num_decoder_layers=decoder_layers,
        decoder_start_token_id=0,
        attn_implementation="eager",
    )
    backbone = EncoderDecoder(T5ForConditionalGeneration(config))
    inputs, mask = torch.randn(3, 11, 16, requires_grad=True), torch.ones(3, 11, dtype=torch.int64)
    targets = torch.tensor([[3, 4, 1], [5, 1, -100], [6, 1, -100]])
    with FlopCounterMode(display=False) as counter:
        backbone.token_losses(inputs, mask, targets).sum().backward()
    assert step_flops(config, 3, 11, 3, 7) == counter.get_total_flops()
