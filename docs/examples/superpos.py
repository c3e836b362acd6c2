"""SuperPos-Prompt, superposition of multi token embeddings (Ali Sadraei Javaheri et al. 2024, arXiv 2406.05279)."""

import torch

from ept.methods.initialize import draw_prompt, per_run
from ept.methods.prompt import PromptModule, PromptOutput, PromptSetup

WORDS = 128


class SuperposedPrompt(PromptModule):
    """[P; E] with p_i = Σ_j w_ij e_j: every token of the prompt weighs the same frozen embeddings of `WORDS` pieces.

    [known] The sum over sampled vocabulary rows, without a softmax; 128 pieces, beyond which scores no longer rise.
    [ours] One sample for all tokens, drawn as `prompt.init` says and not trained; W ~ N(0, 1/128), so that tokens start
    as large as embeddings. The sample depends on the seed: a run always starts from scratch.
    """

    second_group = "weights"

    def __init__(self, setup: PromptSetup):
        super().__init__(setup)
        length = setup.prompt.length
        self.register_buffer("words", per_run(setup, lambda g: draw_prompt(setup, WORDS, g)).detach())
        self.W = per_run(setup, lambda g: torch.randn(length, WORDS, generator=g) / WORDS**0.5)

    def forward(self) -> PromptOutput:
        """P [runs, length, hidden] and no offset."""
        return PromptOutput(torch.bmm(self.W, self.words), None)
