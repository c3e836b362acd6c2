"""Residual prompt tuning (Razdaibiedina et al., Findings of ACL 2023, arXiv 2305.03937)."""

import torch
from torch import nn
from torch.nn.functional import layer_norm

from ept.methods.prompt import PromptSetup, PromptOutput, PromptModule
from ept.methods.initialize import initial_prompt, ones, per_run, zeros


class ResidualPrompt(PromptModule):
    """[P'; E] with P' = P + LayerNorm(ReLU(P W_1 + b_1) W_2 + b_2), one network for all tokens of the prompt.

    [known, paper and released code] [ours: the network's width, d / 4, and its start, W_1 ~ N(0, 1/d) and
    W_2 ~ N(0, 1/width)]
    """

    def __init__(self, setup: PromptSetup):
        super().__init__(setup)
        hidden = setup.hidden_size
        width = hidden // 4
        self.prompt = initial_prompt(setup, setup.prompt.length)
        self.W_1 = per_run(setup, lambda generator: torch.randn(hidden, width, generator=generator) / hidden**0.5)
        self.b_1 = zeros(setup, width)
        self.W_2 = per_run(setup, lambda generator: torch.randn(width, hidden, generator=generator) / width**0.5)
        self.b_2 = zeros(setup, hidden)
        self.scale = ones(setup, hidden)
        self.shift = zeros(setup, hidden)

    def forward(self) -> PromptOutput:
        """P' [runs, length, hidden] and no offset."""
        inner = (torch.bmm(self.prompt, self.W_1) + self.b_1[:, None]).relu()
        change = layer_norm(torch.bmm(inner, self.W_2) + self.b_2[:, None], [self.hidden_size])
        return PromptOutput(self.prompt + self.scale[:, None] * change + self.shift[:, None], None)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The prompt and the network, each with a learning rate of its own."""
        network = [parameter for name, parameter in self.named_parameters() if name != "prompt"]
        return {"prompt": [self.prompt], "network": network}
