"""What every prompt method has: the prompts of a pack of runs, every tensor with a leading runs axis."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ept.config.settings import EptSettings, PromptSettings
from ept.errors import InputError
from ept.methods.base import MethodModule


class PromptOutput(NamedTuple):
    """What a pack adds to its inputs, computed once a step. Every part has a leading runs axis.

    A method whose prompt depends on the text returns an output type of its own with another `row_prompts`.
    """

    prompt: Tensor
    """[runs, prompt_length, hidden], prepended to the text."""
    offset: Tensor | None
    """[runs, source_length, hidden], added to the text's embeddings; None where the method adds nothing."""

    def row_prompts(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """The prompt of each row, [runs, batch, prompt_length, hidden].

        `embeddings` [runs, batch, length, hidden] and `mask` [runs, batch, length] of the text; here only
        their shape matters.
        """
        return self.prompt.unsqueeze(1).expand(-1, embeddings.shape[1], -1, -1)

    def slice(self, first: int, last: int) -> "PromptOutput":
        """The part of the runs first..last-1, as views."""
        return type(self)(*(None if part is None else part[first:last] for part in self))

    def detached(self) -> "PromptOutput":
        """Leaves of a new graph; those of trained parts collect gradients."""
        return type(self)(
            *(None if part is None else part.detach().requires_grad_(part.requires_grad) for part in self)
        )

    def select(self, runs: Sequence[int]) -> "PromptOutput":
        """The part of these runs, as copies."""
        return type(self)(*(None if part is None else part[list(runs)] for part in self))


@dataclass(frozen=True)
class PromptSetup:
    """What a pack is built from; `build_prompt_module` in the registry explains each part.

    `generators` (one a run, on the CPU, seeded by the run's seed alone) are used up while one pack is built.
    """

    embedding: Tensor
    prompt: PromptSettings
    ept: EptSettings
    source_length: int
    seeds: tuple[int, ...]
    init_ids: Sequence[Sequence[int]] = ()
    sources: Tensor | None = None
    generators: tuple[torch.Generator, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not self.seeds:
            raise InputError("a pack needs at least one seed")
        object.__setattr__(self, "generators", tuple(torch.Generator().manual_seed(seed) for seed in self.seeds))

    @property
    def hidden_size(self) -> int:
        """d, the size of the backbone's embeddings."""
        return self.embedding.shape[1]


class PromptModule(MethodModule):
    """The prompts of a pack of runs over one backbone.

    A method's file subclasses it: parameters [runs, ...], `forward` and, where they differ,
    `second_group`, `fit_tensor`, `collapse` and `diagnostics`.
    """

    packed = True
    stored_as = "prompt"

    second_group = "low_rank"
    """The group of every parameter but the prompt."""

    def __init__(self, setup: "PromptSetup | PromptModule"):
        super().__init__(setup.seeds, setup.hidden_size)
        self.source_length = setup.source_length

    def forward(self) -> PromptOutput:
        """The prompts of all runs as they stand now; call it once a step, whatever the number of batches."""
        raise NotImplementedError

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by the name of their learning rate: the prompt, and all else as `second_group`.

        Two rates are [known] from DePT, MPT and ATTEMPT; that EPT's fusion, projection and gate go with A and B is
        [ours].
        """
        groups: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            groups.setdefault("prompt" if name == "prompt" else self.second_group, []).append(parameter)
        return groups

    def check_tensor(self, name: str, tensor: Tensor, own: Tensor, origin: str) -> None:
        """As for every method, and with a sentence of its own for a prompt of another hidden size."""
        if name in ("prompt", "B") and tensor.dim() > 0 and tensor.shape[-1] != self.hidden_size:
            raise InputError(
                f"{origin}: tensor {name} has hidden size {tensor.shape[-1]}, the backbone has {self.hidden_size}; "
                "use a prompt that was trained on this backbone"
            )
        super().check_tensor(name, tensor, own, origin)

    @torch.no_grad()
    def collapse(self, run: int) -> dict[str, Tensor]:
        """What use needs of one run for the same outputs, as copies: here the prompt that is prepended."""
        return {"prompt": self().prompt[run].clone()}
