"""LST, ladder side-tuning (Sung et al. 2022): a small network next to the backbone that reads its activations."""

from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ept.backbones.encoder_decoder import PositionBias
from ept.backbones.quantize import weight_of
from ept.backbones.t5 import T5, Attention, Block, FeedForward, LayerCache, Norm, Stack
from ept.backbones.t5_config import T5Config
from ept.errors import InputError
from ept.methods.weights import WeightModule

GATE_TEMPERATURE = 0.1
SIZES = ("d_model", "d_kv", "d_ff")


@dataclass(frozen=True)
class Streams:
    """The backbone's hidden states, without gradients, and those of the side network.

    `backbone` is [rows, length, hidden], `side` [rows, length, side].
    """

    backbone: Tensor
    side: Tensor

    def __getitem__(self, rows: Tensor) -> "Streams":
        return Streams(self.backbone[rows], self.side[rows])

    def dropped(self, rate: float) -> "Streams":
        """Both with dropout at this rate."""
        return Streams(functional.dropout(self.backbone, rate), functional.dropout(self.side, rate))


@dataclass(frozen=True)
class LadderCache:
    """The caches of a decoder's block and of its side layer."""

    backbone: LayerCache = field(default_factory=LayerCache)
    side: LayerCache = field(default_factory=LayerCache)

    def select(self, rows: Tensor) -> "LadderCache":
        """Of some rows, as copies."""
        return LadderCache(self.backbone.select(rows), self.side.select(rows))


class Entry(nn.Module):
    """Stands before a stack's first block: embeddings [rows, length, hidden] become both streams."""

    def __init__(self, hidden_size: int, side_size: int):
        super().__init__()
        self.down = _linear(hidden_size, side_size)

    def forward(self, embeddings: Tensor) -> Streams:
        """Both streams; no gradient reaches the embeddings."""
        embeddings = embeddings.detach()
        return Streams(embeddings, self.down(embeddings.float()))


class Rung(nn.Module):
    """One layer of the ladder: s <- side(g s + (1 - g) W h), with h the backbone layer's output [known].

    g = sigmoid(gate / 0.1), and the gate starts at 0.
    """

    def __init__(self, side: Block, hidden_size: int, side_size: int):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(1))
        self.down = _linear(hidden_size, side_size)
        self.side = side

    def forward(
        self,
        side: Tensor,
        hidden: Tensor,
        bias: Tensor,
        encoded: Tensor | None,
        cross_bias: Tensor | None,
        cache: LayerCache | None,
    ) -> Tensor:
        """[rows, length, side] from the same below and the backbone's `hidden`; `encoded` is the side encoder's."""
        gate = torch.sigmoid(self.gate / GATE_TEMPERATURE)
        mixed = gate * side + (1 - gate) * self.down(hidden.float())
        cross_bias = None if cross_bias is None else cross_bias.float()
        return self.side(mixed, bias, encoded, cross_bias, cache)


class LadderBlock(nn.Module):
    """In the place of a block: the backbone's block without a graph, then its rung, if it has one.

    The position bias that it gets is a `LadderBias`: the backbone's heads, then those of the side layers.
    """

    def __init__(self, block: Block, entry: Entry | None, rung: Rung | None):
        super().__init__()
        self.block, self.entry, self.rung = block, entry, rung

    @property
    def layer(self) -> nn.ModuleList:
        """The layers of the backbone's block."""
        return self.block.layer

    def forward(
        self,
        hidden: Any,
        bias: Tensor,
        encoded: Streams | None = None,
        cross_bias: Tensor | None = None,
        cache: LadderCache | None = None,
    ) -> Streams:
        """As `Block.forward`, for both streams; the first block of a stack gets embeddings, the others `Streams`."""
        streams: Streams = hidden if self.entry is None else self.entry(hidden)
        below = (None, None) if encoded is None else (encoded.backbone, encoded.side)
        caches = (None, None) if cache is None else (cache.backbone, cache.side)
        own, side = bias.chunk(2, 1)
        with torch.no_grad():
            backbone = self.block(streams.backbone, own.to(streams.backbone.dtype), below[0], cross_bias, caches[0])
        if self.rung is None:
            return Streams(backbone, streams.side)
        return Streams(backbone, self.rung(streams.side, backbone, side, below[1], cross_bias, caches[1]))

    def new_cache(self) -> LadderCache:
        """For the generation of a text."""
        return LadderCache()


