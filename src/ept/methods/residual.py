"""Residual prompt tuning (Razdaibiedina et al., Findings of ACL 2023, arXiv 2305.03937)."""

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from ept.methods.initialize import initial_prompt, ones, per_run, zeros
from ept.methods.prompt import PromptModule, PromptOutput, PromptSetup


class ResidualPrompt(PromptModule):
    """[P'; E] with P' = P + LayerNorm(ReLU(P W_1 + b_1) W_2 + b_2), one network for all tokens of the prompt.

    [known, paper and released code] Bottleneck 800; maps and their biases start uniform within 1 / sqrt(inputs), as
    linear layers do; the released example trains all with the rate 0.3. After training the network is dropped: at
    inference it is a plain prompt. [ours] `prompt.length` tokens, as PT (the released example has 10), and always the
    shared network with a layer norm, which the released code makes optional.
    """

    second_group = "network"

    def __init__(self, setup: PromptSetup):
        super().__init__(setup)
        hidden, width = setup.hidden_size, setup.methods.residual.bottleneck

        def uniform(inputs: int, *shape: int) -> Tensor:
            return per_run(setup, lambda g: (2 * torch.rand(*shape, generator=g) - 1) / inputs**0.5)

        self.prompt = initial_prompt(setup, setup.prompt.length)
        self.W_1, self.b_1 = uniform(hidden, hidden, width), uniform(hidden, width)
        self.W_2, self.b_2 = uniform(width, width, hidden), uniform(width, hidden)
        self.scale = ones(setup, hidden)
        self.shift = zeros(setup, hidden)

    def forward(self) -> PromptOutput:
        """P' [runs, length, hidden] and no offset."""
        inner = torch.baddbmm(self.b_1[:, None], self.prompt, self.W_1).relu()
        change = layer_norm(torch.baddbmm(self.b_2[:, None], inner, self.W_2), [self.hidden_size])
        return PromptOutput(self.prompt + self.scale[:, None] * change + self.shift[:, None], None)
