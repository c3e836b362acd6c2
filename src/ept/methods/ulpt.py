"""ULPT, ultra-low-dimensional prompt tuning via random projection (Wu, Hao & Mou, arXiv 2502.04501)."""

import math

import torch
from torch import Tensor

from ept.methods.initialize import ones, per_run, zeros
from ept.methods.prompt import PromptModule, PromptOutput, PromptSetup


class ProjectedPrompt(PromptModule):
    """A prompt Z of few dimensions, mapped up by a frozen random matrix R: P = (Z R) ∘ s + b before the text.

    [known, paper and released code] Z [length, r] ~ N(0, 1), R [r, d] uniform with Xavier's bound sqrt(6 / (r + d)),
    the scale s [d] ones, the shift b [d] zeros; one learning rate. length · r + 2 d trained parameters. For use it is a
    plain prompt. [ours] R is drawn from the run's seed, so a run cannot start from a prompt of another seed: it always
    starts from scratch.
    """

    second_group = "prompt"
    projection: Tensor

    def __init__(self, setup: PromptSetup):
        super().__init__(setup)
        rank, hidden = setup.methods.ulpt.rank, setup.hidden_size
        self.Z = per_run(setup, lambda generator: torch.randn(setup.prompt.length, rank, generator=generator))
        self.scale = ones(setup, hidden)
        self.shift = zeros(setup, hidden)
        bound = math.sqrt(6 / (rank + hidden))

        def draw(generator: torch.Generator) -> Tensor:
            return (2 * torch.rand(rank, hidden, generator=generator) - 1) * bound

        self.register_buffer("projection", per_run(setup, draw).detach())

    def forward(self) -> PromptOutput:
        """P [runs, length, hidden] and no offset."""
        return PromptOutput(torch.bmm(self.Z, self.projection) * self.scale[:, None] + self.shift[:, None], None)
