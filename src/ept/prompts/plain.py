"""PT, vanilla prompt tuning (Lester et al. 2021), and SPoT (Vu et al. 2022): PT from a source prompt."""

from ept.prompts.base import PackSetup, PromptOutput, PromptPack
from ept.prompts.initialise import initial_prompt


class PlainPrompt(PromptPack):
    """[known] A free matrix P of `length` embeddings before the text: [P; E], length · d parameters."""

    def __init__(self, setup: PackSetup):
        super().__init__(setup)
        self.prompt = initial_prompt(setup, setup.prompt.length)

    def forward(self) -> PromptOutput:
        """P [runs, length, hidden] and no offset."""
        return PromptOutput(self.prompt, None)
