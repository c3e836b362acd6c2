"""DePT, decomposed prompt tuning (Shi & Lipani, ICLR 2024)."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ept.methods.budget import decomposition_rank
from ept.methods.initialize import initial_prompt, per_run, zeros
from ept.methods.prompt import PromptModule, PromptOutput, PromptSetup, fit_rows


class DecomposedPrompt(PromptModule):
    """A short prompt P_s before the text and a low-rank pair added to the text.

    [known, paper and released code] Input [P_s; E + C[:L]] with C = γ A B, γ = 8 / sqrt(r), A [m, r]
    Kaiming-uniform (a = sqrt 5), B [r, d] zero: at the start it is PT with a shorter prompt. The
    released code adds C to all m padded positions; adding the first L rows to a batch of length L is equal,
    since padding is masked. r comes from the budget with m = `reference_length` for every task; m itself is
    the task's source length.
    """

    def __init__(self, setup: PromptSetup):
        super().__init__(setup)
        self.rank = self.choose_rank(setup)
        self.scale = 8 / math.sqrt(self.rank)
        self.prompt = initial_prompt(setup, setup.prompt.short_length)
        self.A, self.B = self.make_pair(setup)

    @staticmethod
    def choose_rank(setup: PromptSetup) -> int:
        """r, from the parameter budget."""
        return decomposition_rank(setup.prompt, setup.hidden_size)

    def make_pair(self, setup: PromptSetup) -> tuple[nn.Parameter, nn.Parameter]:
        """A [runs, source_length, rank] and B [runs, rank, hidden] at their start."""
        return per_run(setup, self._draw_A), zeros(setup, self.rank, self.hidden_size)

    def forward(self) -> PromptOutput:
        """P_s [runs, short_length, hidden] and C [runs, source_length, hidden]."""
        return PromptOutput(self.prompt, self.product())

    def product(self) -> Tensor:
        """C = γ A B [runs, source_length, hidden]."""
        return self.scale * torch.bmm(self.A, self.B)

    def fit_tensor(self, run: int, name: str, tensor: Tensor) -> Tensor:
        """A [m', r] for another source length: surplus rows are cut, missing ones are zeros."""
        fits = name == "A" and tensor.dim() == 2 and tensor.shape[1] == self.rank
        return fit_rows(tensor, self.source_length) if fits else tensor

    @torch.no_grad()
    def collapse(self, run: int) -> dict[str, Tensor]:
        """The prepended prompt, A and B of one run: a DePT prompt with the same outputs."""
        return {**super().collapse(run), "A": self.A[run].clone(), "B": self.B[run].clone()}

    @classmethod
    def served(cls, stored: Mapping[str, Tensor]) -> PromptOutput:
        """See PromptModule; C = γ A B with γ = 8 / sqrt(r)."""
        scale = 8 / math.sqrt(stored["A"].shape[1])
        product = scale * torch.mm(stored["A"], stored["B"])
        return PromptOutput(stored["prompt"].unsqueeze(0), product.unsqueeze(0))

    def _draw_A(self, generator: torch.Generator) -> Tensor:
        rows = torch.empty(self.source_length, self.rank)
        return nn.init.kaiming_uniform_(rows, a=math.sqrt(5), generator=generator)
