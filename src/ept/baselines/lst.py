"""LST, ladder side-tuning (Sung et al. 2022): a small network beside the backbone that reads its activations."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.models.t5.modeling_t5 import T5Block, T5LayerNorm

from ept.baselines.base import WeightPack
from ept.baselines.prune import kept_hidden_units, prune_block, prune_norm
from ept.errors import InputError

GATE_TEMPERATURE = 0.1


@dataclass(frozen=True)
class Streams:
    """The backbone's hidden states [rows, length, hidden], without gradients, and those of the side network [rows,
    length, side].
    """

    backbone: Tensor
    side: Tensor

    def __getitem__(self, rows: Tensor) -> "Streams":
        return Streams(self.backbone[rows], self.side[rows])


class Entry(nn.Module):
    """Stands before a stack's first block: embeddings [rows, length, hidden] become both streams."""

    def __init__(self, hidden_size: int, side_size: int):
        super().__init__()
        self.down = _linear(hidden_size, side_size)

    def forward(self, embeddings: Tensor) -> Streams:
        embeddings = embeddings.detach()
        return Streams(embeddings, self.down(embeddings.float()))


class Rung(nn.Module):
    """[known] One layer of the ladder. With h the backbone layer's output: s <- side(g s + (1 - g) W h), where
    g = sigmoid(gate / 0.1) and gate starts at 0.
    """

    def __init__(self, side: T5Block, hidden_size: int, side_size: int):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(1))
        self.down = _linear(hidden_size, side_size)
        self.side = side

    def forward(self, side: Tensor, hidden: Tensor, mask, bias, encoded, cross, cache) -> Tensor:
        gate = torch.sigmoid(self.gate / GATE_TEMPERATURE)
        mixed = gate * side + (1 - gate) * self.down(hidden.float())
        mask, bias, cross = (None if part is None else part.float() for part in (mask, bias, cross))
        return self.side(mixed, mask, bias, encoded, None, cross, past_key_values=cache)[0]


class LadderBlock(nn.Module):
    """In the place of a block: the backbone's block without a graph, then its rung, if it has one.

    [known] Side layers use the backbone's position bias.
    """

    def __init__(self, block: nn.Module, entry: Entry | None, rung: Rung | None):
        super().__init__()
        self.block, self.entry, self.rung = block, entry, rung

    def forward(self, hidden, mask, bias, encoded=None, encoded_mask=None, cross=None, past_key_values=None):
        streams = hidden if self.entry is None else self.entry(hidden)
        encoded = Streams(None, None) if encoded is None else encoded
        with torch.no_grad():
            inputs = (streams.backbone, mask, bias, encoded.backbone, encoded_mask, cross)
            backbone = self.block(*inputs, past_key_values=past_key_values)[0]
        side = streams.side
        if self.rung is not None:
            side = self.rung(side, backbone, mask, bias, encoded.side, cross, past_key_values)
        return (Streams(backbone, side),)


class EncoderEnd(nn.Module):
    """In the place of the encoder's final norm: both streams, each normed."""

    def __init__(self, norm: nn.Module, side_norm: T5LayerNorm):
        super().__init__()
        self.norm, self.side_norm = norm, side_norm

    def forward(self, streams: Streams) -> Streams:
        with torch.no_grad():
            backbone = self.norm(streams.backbone)
        return Streams(backbone, self.side_norm(streams.side))


class DecoderEnd(nn.Module):
    """In the place of the decoder's final norm: [known] the side stream alone, normed and brought to the hidden size,
    goes to the backbone's frozen lm_head.
    """

    def __init__(self, side_norm: T5LayerNorm, hidden_size: int, side_size: int):
        super().__init__()
        self.side_norm = side_norm
        self.up = _linear(side_size, hidden_size)

    def forward(self, streams: Streams) -> Tensor:
        return self.up(self.side_norm(streams.side)).to(streams.backbone.dtype)


class LadderSideTuning(WeightPack):
    """[known] Sizes of the side network: the backbone's divided by `lst_reduction`; with `lst_skip_every` 4 layers 1-3,
    5-7, 9-11 of T5-base have a side layer. [ours] Which of the backbone's weights it starts with: `prune.py`.
    """

    def attach(self, model: nn.Module) -> None:
        """Replace blocks and final norms of both stacks by such that carry two streams."""
        self._check(model)
        kept = kept_hidden_units(model.shared.weight, self.settings.lst_reduction)
        for stack in (model.encoder, model.decoder):
            first = len(stack.block)
            for index, block in enumerate(stack.block):
                has_rung = self._has_rung(index)
                rung = self._rung(stack.config, block, kept, layer_index=first) if has_rung else None
                first += has_rung
                entry = Entry(self.hidden_size, len(kept)) if index == 0 else None
                self._replace(stack.block, str(index), LadderBlock(block, entry, rung))
            norm = prune_norm(stack.final_layer_norm, kept)
            if stack is model.encoder:
                end = EncoderEnd(stack.final_layer_norm, norm)
            else:
                end = DecoderEnd(norm, self.hidden_size, len(kept))
            self._replace(stack, "final_layer_norm", end)

    def _has_rung(self, index: int) -> bool:
        every = self.settings.lst_skip_every
        return every == 0 or index % every != 0

    def _rung(self, config, block: nn.Module, kept: Tensor, layer_index: int) -> Rung:
        """Side layers keep their keys and values behind the backbone's in the same cache: `layer_index`."""
        small = copy.deepcopy(config)
        for name in ("d_model", "d_kv", "d_ff"):
            setattr(small, name, getattr(config, name) // self.settings.lst_reduction)
        side = T5Block(small, layer_idx=layer_index)
        prune_block(block, side, kept)
        return Rung(side, self.hidden_size, len(kept))

    def _replace(self, parent: nn.Module, name: str, replacement: nn.Module) -> None:
        original = getattr(parent, name)
        replacement.eval()
        for part in replacement.children():
            if part is not original:
                part.to(self.backbone.device, torch.float32)
        setattr(parent, name, replacement)
        self.undo(lambda: setattr(parent, name, original))

    def _check(self, model: nn.Module) -> None:
        reduction, config = self.settings.lst_reduction, model.config
        for name in ("d_model", "d_kv", "d_ff"):
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
