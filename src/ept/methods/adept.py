"""ADePT, adaptive decomposed prompt tuning (Tang et al., ICLR 2025, arXiv 2501.03291)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ept.methods.budget import adept_rank
from ept.methods.initialize import initial_prompt, per_run, zeros
from ept.methods.prompt import PromptModule, PromptOutput, PromptSetup


@dataclass(frozen=True, kw_only=True)
class AdaptiveOutput(PromptOutput):
    """A short prompt, and a network that gives every embedding of the text an offset of its own."""

    A: Tensor
    """[runs, hidden, rank]."""
    a: Tensor
    """[runs, rank]."""
    B: Tensor
    """[runs, rank, hidden]."""
    b: Tensor
    """[runs, hidden]."""

    def row_offsets(self, embeddings: Tensor, first: int = 0) -> Tensor:
        """ReLU(E A + a) B + b in float32, of the shape of `embeddings` [runs, batch, length, hidden]."""
        inner = torch.baddbmm(self.a[:, None], embeddings.float().flatten(1, 2), self.A).relu()
        return torch.baddbmm(self.b[:, None], inner, self.B).view(embeddings.shape)

    def table(self, embedding: Tensor) -> Tensor:
        """See `PromptOutput.table`: the offset of every piece is added to its embedding."""
        return (embedding + self.row_offsets(embedding[None, None])[0, 0]).to(embedding.dtype)


class AdaptivePrompt(PromptModule):
    """[P_s; E + ReLU(E A + a) B + b]: the offset of a piece depends on the piece, not on its place.

    [known, released code] A [d, r] Kaiming-uniform (a = sqrt 5), B, a and b zero, no scale; two rate groups, P_s and
    the network. With short_length 60 and r = 19 it trains 76,051 numbers on T5-base. For use, the network can be
    written into the embedding table (`AdaptiveOutput.table`). [ours] No dropout before the ReLU (0.1 in the released
    code while training): a run would then not be the same alone and in a pack. Texts of any length fit.
    """

    second_group = "network"

    def __init__(self, setup: PromptSetup):
        super().__init__(setup)
        self.rank = adept_rank(setup.prompt, setup.methods.adept, setup.hidden_size)
        self.prompt = initial_prompt(setup, setup.prompt.short_length)
        self.A = per_run(setup, self._draw_A)
        self.a = zeros(setup, self.rank)
        self.B = zeros(setup, self.rank, self.hidden_size)
        self.b = zeros(setup, self.hidden_size)

    def forward(self) -> AdaptiveOutput:
        """P_s [runs, short_length, hidden] and the network."""
        return AdaptiveOutput(self.prompt, None, A=self.A, a=self.a, B=self.B, b=self.b)

    @torch.no_grad()
    def collapse(self, run: int) -> dict[str, Tensor]:
        """All that is trained: the prompt and the network of one run."""
        return {name: tensor.clone() for name, tensor in self.tensors(run).items()}

    @classmethod
    def served(cls, stored: Mapping[str, Tensor]) -> AdaptiveOutput:
        """See `PromptModule.served`."""
        network: dict[str, Any] = {name: stored[name].unsqueeze(0) for name in ("A", "a", "B", "b")}
        return AdaptiveOutput(stored["prompt"].unsqueeze(0), None, **network)

    def _draw_A(self, generator: torch.Generator) -> Tensor:
        matrix = torch.empty(self.hidden_size, self.rank)
        return nn.init.kaiming_uniform_(matrix, a=math.sqrt(5), generator=generator)
