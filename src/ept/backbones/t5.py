"""T5's blocks for a frozen backbone, with the names of transformers' checkpoints.

transformers' own modules would do. These start a job three seconds sooner (theirs import half of torch), add masks and
position bias once instead of in every layer, and compute cross-attention without keys and values of the whole text.
What they compute is the same (tests compare them).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ept.backbones.t5_config import T5Config

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_new": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
}

NARROW = 32
"""Heads of fewer numbers are too narrow for torch's fused attention in bfloat16 on a CPU."""


@dataclass
class LayerCache:
    """Keys and values of one decoder layer while text is generated, each [rows, heads, length, width].

    `keys` and `values` belong to the pieces written so far, the others to the encoder's output.
    """

    keys: Tensor | None = None
    values: Tensor | None = None
    encoded_keys: Tensor | None = None
    encoded_values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append the keys and values of new pieces; returns those of all pieces so far."""
        if self.keys is not None and self.values is not None:
            keys, values = torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)
        self.keys, self.values = keys, values
        return keys, values

    def select(self, rows: Tensor) -> "LayerCache":
        """The cache of some rows, as copies."""
        return LayerCache(*(None if part is None else part[rows.to(part.device)] for part in vars(self).values()))


class Attention(nn.Module):
    """Attention with `bias` added to its unscaled scores, [rows or 1, heads or 1, queries, keys].

    `dropout` is the rate at which attention weights are dropped.
    """

    dropout = 0.0
    q: nn.Linear
    k: nn.Linear
    v: nn.Linear
    o: nn.Linear
    relative_attention_bias: nn.Embedding

    def __init__(self, config: T5Config, has_relative_attention_bias: bool = False):
        super().__init__()
        self.width = config.d_kv
        inner = config.num_heads * config.d_kv
        self.q, self.k, self.v = (nn.Linear(config.d_model, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, config.d_model, bias=False)
        if has_relative_attention_bias:
            self.relative_attention_bias = _embedding(config.relative_attention_num_buckets, config.num_heads)

    def forward(self, hidden: Tensor, bias: Tensor, cache: LayerCache | None = None) -> Tensor:
        """Attention of `hidden` [rows, length, hidden] to itself and to the pieces in `cache`; of the same shape."""
        keys, values = self._split(self.k(hidden)), self._split(self.v(hidden))
        if cache is not None:
            keys, values = cache.append(keys, values)
        return self._attend(self._split(self.q(hidden)), keys, values, bias)

    def cross(self, hidden: Tensor, encoded: Tensor, bias: Tensor, cache: LayerCache | None = None) -> Tensor:
        """Attention of `hidden` [rows, length, hidden] to `encoded` [rows, positions, hidden]; shaped as `hidden`."""
        if cache is None and hidden.shape[1] < self.width and _plain(self.k) and _plain(self.v):
            return self._cross_without_keys(hidden, encoded, bias)
        if cache is None or cache.encoded_keys is None or cache.encoded_values is None:
            keys, values = self._split(self.k(encoded)), self._split(self.v(encoded))
            if cache is not None:
                cache.encoded_keys, cache.encoded_values = keys, values
        else:
            keys, values = cache.encoded_keys, cache.encoded_values
        return self._attend(self._split(self.q(hidden)), keys, values, bias)

    def _cross_without_keys(self, hidden: Tensor, encoded: Tensor, bias: Tensor) -> Tensor:
        """Cross-attention for few queries, without a product of W_k and W_v with every position of the text.

        q (W_k e) = (q W_k) e, and Σ a (W_v e) = W_v Σ a e.
        """
        rows, length, size = hidden.shape
        queries = self.q(hidden).view(rows, length, -1, self.width)
        heads = queries.shape[2]
        keyed = torch.einsum("rqhw,hwd->rhqd", queries, self.k.weight.view(heads, self.width, size))
        scores = torch.bmm(keyed.reshape(rows, heads * length, size), encoded.transpose(1, 2))
        scores = scores.view(rows, heads, length, -1) + bias
        weights = dropped(scores.float().softmax(-1).to(encoded.dtype), self.dropout)
        mixed = torch.bmm(weights.view(rows, heads * length, -1), encoded).view(rows, heads, length, size)
        return self.o(torch.einsum("rhqd,hwd->rqhw", mixed, self.v.weight.view(heads, self.width, size)).flatten(2))

    def _split(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (-1, self.width)).transpose(1, 2)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        if not fused_is_slow(queries) or self.dropout or bias.requires_grad:
            found = functional.scaled_dot_product_attention(
                queries, keys, values, attn_mask=bias, dropout_p=self.dropout, scale=1.0
            )
        else:
            found = CpuAttention.apply(queries, keys, values, bias)
        return self.o(found.transpose(1, 2).flatten(2))


def fused_is_slow(queries: Tensor) -> bool:
    """Whether `CpuAttention` is faster than torch's fused attention for queries [rows, heads, length, width].

    In bfloat16 on a CPU the fused one does badly in its backward pass, and with narrow heads.
    """
    there = queries.dtype == torch.bfloat16 and queries.device.type == "cpu"
    return there and (torch.is_grad_enabled() or queries.shape[-1] < NARROW)


class CpuAttention(torch.autograd.Function):
    """Attention in bfloat16 on a CPU: softmax(q kᵀ + bias) v for [rows, heads, length, width], without dropout.

    With its backward pass torch's fused attention takes 2.5 times as long there (43 % of a small T5's training step),
    and five times with heads of 64 numbers. As in it, scores and softmax are float32, and the weights are rounded for
    their product with the values.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """The scores are not scaled, as T5's are not."""
        scores = torch.matmul(queries.float(), keys.float().transpose(-1, -2)).add_(bias)
        weights = scores.softmax(-1).to(queries.dtype)
        ctx.save_for_backward(queries, keys, values, weights)
        return torch.matmul(weights, values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """For queries, keys and values; the bias is frozen."""
        queries, keys, values, weights = ctx.saved_tensors
        of_weights = torch.matmul(gradient, values.transpose(-1, -2))
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_keys = torch.matmul(of_scores.transpose(-1, -2), queries)
        return torch.matmul(of_scores, keys), of_keys, torch.matmul(weights.transpose(-1, -2), gradient), None


class FeedForward(nn.Module):
    """wo(act(wi x)), or with a gate wo(act(wi_0 x) ∘ wi_1 x); `dropout` applies to the input of wo."""

    dropout = 0.0
    act: Callable[[Tensor], Tensor]
    wi: nn.Linear
    wi_0: nn.Linear
    wi_1: nn.Linear

    def __init__(self, config: T5Config):
        super().__init__()
        self.act = ACTIVATIONS[config.activation]
        for name in ("wi_0", "wi_1") if config.gated else ("wi",):
            setattr(self, name, nn.Linear(config.d_model, config.d_ff, bias=False))
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map `hidden` [rows, length, hidden] to the same shape."""
        if hasattr(self, "wi_0"):
            return self.wo(dropped(self.act(self.wi_0(hidden)) * self.wi_1(hidden), self.dropout))
        inner = self.wi(hidden)
        # In place, since nothing else needs `inner`; an 8-bit layer returns a view, which must not be changed.
        in_place = self.act is functional.relu and type(self.wi) is nn.Linear
        return self.wo(dropped(functional.relu_(inner) if in_place else self.act(inner), self.dropout))


class Layer(nn.Module):
    """A norm, and the part behind it under the name that checkpoints give it; the block adds the input."""

    SelfAttention: Attention
    EncDecAttention: Attention
    DenseReluDense: FeedForward

    def __init__(self, config: T5Config, name: str, part: nn.Module):
        super().__init__()
        setattr(self, name, part)
        self.layer_norm = Norm(config.d_model, config.layer_norm_epsilon)


class Block(nn.Module):
    """Self-attention, in the decoder cross-attention, and feed-forward; `dropout` applies to what each adds."""

    dropout = 0.0

    def __init__(self, config: T5Config, decoder: bool, has_relative_attention_bias: bool):
        super().__init__()
        layers = [Layer(config, "SelfAttention", Attention(config, has_relative_attention_bias))]
        if decoder:
            layers.append(Layer(config, "EncDecAttention", Attention(config)))
        layers.append(Layer(config, "DenseReluDense", FeedForward(config)))
        self.layer = nn.ModuleList(layers)

    def forward(
        self,
        hidden: Tensor,
        bias: Tensor,
        encoded: Tensor | None = None,
        cross_bias: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """The hidden states behind this block.

        Args:
            hidden: [rows, length, hidden].
            bias: Added to the scores of self-attention, [rows or 1, heads, length, keys].
            encoded: For a decoder's block the encoder's output, [rows, positions, hidden].
            cross_bias: Added to the scores of cross-attention, [rows, 1, 1, positions].
            cache: Keys and values of the pieces before, while text is generated; it takes up the new ones.

        Returns:
            [rows, length, hidden].
        """
        first, last = self._part(0), self._part(-1)
        hidden = hidden + dropped(first.SelfAttention(first.layer_norm(hidden), bias, cache), self.dropout)
        if encoded is not None and cross_bias is not None:
            middle = self._part(1)
            added = middle.EncDecAttention.cross(middle.layer_norm(hidden), encoded, cross_bias, cache)
            hidden = hidden + dropped(added, self.dropout)
        return hidden + dropped(last.DenseReluDense(last.layer_norm(hidden)), self.dropout)

    def _part(self, number: int) -> Layer:
        return cast(Layer, self.layer[number])

    def new_cache(self) -> LayerCache:
        """An empty cache for the generation of a text."""
        return LayerCache()


class Stack(nn.Module):
    """Encoder or decoder; the first block holds the position bias of all.

    `dropout` is the rate for its embeddings and for its output (`EncoderDecoder` applies it).
    """

    dropout = 0.0

    def __init__(self, config: T5Config, decoder: bool):
        super().__init__()
        self.decoder = decoder
        self.max_distance = config.relative_attention_max_distance
        layers = config.num_decoder_layers if decoder else config.num_layers
        self.block = nn.ModuleList(Block(config, decoder, has_relative_attention_bias=i == 0) for i in range(layers))
        self.final_layer_norm = Norm(config.d_model, config.layer_norm_epsilon)

    @property
    def relative_attention_bias(self) -> nn.Embedding:
        """The weights [buckets, heads] of the position bias."""
        return cast(Layer, cast(Block, self.block[0]).layer[0]).SelfAttention.relative_attention_bias

    def position_bias(self, length: int, weights: nn.Embedding | None = None) -> Tensor:
        """[1, heads, length, length]: query position, key position (Raffel et al. 2020, section 2.1).

        `weights` [buckets, heads] take the place of the stack's own.
        """
        embedding = self.relative_attention_bias if weights is None else weights
        places = torch.arange(length, device=embedding.weight.device)
        buckets = position_buckets(
            places[None, :] - places[:, None], embedding.num_embeddings, self.max_distance, both_sides=not self.decoder
        )
        return embedding(buckets).permute(2, 0, 1)[None]


class T5(nn.Module):
    """Encoder, decoder, the shared embeddings, and the head that may be tied to them."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.config = config
        self.shared = _embedding(config.vocab_size, config.d_model)
        self.encoder, self.decoder = Stack(config, decoder=False), Stack(config, decoder=True)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)

    @staticmethod
    def around(model: nn.Module) -> "T5":
        """A T5 that shares all modules with `model`, a T5ForConditionalGeneration of transformers."""
        with torch.device("meta"):
            own = T5(T5Config.of(cast(Any, model).config.to_dict()))
        for name, module in model.named_modules():
            where, _, last = name.rpartition(".")
            if isinstance(module, nn.Linear) or (isinstance(module, nn.Embedding) and last != "embed_tokens"):
                setattr(own.get_submodule(where), last, module)
            elif last in ("layer_norm", "final_layer_norm"):
                setattr(own.get_submodule(name), "weight", module.weight)  # noqa: B010
        return own

    def set_dropout(self, rate: float) -> None:
        """Drop at this rate from the next forward pass on, where transformers' T5 does in training.

        That is: embeddings, attention weights, what attention and feed-forward add, inside feed-forward, and the output
        of both stacks. 0, the start, changes no bit.
        """
        for module in self.modules():
            if isinstance(module, Attention | FeedForward | Block | Stack):
                module.dropout = rate


