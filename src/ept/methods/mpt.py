"""MPT, multitask prompt tuning (Wang et al., ICLR 2023): one shared prompt, and a matrix of rank 1 for each task."""

import torch
from torch import Tensor, nn

from ept.methods.initialize import initial_prompt, ones
from ept.methods.prompt import PromptModule, PromptOutput, PromptSetup
from ept.methods.pt import PlainPrompt


def task_prompt(prompt: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """[known] P ∘ (u vᵀ), [runs, length, hidden], from P of that shape, u [runs, length] and v [runs, hidden]."""
    return prompt * (u.unsqueeze(2) * v.unsqueeze(1))


class MultitaskPrompt(PromptModule):
    """The prompt of one task, P ∘ (u vᵀ): length · d + length + d parameters.

    [known] P starts from the source training (`SharedPrompt`), and two speeds: P and the task's u and v have a
    learning rate each. [ours] Without a source u and v are ones, so that it starts as PT does. The product does not
    depend on the text: at inference, MPT is a plain prompt.
    """

    second_group = "task"

    def __init__(self, setup: PromptSetup):
        super().__init__(setup)
        self.prompt = initial_prompt(setup, setup.prompt.length)
        self.u = ones(setup, setup.prompt.length)
        self.v = ones(setup, self.hidden_size)

    def forward(self) -> PromptOutput:
        """P ∘ (u vᵀ) [runs, length, hidden] and no offset."""
        return PromptOutput(task_prompt(self.prompt, self.u, self.v), None)


class SharedPrompt(PromptModule):
    """Source training: one P for several source tasks, and for each of them a u and a v.

    P [runs, length, hidden], u [runs, tasks, length], v [runs, tasks, hidden]. [ours] P starts as PT does, u and v as
    ones: with the small random numbers of PEFT's MPT the prompts of all tasks would start near zero.
    """

    second_group = "task"

    def __init__(self, start: PlainPrompt, tasks: int):
        """`start`: a pack of PT that is not trained yet."""
        super().__init__(start)
        runs, length, hidden = start.prompt.shape
        self.prompt = nn.Parameter(start.prompt.detach().clone())
        self.u = nn.Parameter(start.prompt.new_ones(runs, tasks, length))
        self.v = nn.Parameter(start.prompt.new_ones(runs, tasks, hidden))
        self.losses: dict[int, Tensor] = {}
        """Task, logits and hidden loss [3] of each living run in the last step, for its record."""

    def forward(self) -> PromptOutput:
        """The start of a target's prompt, [runs, length, hidden]."""
        return PromptOutput(task_prompt(self.prompt, self.u.mean(1), self.v.mean(1)), None)

    def of_task(self, task: int) -> PromptOutput:
        """The prompt of one of the source tasks, [runs, length, hidden]."""
        return PromptOutput(task_prompt(self.prompt, self.u[:, task], self.v[:, task]), None)

    def diagnostics(self, run: int) -> dict[str, float | list[float]]:
        """The three losses of the last step."""
        names = ("task_loss", "logits_loss", "hidden_loss")
        return dict(zip(names, self.losses[run].tolist(), strict=True)) if run in self.losses else {}

    @torch.no_grad()
    def target_tensors(self, run: int) -> dict[str, Tensor]:
        """The tensors of a `MultitaskPrompt` from which target tasks start: P, and u and v as means over the tasks.

        [known from PEFT's MPT, which an author's laboratory wrote: the means of u and of v]
        """
        return {"prompt": self.prompt[run].clone(), "u": self.u[run].mean(0), "v": self.v[run].mean(0)}
