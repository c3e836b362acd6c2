"""The start of a side network: the backbone's weights, cut to the units that matter most.

[known] Sung et al. 2022 start the side network from structurally pruned weights. [ours] Units are chosen by
the L1 norms of the weights, where their code uses Fisher information, which needs training data; and every head keeps
the same share of its units.
"""

from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from ept.backbones.quantize import weight_of
from ept.backbones.t5 import Attention, Block, FeedForward, Norm


def kept_hidden_units(embedding: Tensor, reduction: int) -> Tensor:
    """The hidden units of the side network, [hidden // reduction]: those largest in `embedding` [vocab, hidden]."""
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