def dropped(hidden: Tensor, rate: float) -> Tensor:
    """`hidden` with dropout at this rate; at 0 the tensor itself."""
    if not rate:
        return hidden
    if isinstance(hidden, Tensor):
        return functional.dropout(hidden, rate)
    # Hidden states of several streams, which a method carries through the stacks together.
    return hidden.dropped(rate)


def position_buckets(distances: Tensor, buckets: int, max_distance: int, both_sides: bool) -> Tensor:
    """The bucket of each distance between positions.

    Each small distance has a bucket of its own; larger ones share buckets that widen up to `max_distance` (Raffel et
    al. 2020, section 2.1).

    Args:
        distances: Position of the key minus position of the query, integers of any shape.
        buckets: The number of buckets.
        max_distance: The distance from which all share the last bucket.
        both_sides: Whether half of the buckets are for keys to the right; otherwise these count as distance 0.

    Returns:
        Numbers of buckets, shaped as `distances`.
    """
    if both_sides:
        buckets //= 2
        side = (distances > 0).long() * buckets
        distances = distances.abs()
    else:
        side = torch.zeros_like(distances)
        distances = (-distances).clamp(min=0)
    exact = buckets // 2
    growth = (distances.clamp(min=1).float() / exact).log() / math.log(max_distance / exact)
    wide = (exact + (growth * (buckets - exact)).long()).clamp(max=buckets - 1)
    return side + torch.where(distances < exact, distances, wide)


