"""Tiny random decoder-only models of each family, made by transformers itself."""

from pathlib import Path

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
)

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
