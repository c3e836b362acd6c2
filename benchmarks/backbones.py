"""The backbones that are timed: T5 with random weights, which cost the same as trained ones."""

import torch
from transformers import T5Config, T5ForConditionalGeneration

from ept.devices import cpu_bfloat16

# T5's vocabulary, padded as in its released checkpoints.
VOCABULARY = 32_128
SHAPES = {
    # 15.6 million parameters: what two CPU cores can train.
    "t5-15m": dict(d_model=256, d_kv=64, d_ff=1024, num_heads=4, num_layers=4, num_decoder_layers=4),
    "t5-small": dict(d_model=512, d_kv=64, d_ff=2048, num_heads=8, num_layers=6, num_decoder_layers=6),
    "t5-base": dict(d_model=768, d_kv=64, d_ff=3072, num_heads=12, num_layers=12, num_decoder_layers=12),
    # For tests.
    "tiny": dict(d_model=16, d_kv=4, d_ff=32, num_heads=4, num_layers=1, num_decoder_layers=1),
}


def device() -> str:
    """The GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def has_bfloat16() -> bool:
    """Whether bfloat16 is fast here: on a GPU, and on a CPU with instructions for it."""
    return device() == "cuda" or cpu_bfloat16() is not None


def make_t5(shape: str, dtype: str = "float32") -> T5ForConditionalGeneration:
    """A T5 of this shape, always with the same weights, without dropout (which only the others would pay for)."""
    torch.manual_seed(0)
    config = T5Config(vocab_size=VOCABULARY, dropout_rate=0.0, decoder_start_token_id=0, **SHAPES[shape])
    return T5ForConditionalGeneration(config).to(device(), getattr(torch, dtype))


def synchronize() -> None:
    """Wait until the GPU has done what was asked of it; a CPU already has."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
