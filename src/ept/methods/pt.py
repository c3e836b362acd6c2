"""PT, vanilla prompt tuning (Lester et al. 2021), and SPoT (Vu et al. 2022): PT from a source prompt."""

from ept.methods.initialize import initial_prompt
from ept.methods.prompt import PromptModule, PromptOutput, PromptSetup


class PlainPrompt(PromptModule):
    """[known] A free matrix P of `length` embeddings before the text: [P; E], length · d parameters."""

    def __init__(self, setup: PromptSetup):
        super().__init__(setup)
        self.prompt = initial_prompt(setup, setup.prompt.length)

    def forward(self) -> PromptOutput:
        """P [runs, length, hidden] and no offset."""
        return PromptOutput(self.prompt, None)