class LadderBias:
    """In the place of a stack's `PositionBias`: the backbone's heads, then those of the side layers."""

    def __init__(self, backbone: PositionBias, stack: Stack, side: nn.Embedding):
        self.backbone, self.stack, self.side = backbone, stack, side

    def square(self, length: int) -> Tensor:
        """[1, 2 * heads, length, length]: query position, key position; float32."""
        own = self.stack.position_bias(length, self.side)
        return torch.cat([self.backbone.square(length).to(own), own], 1)


class EncoderEnd(nn.Module):
    """In the place of the encoder's final norm: both streams, each normed."""

    def __init__(self, norm: Norm, side_norm: Norm):
        super().__init__()
        self.norm, self.side_norm = norm, side_norm

    def forward(self, streams: Streams) -> Streams:
        """What the decoder attends to."""
        with torch.no_grad():
            backbone = self.norm(streams.backbone)
        return Streams(backbone, self.side_norm(streams.side))


class DecoderEnd(nn.Module):
    """In the place of the decoder's final norm: the side stream alone, normed and mapped to the hidden size [known].

    The result goes to the backbone's frozen lm_head.
    """

    def __init__(self, side_norm: Norm, hidden_size: int, side_size: int):
        super().__init__()
        self.side_norm = side_norm
        self.up = _linear(side_size, hidden_size)

    def forward(self, streams: Streams) -> Tensor:
        """[rows, length, hidden] for lm_head, in its dtype."""
        return self.up(self.side_norm(streams.side)).to(streams.backbone.dtype)


