"""The kinds of model that can be backbones. A new kind is one entry here and, where needed, one adapter. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Family:
    """What must be known of a kind of model before it is loaded.

    Attributes:
        loader: "module:function" of (config.json as a dictionary, folder, Form) -> Backbone.
        hidden_size: The key of config.json that holds the size of the embeddings.
        encoder_decoder: Whether one stack reads the text and another writes the label; in a decoder-only model the
            label follows the text (docs/backbones.md).
        defaults: The sizes that a config.json may leave out, as transformers fills them in.
    """

    loader: str
    hidden_size: str
    encoder_decoder: bool
    defaults: Mapping[str, Any]


def _t5(**defaults: Any) -> Family:
    sizes = {"vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8}
    return Family("ept.backbones.encoder_decoder:load_t5", "d_model", True, sizes | defaults)


def _causal(hidden_size_key: str, /, **defaults: Any) -> Family:
    return Family("ept.backbones.decoder_only:load_causal", hidden_size_key, False, defaults)


_QWEN = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
}

FAMILIES: dict[str, Family] = {
    "t5": _t5(),
    "mt5": _t5(vocab_size=250112, d_ff=1024, num_layers=8, num_heads=6, feed_forward_proj="gated-gelu"),
    "llama": _causal(
        "hidden_size",
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
    ),
    "gpt2": _causal("n_embd", vocab_size=50257, n_embd=768, n_layer=12, n_head=12, n_positions=1024),
    "qwen2": _causal("hidden_size", **_QWEN),
    "qwen3": _causal("hidden_size", **_QWEN, head_dim=128),
}
"""By the `model_type` of config.json."""


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a model by its config.json, which `ept.backbones.files.read_config` has checked."""
    return FAMILIES[config["model_type"]]
