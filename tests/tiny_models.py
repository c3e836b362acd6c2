"""Tiny random models of every family, made by transformers itself: T5 of both generations, and decoder-only ones."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

# ---- T5 --------------------------------------------------------------------------------------------------------------

T5_SHAPE = dict(vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_decoder_layers=3, num_heads=4)
VERSIONS: dict[str, dict[str, Any]] = {
    "v1.0": {},
    "v1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
}


def make_t5(version: str = "v1.0", seed: int = 0, std: float | None = 0.4, **sizes: Any) -> T5ForConditionalGeneration:
    """A random T5 in evaluation mode.

    Args:
        version: A generation in `VERSIONS`.
        seed: Seed of its weights.
        std: Standard deviation of the weights; the default is large enough that attention, positions and head all
            matter. None keeps transformers' own start.
        sizes: What differs from `T5_SHAPE`. Both stacks have `num_layers` where it is given alone.
    """
    if "num_layers" in sizes:
        sizes = {"num_decoder_layers": sizes["num_layers"], **sizes}
    torch.manual_seed(seed)
    config = T5Config(**{**T5_SHAPE, **VERSIONS[version], "decoder_start_token_id": 0, **sizes})
    model = T5ForConditionalGeneration(config)
    if version == "v1.1":
        # Transformers ties a fresh model's head even where the configuration says not to.
        model.lm_head.weight = torch.nn.Parameter(0.1 * torch.randn(config.vocab_size, config.d_model))
    for name, parameter in model.named_parameters():
        if std is not None and "layer_norm" not in name:
            torch.nn.init.normal_(parameter, std=std)
    return model.eval()


def t5_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings [3, 7, 16], mask [3, 7] with padding, targets [3, 3] with padding."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(3, 7, dtype=torch.int64)
    mask[1, 4:] = 0
    mask[2, 6:] = 0
    targets = torch.tensor([[3, 4, 1], [5, 1, -100], [1, -100, -100]])
    return torch.randn(3, 7, 16, generator=generator), mask, targets


# ---- Decoder-only models ---------------------------------------------------------------------------------------------

HIDDEN, VOCABULARY, END = 16, 40, 2
_SHAPE = dict(
    vocab_size=VOCABULARY,
    hidden_size=HIDDEN,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    bos_token_id=1,
    eos_token_id=END,
)
_GPT2 = dict(
    vocab_size=VOCABULARY, n_embd=HIDDEN, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=END
)
_MADE = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_SHAPE, tie_word_embeddings=True)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**_GPT2)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**_SHAPE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**_SHAPE, head_dim=4)),
}
FAMILIES = list(_MADE)
# Wide enough for the blocks in which weights are quantized.
_WIDE = dict(vocab_size=96, bos_token_id=1, eos_token_id=END)
_WIDE_LLAMA = dict(
    hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2
)
_MADE_WIDE = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_WIDE, **_WIDE_LLAMA)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**_WIDE, n_embd=128, n_layer=6, n_head=4, n_positions=64)),
}


def make_causal(family: str, seed: int = 0) -> PreTrainedModel:
    """A random model, with weights large enough that attention, positions and head all matter."""
    torch.manual_seed(seed)
    return _with_random_weights(_MADE[family](), std=0.3)


def make_wide_causal(family: str) -> PreTrainedModel:
    """A random Llama or GPT-2 with linear layers of some hundred numbers a side."""
    torch.manual_seed(0)
    return _with_random_weights(_MADE_WIDE[family](), std=0.1)


def _with_random_weights(model: PreTrainedModel, std: float) -> PreTrainedModel:
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=std)
    return model.eval()


def causal_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings [3, 7, 16], mask [3, 7] with padding behind the texts, targets [3, 3] with padding."""
    mask = (torch.arange(7) < torch.tensor([[7], [4], [6]])).long()
    targets = torch.tensor([[3, 4, END], [5, END, -100], [6, 7, END]])
    return torch.randn(3, 7, HIDDEN, generator=torch.Generator().manual_seed(1)), mask, targets


def save_byte_llama(folder: Path) -> LlamaForCausalLM:
    """A random Llama whose pieces are single bytes, saved with its tokenizer as a backbone folder."""
    alphabet = {piece: number for number, piece in enumerate(["<s>", "</s>", *sorted(ByteLevel.alphabet())])}
    tokenizer = Tokenizer(BPE(alphabet, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    torch.manual_seed(0)
    shape = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(alphabet), bos_token_id=0, eos_token_id=1, **shape)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return model