class LadderSideTuning(WeightModule):
    """A side network whose sizes are the backbone's divided by `lst_reduction` [known].

    [known] With `lst_skip_every` 4 layers 1-3, 5-7 and 9-11 of T5-base have a side layer. The side layers of a stack
    have a position bias of their own, which starts as the backbone's and is trained. [ours] Which of the backbone's
    weights the side layers start with: see `kept_hidden_units`.
    """

    def attach(self, model: nn.Module) -> None:
        """Replace blocks and final norms of both stacks by modules that carry two streams."""
        assert isinstance(model, T5)  # noqa: S101 (the record says that the method needs an encoder-decoder)
        self._check(model)
        kept = kept_hidden_units(model.shared.weight, self.settings.lst_reduction)
        for stack in (model.encoder, model.decoder):
            block: Any
            for index, block in enumerate(stack.block):
                rung = self._rung(model.config, stack.decoder, block, kept) if self._has_rung(index) else None
                entry = Entry(self.hidden_size, len(kept)) if index == 0 else None
                self._replace(stack.block, str(index), LadderBlock(block, entry, rung))
            norm = prune_norm(stack.final_layer_norm, kept)
            end: nn.Module
            if stack is model.encoder:
                end = EncoderEnd(stack.final_layer_norm, norm)
            else:
                end = DecoderEnd(norm, self.hidden_size, len(kept))
            self._replace(stack, "final_layer_norm", end)
        self._widen_biases(model)

    def _has_rung(self, index: int) -> bool:
        every = self.settings.lst_skip_every
        return every == 0 or index % every != 0

    def _rung(self, config: T5Config, decoder: bool, block: Block, kept: Tensor) -> Rung:
        sizes = {name: getattr(config, name) // self.settings.lst_reduction for name in SIZES}
        side = Block(replace(config, **sizes), decoder, has_relative_attention_bias=False)
        prune_block(block, side, kept)
        return Rung(side, self.hidden_size, len(kept))

    def _widen_biases(self, model: T5) -> None:
        """Give the first side layer of each stack a position bias, and let the backbone pass it on with its own."""
        for stack, name in ((model.encoder, "_encoder_bias"), (model.decoder, "_decoder_bias")):
            blocks: Any = stack.block
            first = next(block.rung.side for block in blocks if block.rung is not None)
            weights = stack.relative_attention_bias.weight.detach().to(self.backbone.device, torch.float32, copy=True)
            attention = first.layer[0].SelfAttention
            attention.relative_attention_bias = nn.Embedding.from_pretrained(weights, freeze=False).eval()
            own = getattr(self.backbone, name)
            setattr(self.backbone, name, LadderBias(own, stack, attention.relative_attention_bias))
            self.undo(partial(setattr, self.backbone, name, own))

    def _replace(self, parent: nn.Module, name: str, replacement: nn.Module) -> None:
        original = getattr(parent, name)
        replacement.eval()
        for part in replacement.children():
            if part is not original:
                part.to(self.backbone.device, torch.float32)
        setattr(parent, name, replacement)
        self.undo(lambda: setattr(parent, name, original))

    def _check(self, model: T5) -> None:
        reduction, config = self.settings.lst_reduction, model.config
        for name in SIZES:
            if getattr(config, name) < reduction:
                raise InputError(
                    f"baselines.lst_reduction is {reduction}, but the backbone's {name} is {getattr(config, name)}; "
                    "choose at most that"
                )
        for stack in (model.encoder, model.decoder):
            if not any(self._has_rung(index) for index in range(len(stack.block))):
                raise InputError(
                    f"baselines.lst_skip_every {self.settings.lst_skip_every} leaves no side layer in a stack of "
                    f"{len(stack.block)} layer; use 0"
                )


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """[known, released code] Weights from N(0, 0.01²), bias zero."""
    linear = nn.Linear(inputs, outputs)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    return linear


def kept_hidden_units(embedding: Tensor, reduction: int) -> Tensor:
    """The hidden units of the side network, [hidden // reduction]: those largest in `embedding` [vocab, hidden].

    [known] Sung et al. 2022 start the side network from structurally pruned weights. [ours] Units are chosen by the L1
    norms of the weights, where their code uses Fisher information, which needs training data; and every head keeps the
    same share of its units.
    """
    return _largest(_size(embedding, 0)[None], embedding.shape[1] // reduction)


def prune_block(block: Block, side: Block, kept: Tensor) -> None:
    """Fill the smaller block `side` from `block`; `kept` are the hidden units that stay."""
    layer: Any
    small: Any
    for layer, small in zip(block.layer, side.layer, strict=True):
        _copy(layer.layer_norm.weight[kept], small.layer_norm)
        if hasattr(layer, "DenseReluDense"):
            _prune_feed_forward(layer.DenseReluDense, small.DenseReluDense, kept)
        else:
            name = "SelfAttention" if hasattr(layer, "SelfAttention") else "EncDecAttention"
            _prune_attention(getattr(layer, name), getattr(small, name), kept)


def prune_norm(norm: Norm, kept: Tensor) -> Norm:
    """A norm of the units `kept` with the weights that they have in `norm`."""
    small = Norm(len(kept), norm.epsilon)
    _copy(norm.weight[kept], small)
    return small


def _prune_attention(attention: Attention, small: Attention, kept: Tensor) -> None:
    """The units of q and k go in pairs, and so do those of v and o."""
    for inward, outward in (("q", "k"), ("v", "o")):
        first, second = getattr(attention, inward), getattr(attention, outward)
        scores = _size(weight_of(first), 1) * _size(weight_of(second), 0 if outward == "o" else 1)
        units = _largest(scores.view(-1, attention.width), small.width)
        for name, linear in ((inward, first), (outward, second)):
            weight = weight_of(linear)
            weight = weight[kept][:, units] if name == "o" else weight[units][:, kept]
            _copy(weight, getattr(small, name))


def _prune_feed_forward(dense: FeedForward, small: FeedForward, kept: Tensor) -> None:
    """`wi` and `wo`, or `wi_0`, `wi_1` and `wo` where the unit is gated."""
    inward = [name for name, _ in dense.named_children() if name.startswith("wi")]
    sizes = [_size(weight_of(getattr(dense, name)), 1) for name in inward] + [_size(weight_of(dense.wo), 0)]
    units = _largest(reduce(torch.mul, sizes)[None], small.wo.in_features)
    for name in inward:
        _copy(weight_of(getattr(dense, name))[units][:, kept], getattr(small, name))
    _copy(weight_of(dense.wo)[kept][:, units], small.wo)


def _size(weight: Tensor, dimension: int) -> Tensor:
    """L1 norms over a dimension."""
    return weight.detach().float().abs().sum(dimension)


def _largest(scores: Tensor, count: int) -> Tensor:
    """Of each group of `scores` [groups, units] the `count` largest, in order, as indices into all of them."""
    chosen = scores.topk(count, dim=1).indices.sort(dim=1).values
    return (chosen + torch.arange(len(scores), device=scores.device)[:, None] * scores.shape[1]).flatten()


def _copy(values: Tensor, module: nn.Module) -> None:
    module.weight = nn.Parameter(values.detach().to(torch.float32, copy=True))
