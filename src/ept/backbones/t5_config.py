"""What config.json says of a T5."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ept.backbones.families import FAMILIES

ACTIVATION_NAMES = ("relu", "gelu", "gelu_new", "silu")


@dataclass(frozen=True)
class T5Config:
    """What config.json says of a T5 or mT5; the defaults are those of transformers' T5Config."""

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_decoder_layers: int = 6
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "relu"
    tie_word_embeddings: bool = True
    scale_decoder_outputs: bool = True
    """Whether the decoder's output is scaled before the head; where a file leaves it out: if the head is tied (T5
    v1.0)."""
    pad_token_id: int = 0
    eos_token_id: int = 1
    decoder_start_token_id: int = 0
    """What decoding starts with; where a file leaves it out: the padding token."""

    @staticmethod
    def of(values: Mapping[str, Any]) -> "T5Config":
        """From the values of a config.json. Raises ValueError for an impossible size or token."""
        if values.get("model_type") == "mt5":
            # mT5 never scales; its head is its own where the file has one (transformers reads it so too).
            values = {
                **FAMILIES["mt5"].defaults,
                **values,
                "scale_decoder_outputs": False,
                "tie_word_embeddings": True,
            }
        known = {name: values[name] for name in T5Config.__dataclass_fields__ if values.get(name) is not None}
        known.setdefault("num_decoder_layers", known.get("num_layers", T5Config.num_layers))
        known.setdefault("scale_decoder_outputs", known.get("tie_word_embeddings", True))
        known.setdefault("decoder_start_token_id", known.get("pad_token_id", 0))
        for name, value in known.items():
            _check(name, value, like=getattr(T5Config, name))
        config = T5Config(**known)
        if config.activation not in ACTIVATION_NAMES:
            raise ValueError(f"feed_forward_proj is {config.feed_forward_proj!r}")
        for name in ("pad_token_id", "eos_token_id", "decoder_start_token_id"):
            if getattr(config, name) >= config.vocab_size:
                raise ValueError(f"{name} is {getattr(config, name)}, but vocab_size is {config.vocab_size}")
        if config.relative_attention_max_distance <= config.relative_attention_num_buckets // 2:
            raise ValueError(
                f"relative_attention_max_distance is {config.relative_attention_max_distance}; it must exceed half of "
                "relative_attention_num_buckets"
            )
        return config

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layer has a gate (T5 v1.1)."""
        return str(self.feed_forward_proj).startswith("gated-")

    @property
    def activation(self) -> str:
        """The activation's name; gated-gelu means the tanh form."""
        name = str(self.feed_forward_proj).removeprefix("gated-")
        return "gelu_new" if self.gated and name == "gelu" else name


def _check(name: str, value: Any, like: Any) -> None:
    """Raise ValueError unless a value of config.json is of the kind that its default is of, and in range."""
    if isinstance(like, bool):
        fits = isinstance(value, bool)
    elif isinstance(like, str):
        fits = isinstance(value, str)
    else:
        least = {"relative_attention_num_buckets": 4}.get(name, 0 if name.endswith("_token_id") else 1e-12)
        kinds = (int, float) if isinstance(like, float) else (int,)
        fits = isinstance(value, kinds) and not isinstance(value, bool) and least <= value < math.inf
    if not fits:
        raise ValueError(f"{name} is {value!r}")
