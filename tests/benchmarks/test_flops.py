"""Operations of a step against torch's own counter."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.flops import step_flops
from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.t5 import T5
from ept.backbones.t5_config import T5Config


@pytest.mark.parametrize(("layers", "decoder_layers", "width"), [(2, 3, 4), (1, 1, 8), (3, 2, 5)])
def test_operations_are_those_that_torch_counts(layers, decoder_layers, width):
    config = T5Config(
        vocab_size=50,
        d_model=16,
        d_kv=width,
        d_ff=24,
        num_heads=2,
        num_layers=layers,
        num_decoder_layers=decoder_layers,
    )
    backbone = EncoderDecoder(T5(config))
    inputs, mask = torch.randn(3, 11, 16, requires_grad=True), torch.ones(3, 11, dtype=torch.int64)
    targets = torch.tensor([[3, 4, 1], [5, 1, -100], [6, 1, -100]])
    # The plain kernel: torch does not count fused attention on a CPU.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        backbone.token_losses(inputs, mask, targets).sum().backward()
    assert step_flops(config, 3, 11, 3, 7) == counter.get_total_flops()
