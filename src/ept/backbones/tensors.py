"""The tensors in a backbone's safetensors files against those that config.json describes, from the headers alone.

A checkpoint that is already quantized, or of another size than config.json says, has tensors of the right names: read
by name they would give a model that computes something else. No torch, and no weight is read.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ept.backbones.families import family_of
from ept.backbones.t5_config import T5Config
from ept.errors import InputError, listed, reason_of

Shape = tuple[int, ...]
# Bytes that safetensors itself allows.
HEADER_LIMIT = 100_000_000
# Bits by the names of safetensors.
FLOATS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}
# The endings of what quantized checkpoints hold in addition, and what writes it.
QUANTIZED = {
    "bitsandbytes in 8 bit": r"\.(SCB|weight_format)$",
    "bitsandbytes in 4 bit": r"\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..*)$",
    "GPTQ or AWQ": r"\.(qweight|qzeros|scales|g_idx)$",
    "a float8 format": r"(\.|_)(weight_scale|weight_scale_inv|input_scale|scale_weight|scale_input)$",
    "compressed-tensors": r"\.(weight_packed|weight_shape|weight_zero_point|weight_g_idx)$",
}
# What published checkpoints hold in addition and no model reads: masks, rotary frequencies, and a bias that T5 v1.0
# was published with.
UNREAD = re.compile(
    r"(\.|^)(attn\.(bias|masked_bias)|rotary_emb\.inv_freq|position_ids)$"
    r"|^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$"
)
INSTEAD = "take the unquantized model, and set backbone.quantization to load it in 4 or 8 bit"


class Stored(NamedTuple):
    """A tensor as the header of a safetensors file describes it."""

    dtype: str
    shape: Shape


def stored_tensors(paths: list[Path]) -> dict[str, Stored]:
    """The tensors of safetensors files by name. Raises InputError for a file that is not a whole safetensors file."""
    return {name: tensor for path in paths for name, tensor in _header(path).items()}


def _header(path: Path) -> dict[str, Stored]:
    """The header is JSON whose length the first 8 bytes give; offsets in it count from its end."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = path.stat().st_size
            if not 2 <= length <= min(HEADER_LIMIT, size - 8):
                raise ValueError("its header is incomplete")
            values = json.loads(file.read(length))
        values.pop("__metadata__", None)
        found = {name: Stored(value["dtype"], tuple(value["shape"])) for name, value in values.items()}
        end = max((value["data_offsets"][1] for value in values.values()), default=0)
        if 8 + length + end != size:
            raise ValueError(f"it has {size} bytes, its header describes {8 + length + end}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise InputError(f"{path} is not a complete safetensors file ({reason_of(error)}); fetch it again") from error
    return found


def check_tensors(folder: Path, config: Mapping[str, Any], stored: Mapping[str, Stored]) -> None:
    """Raise InputError unless the stored tensors are those of the model that config.json describes.

    Args:
        folder: The backbone's folder, for messages.
        config: Its config.json, as `ept.backbones.files.read_config` returns it.
        stored: The tensors of its safetensors files, from `stored_tensors`.

    Raises:
        InputError: For a quantized checkpoint, weights that are not floating-point numbers, another number of layers,
            and missing, additional or differently shaped tensors.
    """
    where = folder / "config.json"
    _refuse_quantized(folder, stored)
    stored = {name: tensor for name, tensor in stored.items() if not UNREAD.search(name)}
    for name, tensor in stored.items():
        if tensor.dtype not in FLOATS:
            raise InputError(
                f"{folder}: {name} holds {tensor.dtype} numbers, but weights are floating-point numbers of 16 to 64 "
                "bits; take a checkpoint in float32 or bfloat16"
            )
    try:
        needed, optional = (_t5_tensors if family_of(config).encoder_decoder else _causal_tensors)(config, stored)
    except ValueError as error:
        raise InputError(
            f"{where} does not describe a {config['model_type']} model ({error}); fetch it again"
        ) from error
    mismatch = "config.json and the safetensors files belong to different models"
    if missing := [name for name in needed if name not in stored]:
        raise InputError(f"{folder}: no tensor {listed(missing)} in its safetensors files; fetch the backbone again")
    if unknown := sorted(stored.keys() - needed.keys() - optional.keys()):
        raise InputError(
            f"{folder} holds tensors that the model of config.json does not have ({listed(unknown)}); {mismatch}"
        )
    for name, tensor in stored.items():
        shape = needed.get(name) or optional[name]
        if tensor.shape != shape:
            raise InputError(
                f"{folder}: {name} has the shape {list(tensor.shape)}, config.json says {list(shape)}; {mismatch}"
            )


def _refuse_quantized(folder: Path, stored: Mapping[str, Stored]) -> None:
    for kind, ending in QUANTIZED.items():
        if found := [name for name in stored if re.search(ending, name)]:
            raise InputError(
                f"{folder}: the checkpoint is already quantized by {kind} ({listed(found[:2])}); {INSTEAD}"
            )
    if eight := [name for name, tensor in stored.items() if tensor.dtype.startswith("F8")]:
        raise InputError(f"{folder}: the checkpoint is already quantized to float8 ({listed(eight)}); {INSTEAD}")


def _check_layers(stored: Mapping[str, Stored], pattern: str, key: str, layers: int) -> None:
    """Compare the number of layers first, so that time and memory are bounded by the files' headers."""
    found = 1 + max((int(match[1]) for name in stored if (match := re.search(pattern, name))), default=-1)
    if found != layers:
        raise ValueError(f"{key} is {layers}, the safetensors files hold {found} layers")


def _t5_tensors(config: Mapping[str, Any], stored: Mapping[str, Stored]) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Names and shapes of the tensors that a T5 needs, and of those that it may have."""
    t5 = T5Config.of(config)
    _check_layers(stored, r"^encoder\.block\.(\d{1,9})\.", "num_layers", t5.num_layers)
    _check_layers(stored, r"^decoder\.block\.(\d{1,9})\.", "num_decoder_layers", t5.num_decoder_layers)
    size, inner, table = (t5.d_model,), t5.num_heads * t5.d_kv, (t5.vocab_size, t5.d_model)

    def attention(name: str) -> Iterator[tuple[str, Shape]]:
        yield from ((f"{name}.{part}.weight", (inner, t5.d_model)) for part in "qkv")
        yield f"{name}.o.weight", (t5.d_model, inner)

    def stack(name: str, layers: int) -> Iterator[tuple[str, Shape]]:
        yield f"{name}.final_layer_norm.weight", size
        buckets = (t5.relative_attention_num_buckets, t5.num_heads)
        yield f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", buckets
        for number in range(layers):
            parts = [f"{name}.block.{number}.layer.{part}" for part in range(2 if name == "encoder" else 3)]
            yield from attention(f"{parts[0]}.SelfAttention")
            if name == "decoder":
                yield from attention(f"{parts[1]}.EncDecAttention")
            for inward in ("wi_0", "wi_1") if t5.gated else ("wi",):
                yield f"{parts[-1]}.DenseReluDense.{inward}.weight", (t5.d_ff, t5.d_model)
            yield f"{parts[-1]}.DenseReluDense.wo.weight", (t5.d_model, t5.d_ff)
            yield from ((f"{part}.layer_norm.weight", size) for part in parts)

    needed = dict([*stack("encoder", t5.num_layers), *stack("decoder", t5.num_decoder_layers)])
    names = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    # The embeddings stand under one or more of these names.
    needed[next((name for name in names if name in stored), names[0])] = table
    if not t5.tie_word_embeddings:
        needed["lm_head.weight"] = table
    return needed, dict.fromkeys(names, table)


def _causal_tensors(
    config: Mapping[str, Any], stored: Mapping[str, Stored]
) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """The same of a decoder-only model; the names of its body have a prefix where it was saved with its head."""
    gpt2 = config["model_type"] == "gpt2"
    prefix = "transformer." if gpt2 else "model."
    prefix = prefix if any(name.startswith(prefix) for name in stored) else ""
    body = (_gpt2_tensors if gpt2 else _llama_tensors)(config, stored)
    needed = {prefix + name: shape for name, shape in body.items()}
    head = {"lm_head.weight": body["wte.weight" if gpt2 else "embed_tokens.weight"]}
    return (needed, head) if config.get("tie_word_embeddings", gpt2) else (needed | head, {})


def _llama_tensors(config: Mapping[str, Any], stored: Mapping[str, Stored]) -> dict[str, Shape]:
    """The body of Llama, Qwen2 and Qwen3."""
    hidden, heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    layers, feed_forward = _size(config, "num_hidden_layers"), _size(config, "intermediate_size")
    width = hidden // heads if config.get("head_dim") is None else _size(config, "head_dim")
    pairs = heads if config.get("num_key_value_heads") is None else _size(config, "num_key_value_heads")
    _check_layers(stored, r"^(?:model\.)?layers\.(\d{1,9})\.", "num_hidden_layers", layers)
    _check_tokens(config)
    biased = config["model_type"] == "qwen2" or bool(config.get("attention_bias"))
    needed = {"embed_tokens.weight": (_size(config, "vocab_size"), hidden), "norm.weight": (hidden,)}
    for number in range(layers):
        layer = f"layers.{number}"
        for name, rows in {"q": heads * width, "k": pairs * width, "v": pairs * width}.items():
            needed[f"{layer}.self_attn.{name}_proj.weight"] = (rows, hidden)
            if biased:
                needed[f"{layer}.self_attn.{name}_proj.bias"] = (rows,)
        needed[f"{layer}.self_attn.o_proj.weight"] = (hidden, heads * width)
        if config.get("attention_bias") and config["model_type"] != "qwen2":
            needed[f"{layer}.self_attn.o_proj.bias"] = (hidden,)
        if config["model_type"] == "qwen3":
            needed |= {f"{layer}.self_attn.{name}_norm.weight": (width,) for name in "qk"}
        for name, shape in {
            "gate": (feed_forward, hidden),
            "up": (feed_forward, hidden),
            "down": (hidden, feed_forward),
        }.items():
            needed[f"{layer}.mlp.{name}_proj.weight"] = shape
            if config.get("mlp_bias") and config["model_type"] == "llama":
                needed[f"{layer}.mlp.{name}_proj.bias"] = shape[:1]
        needed |= {f"{layer}.{name}_layernorm.weight": (hidden,) for name in ("input", "post_attention")}
    return needed


def _gpt2_tensors(config: Mapping[str, Any], stored: Mapping[str, Stored]) -> dict[str, Shape]:
    """The body of GPT-2, whose linear layers hold [inputs, outputs]."""
    hidden, layers = _size(config, "n_embd"), _size(config, "n_layer")
    feed_forward = 4 * hidden if config.get("n_inner") is None else _size(config, "n_inner")
    _check_layers(stored, r"^(?:transformer\.)?h\.(\d{1,9})\.", "n_layer", layers)
    _check_tokens(config)
    needed: dict[str, Shape] = {
        "wte.weight": (_size(config, "vocab_size"), hidden),
        "wpe.weight": (_size(config, "n_positions"), hidden),
    }
    norms = ["ln_f"]
    for number in range(layers):
        layer = f"h.{number}"
        norms += [f"{layer}.ln_1", f"{layer}.ln_2"]
        for name, shape in {
            "attn.c_attn": (hidden, 3 * hidden),
            "attn.c_proj": (hidden, hidden),
            "mlp.c_fc": (hidden, feed_forward),
            "mlp.c_proj": (feed_forward, hidden),
        }.items():
            needed |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[1:]}
    return needed | {f"{name}.{part}": (hidden,) for name in norms for part in ("weight", "bias")}


def _size(config: Mapping[str, Any], key: str) -> int:
    """A size of config.json. Raises ValueError unless it is a whole number above 0."""
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key} is {value!r}")
    return value


def _check_tokens(config: Mapping[str, Any]) -> None:
    """Raise ValueError for special tokens beyond the vocabulary; a chat model has several that end a text."""
    for key in ("eos_token_id", "pad_token_id"):
        value = config.get(key)
        # Llama was published with the padding token -1, which means none.
        least = -1 if key == "pad_token_id" else 0
        for token in (value or [value]) if isinstance(value, list) else [value]:
            whole = isinstance(token, int) and not isinstance(token, bool)
            if token is not None and not (whole and least <= token < config["vocab_size"]):
                raise ValueError(f"{key} is {token!r}, but vocab_size is {config['vocab_size']}")
