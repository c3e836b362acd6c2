"""Tiny random T5 models of both generations, made by transformers itself."""

import torch
from transformers import T5Config, T5ForConditionalGeneration

SHAPE = dict(vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_decoder_layers=3, num_heads=4)
VERSIONS = {"v1.0": {}, "v1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}}


def make_t5(version: str, seed: int = 0) -> T5ForConditionalGeneration:
    """A random T5, with weights large enough that attention, positions and head all matter."""
    torch.manual_seed(seed)
    model = T5ForConditionalGeneration(T5Config(**SHAPE, **VERSIONS[version], decoder_start_token_id=0))
    if version == "v1.1":
        # Transformers ties a fresh model's head even where the configuration says not to.
        model.lm_head.weight = torch.nn.Parameter(torch.randn(40, 16))
    for name, parameter in model.named_parameters():
        if "layer_norm" not in name:
            torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def make_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings [3, 7, 16], mask [3, 7] with padding, targets [3, 3] with padding."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(3, 7, dtype=torch.int64)
    mask[1, 4:] = 0
    mask[2, 6:] = 0
    targets = torch.tensor([[3, 4, 1], [5, 1, -100], [1, -100, -100]])
    return torch.randn(3, 7, 16, generator=generator), mask, targets
