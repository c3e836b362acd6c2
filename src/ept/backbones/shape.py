"""Sizes of a backbone by its config.json, and what follows from them: parameters, operations, kept activations."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from ept.backbones.families import FAMILIES

# Bytes of a quantized weight: nf4 has 4 bits, an 8-bit scale for 64 weights and a float32 for 256 of these scales
# (double quantization, Dettmers et al. 2023, section 3); int8 a float32 for each row, which is next to nothing.
QUANTIZED_BYTES = {"nf4": 0.5 + 1 / 64 + 4 / (64 * 256), "int8": 1.0}
BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer.

    Attributes:
        hidden_size: Size of the embeddings.
        inner: Heads x head size of the queries.
        key_inner: The same of keys and values, smaller where heads share them.
        heads: Number of heads of an attention.
        feed_forward: Size between the matrices of a feed-forward layer.
        matrices: Matrices of a feed-forward layer, 3 where it is gated.
        encoder_layers: Layers of the encoder; 0 for a decoder-only model.
        decoder_layers: Layers of the decoder.
        vocabulary: Rows of the embeddings.
        tied: Whether the head is the embeddings.
        small: Parameters of norms, biases and positions together.
    """

    hidden_size: int
    inner: int
    key_inner: int
    heads: int
    feed_forward: int
    matrices: int
    encoder_layers: int
    decoder_layers: int
    vocabulary: int
    tied: bool
    small: int

    @property
    def layers(self) -> int:
        """The number of layers of both stacks."""
        return self.encoder_layers + self.decoder_layers

    @property
    def attentions(self) -> int:
        """The number of attentions in all layers, cross-attentions included."""
        return self.encoder_layers + self.decoder_layers * (2 if self.encoder_layers else 1)

    def norms(self, dropped: int = 0) -> int:
        """The number of norms: of all layers but the `dropped` lowest of each stack, and behind each stack."""
        encoder, decoder = max(0, self.encoder_layers - dropped), max(0, self.decoder_layers - dropped)
        return 2 * encoder + (3 if self.encoder_layers else 2) * decoder + (2 if self.encoder_layers else 1)

    @property
    def _attention(self) -> int:
        """The number of weights in one attention."""
        return 2 * self.hidden_size * (self.inner + self.key_inner)

    @property
    def _feed_forward(self) -> int:
        return self.matrices * self.hidden_size * self.feed_forward

    @property
    def linear_parameters(self) -> int:
        """The number of weights in the blocks' linear layers, which quantization shrinks."""
        return self.attentions * self._attention + self.layers * self._feed_forward

    @property
    def parameters(self) -> int:
        """The number of all parameters; a tied head counts once."""
        return self.linear_parameters + (1 if self.tied else 2) * self.vocabulary * self.hidden_size + self.small

    def weight_bytes(self, dtype: str, quantization: str = "none") -> int:
        """Bytes of the frozen weights in `dtype`, with `quantization` of the linear layers (none, nf4 or int8)."""
        linear = QUANTIZED_BYTES.get(quantization, BYTES[dtype])
        return round(self.linear_parameters * linear + (self.parameters - self.linear_parameters) * BYTES[dtype])

    def training_flops(self, rows: int, positions: int, target_length: int, target_pieces: int) -> int:
        """Multiplications and additions in the matrix products of a forward and backward pass over the frozen model.

        A frozen matrix costs one product forward and one backward; a product of two activations, inside attention,
        costs two backward. What a prompt method trains is left out: its products are thousands of times smaller.

        Args:
            rows: Rows of the batch.
            positions: Input positions of a row, prompt and padding included.
            target_length: Label positions of a row; fewer than a head is wide, since an encoder-decoder's
                cross-attention then makes no keys and values (`ept.backbones.t5`).
            target_pieces: Label pieces of all rows, at each of which the output head is computed.
        """
        frozen, attention, unneeded = self._products(rows, positions, target_length)
        frozen += target_pieces * self.hidden_size * self.vocabulary
        return 2 * (2 * frozen + 3 * attention - unneeded)

    def prediction_flops(self, rows: int, positions: int, target_length: int) -> int:
        """Multiplications and additions of a forward pass, with the output head at every label position."""
        frozen, attention, _ = self._products(rows, positions, target_length)
        return 2 * (frozen + rows * target_length * self.hidden_size * self.vocabulary + attention)

    def _products(self, rows: int, positions: int, target_length: int) -> tuple[int, int, int]:
        """Multiplications in products with weights, in products of activations, and in those that need no gradient."""
        if not self.encoder_layers:
            length = positions + target_length
            block = self._attention + self._feed_forward
            return self.decoder_layers * rows * length * block, self.decoder_layers * self._scores(rows, length), 0
        decoder_rows = rows * target_length
        frozen = self.encoder_layers * rows * positions * (self._attention + self._feed_forward)
        frozen += self.decoder_layers * decoder_rows * (2 * self._attention + self._feed_forward)
        within = self._scores(rows, target_length)
        across = 2 * self.heads * self.hidden_size * decoder_rows * positions
        attention = self.encoder_layers * self._scores(rows, positions) + self.decoder_layers * (within + across)
        # Nothing before the decoder's first cross-attention is trained: its self-attention, and the queries that
        # cross-attention takes from it, have no gradient.
        unneeded = decoder_rows * 6 * self.hidden_size * self.inner + 2 * within + across // 2
        return frozen, attention, unneeded

    def _scores(self, rows: int, length: int) -> int:
        return 2 * self.inner * rows * length**2

    def kept_bytes(self, dtype: str) -> int:
        """Bytes that one layer keeps of one position for its backward pass.

        They are the inputs of both norms (in bfloat16 a float32 copy too, except of a T5), queries, keys, values and
        their mixture, and what is between the matrices of the feed-forward layer.
        """
        between = 3 if self.matrices == 3 else 1
        numbers = 2 * self.hidden_size + 2 * (self.inner + self.key_inner) + between * self.feed_forward
        copies = 2 * self.hidden_size * BYTES["float32"] if dtype == "bfloat16" and not self.encoder_layers else 0
        return numbers * BYTES[dtype] + copies