def _plain(module: nn.Module) -> bool:
    """Whether a module is a product with its weight alone: no bias, hook, quantization or low-rank update."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    return type(module) is nn.Linear and module.bias is None and not hooked


def _embedding(rows: int, columns: int) -> nn.Embedding:
    """An embedding with uninitialized weights, which the checkpoint replaces.

    nn.Embedding would draw random ones, for which torch imports its compiler on the device `meta`: seconds.
    """
    return nn.Embedding.from_pretrained(torch.empty(rows, columns), freeze=False)


class Norm(nn.Module):
    """T5's norm: division by the root mean square over the hidden size, times a weight [hidden]."""

    def __init__(self, hidden_size: int, epsilon: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalize `hidden` [..., hidden], computing in float32; the result has the weight's dtype."""
        if hidden.dtype == self.weight.dtype and not self.weight.requires_grad:
            return FrozenNorm.apply(hidden, self.weight, self.epsilon)
        scale = torch.rsqrt(hidden.float().square().mean(-1, keepdim=True) + self.epsilon)
        return (hidden * scale).to(self.weight.dtype) * self.weight


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.element_size() >= 4 else tensor.float()


class FrozenNorm(torch.autograd.Function):
    """The norm with a frozen weight, and its gradient written out; both are computed in float32 or finer.

    On a CPU it takes half of the time of automatic differentiation, which saves 1 to 4 % of a training step in float32
    and more in bfloat16.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Hidden * scale * weight, scale = 1 / sqrt(mean(hidden²) + epsilon)."""
        exact = _at_least_float32(hidden)
        scale = torch.rsqrt(torch.linalg.vecdot(exact, exact).unsqueeze(-1) / hidden.shape[-1] + epsilon)
        ctx.save_for_backward(hidden, weight, scale)
        return (exact * scale).to(hidden.dtype) * weight

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Scale * (g - hidden * scale² * mean(g * hidden)) with g = gradient * weight."""
        hidden, weight, scale = ctx.saved_tensors
        exact, weighted = _at_least_float32(hidden), _at_least_float32(gradient * weight)
        mean = torch.linalg.vecdot(weighted, exact).unsqueeze(-1) / hidden.shape[-1]
        found = torch.addcmul(weighted, exact, mean * scale.square(), value=-1).mul_(scale)
        return found.to(hidden.dtype), None, None
