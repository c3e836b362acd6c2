"""DPT, decomposed prompt tuning via low-rank reparameterization (Xiao et al., Findings of EMNLP 2023).

arXiv 2310.10094.
"""

import math

import torch
from torch import Tensor, nn

from ept.methods.initialize import per_run
from ept.methods.prompt import PromptModule, PromptOutput, PromptSetup


class FactorizedPrompt(PromptModule):
    """[known] P = Z W before the text, Z [length, r] and W [r, d] both trained: length · r + r · d parameters.

    [known, code of ULPT's authors, who ran it on T5-base] Z starts from N(0, 1), W uniform within 1 / sqrt(r). For use
    it is a plain prompt.
    """

    second_group = "prompt"

    def __init__(self, setup: PromptSetup):
        super().__init__(setup)
        rank = setup.methods.dpt.rank
        self.Z = per_run(setup, lambda generator: torch.randn(setup.prompt.length, rank, generator=generator))

        def draw(generator: torch.Generator) -> Tensor:
            matrix = torch.empty(self.hidden_size, rank)
            return nn.init.kaiming_uniform_(matrix, a=math.sqrt(5), generator=generator).T

        self.W = per_run(setup, draw)

    def forward(self) -> PromptOutput:
        """P [runs, length, hidden] and no offset."""
        return PromptOutput(torch.bmm(self.Z, self.W), None)