def shape_of(config: Mapping[str, Any]) -> Shape | None:
    """The sizes that a config.json describes, defaults included; None for an unsupported kind of model."""
    kind = config.get("model_type", "")
    return _READERS[kind]({**FAMILIES[kind].defaults, **config}) if kind in _READERS else None


@cache
def known_configs() -> dict[str, dict[str, Any]]:
    """The config.json of well-known Hub repositories, whose cost can be estimated without a download."""
    return json.loads(files("ept.backbones").joinpath("known_configs.json").read_text(encoding="utf-8"))


def _t5(config: Mapping[str, Any]) -> Shape:
    hidden, heads, layers = config["d_model"], config["num_heads"], config["num_layers"]
    decoder_layers = config.get("num_decoder_layers") or layers
    buckets = config.get("relative_attention_num_buckets", 32)
    norms = 2 * layers + 3 * decoder_layers + 2
    # transformers writes tie_word_embeddings true for T5 v1.1 too, whose head is its own and whose outputs are not
    # scaled; mT5's likewise.
    scaled = config.get("scale_decoder_outputs", config["model_type"] != "mt5")
    inner = heads * config["d_kv"]
    return Shape(
        hidden_size=hidden,
        inner=inner,
        key_inner=inner,
        heads=heads,
        feed_forward=config["d_ff"],
        matrices=3 if str(config.get("feed_forward_proj", "relu")).startswith("gated-") else 2,
        encoder_layers=layers,
        decoder_layers=decoder_layers,
        vocabulary=config["vocab_size"],
        tied=config.get("tie_word_embeddings", True) and scaled,
        small=norms * hidden + 2 * buckets * heads,
    )


def _llama(config: Mapping[str, Any]) -> Shape:
    hidden, heads, layers = config["hidden_size"], config["num_attention_heads"], config["num_hidden_layers"]
    width = config.get("head_dim") or hidden // heads
    inner, key_inner = heads * width, (config.get("num_key_value_heads") or heads) * width
    small = (2 * layers + 1) * hidden
    if config["model_type"] == "qwen2":
        small += layers * (inner + 2 * key_inner)
    if config["model_type"] == "qwen3":
        small += layers * 2 * width
    return Shape(
        hidden_size=hidden,
        inner=inner,
        key_inner=key_inner,
        heads=heads,
        feed_forward=config["intermediate_size"],
        matrices=3,
        encoder_layers=0,
        decoder_layers=layers,
        vocabulary=config["vocab_size"],
        tied=config.get("tie_word_embeddings", False),
        small=small,
    )


def _gpt2(config: Mapping[str, Any]) -> Shape:
    hidden, layers = config["n_embd"], config["n_layer"]
    feed_forward = config.get("n_inner") or 4 * hidden
    return Shape(
        hidden_size=hidden,
        inner=hidden,
        key_inner=hidden,
        heads=config["n_head"],
        feed_forward=feed_forward,
        matrices=2,
        encoder_layers=0,
        decoder_layers=layers,
        vocabulary=config["vocab_size"],
        tied=config.get("tie_word_embeddings", True),
        small=config["n_positions"] * hidden + layers * (9 * hidden + feed_forward) + 2 * hidden,
    )


_READERS = {"t5": _t5, "mt5": _t5, "llama": _llama, "qwen2": _llama, "qwen3": _llama, "gpt2": _gpt2}
