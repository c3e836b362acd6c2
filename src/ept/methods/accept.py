"""ACCEPT, adaptive codebook for composite and efficient prompt tuning (Lin et al., Findings of EMNLP 2024).

arXiv 2410.12847.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ept.methods.budget import codeword_length
from ept.methods.initialize import per_run
from ept.methods.prompt import PromptModule, PromptOutput, PromptSetup, fit_rows


def composed(weights: Tensor, codebooks: Tensor) -> Tensor:
    """Rows [runs, rows, hidden] whose part k is Σ_j weights[row, k, j] · codebooks[k, j].

    `weights` [runs, rows, parts, words], `codebooks` [runs, parts, words, word_length]; hidden = parts · word_length.
    """
    return torch.einsum("rnkj,rkjw->rnkw", weights, codebooks).flatten(2)


class CodebookPrompt(PromptModule):
    """A short prompt before the text and rows added to the text, both weighted sums of shared codewords.

    [known, paper and released code] Every part of the hidden units has a codebook; a token's weights of its words are
    its own. 60 tokens, 24 parts of 32 units and 20 words for the short prompt, 3 parts of 256 units and 20 words for
    the added rows: 74,880 parameters on T5-base. All start Kaiming-uniform over all but their first axis (a = sqrt 5;
    the added codebooks a = 0), and nothing scales the added rows. Two rate groups, the short prompt and what is added.
    [ours] It starts from these numbers; the published scores start from prompts that were trained before.
    """

    second_group = "added"

    def __init__(self, setup: PromptSetup):
        super().__init__(setup)
        options, hidden = setup.methods.accept, setup.hidden_size
        length = codeword_length("accept.word_length", options.word_length, hidden)
        added_length = codeword_length("accept.added_word_length", options.added_word_length, hidden)

        def draw(*shape: int, a: float = math.sqrt(5)) -> nn.Parameter:
            return per_run(setup, lambda g: nn.init.kaiming_uniform_(torch.empty(shape), a=a, generator=g))

        self.weights = draw(setup.prompt.short_length, hidden // length, options.words)
        self.codebooks = draw(hidden // length, options.words, length)
        self.added_weights = draw(self.source_length, hidden // added_length, options.added_words)
        self.added_codebooks = draw(hidden // added_length, options.added_words, added_length, a=0)

    def forward(self) -> PromptOutput:
        """The short prompt [runs, short_length, hidden] and the added rows [runs, source_length, hidden]."""
        return PromptOutput(composed(self.weights, self.codebooks), composed(self.added_weights, self.added_codebooks))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The short prompt's weights and codebooks, and those of the added rows."""
        return {
            "prompt": [self.weights, self.codebooks],
            self.second_group: [self.added_weights, self.added_codebooks],
        }

    def fit_tensor(self, run: int, name: str, tensor: Tensor) -> Tensor:
        """The weights of the added rows for another source length: surplus rows are cut, missing ones are zeros."""
        fits = name == "added_weights" and tensor.dim() == 3
        return fit_rows(tensor, self.source_length) if fits else tensor

    @torch.no_grad()
    def collapse(self, run: int) -> dict[str, Tensor]:
        """The short prompt, and weights and codebooks of the added rows, which are smaller than the rows."""
        added = {name: getattr(self, name)[run].clone() for name in ("added_weights", "added_codebooks")}
        return {**super().collapse(run), **added}

    @classmethod
    def served(cls, stored: Mapping[str, Tensor]) -> PromptOutput:
        """See `PromptModule.served`."""
        added = composed(stored["added_weights"].unsqueeze(0), stored["added_codebooks"].unsqueeze(0))
        return PromptOutput(stored["prompt"].unsqueeze(0), added)
