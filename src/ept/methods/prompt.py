"""What every prompt method has: the prompts of a pack of runs, every tensor with a leading runs axis."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import torch
from torch import Tensor, nn

from ept.config.settings import EptSettings, MethodSettings, PromptSettings
from ept.errors import InputError
from ept.methods.base import MethodModule


@dataclass(frozen=True)
class PromptOutput:
    """What a pack adds to its inputs, computed once a step. Every part has a leading runs axis.

    A method whose prompt or offset depends on the text subclasses it, with more parts and another `row_prompts` or
    `row_offsets`.
    """

    prompt: Tensor
    """[runs, prompt_length, hidden], prepended to the text."""
    offset: Tensor | None
    """[runs, source_length, hidden], added to the text's embeddings by position; None where the method adds nothing."""

    def __iter__(self) -> Iterator[Tensor | None]:
        """The parts in order."""
        return (getattr(self, part.name) for part in fields(self))

    def row_prompts(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """The prompt of each row, [runs, batch, prompt_length, hidden].

        `embeddings` [runs, batch, length, hidden] and `mask` [runs, batch, length] of the text; here only
        their shape matters.
        """
        return self.prompt.unsqueeze(1).expand(-1, embeddings.shape[1], -1, -1)

    def row_offsets(self, embeddings: Tensor) -> Tensor | None:
        """What is added to the text's `embeddings` [runs, batch, length, hidden], or None.

        In float32 and of their shape, with a batch axis of 1 where it is the same for all rows. Raises InputError for a
        text that is longer than the prompt's source length.
        """
        if self.offset is None:
            return None
        length = embeddings.shape[2]
        if length > self.offset.shape[1]:
            raise InputError(
                f"a text has {length} pieces, but the prompt was made for at most {self.offset.shape[1]}; cut the "
                "texts or load the prompt for a longer source length"
            )
        return self.offset[:, None, :length]

    def table(self, embedding: Tensor) -> Tensor:
        """The embedding table [vocab, hidden] for a text to which nothing but `offset` is then added; for one run.

        It serves the encoder's input (or a decoder-only model's), not the output head.
        """
        return embedding

    def slice(self, first: int, last: int) -> Self:
        """The part of the runs first..last-1, as views."""
        return self._map(lambda part: part[first:last])

    def detached(self) -> Self:
        """Leaves of a new graph; those of trained parts collect gradients."""
        return self._map(lambda part: part.detach().requires_grad_(part.requires_grad))

    def select(self, runs: Sequence[int]) -> Self:
        """The part of these runs, as copies."""
        return self._map(lambda part: part[list(runs)])

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        parts: dict[str, Any] = {part.name: getattr(self, part.name) for part in fields(self)}
        changed: dict[str, Any] = {name: None if part is None else change(part) for name, part in parts.items()}
        return type(self)(**changed)


@dataclass(frozen=True)
class PromptSetup:
    """What a pack is built from; `build_prompt_module` explains each part.

    `generators` (one a run, on the CPU, seeded by the run's seed alone) are used up while one pack is built.
    """

    embedding: Tensor
    prompt: PromptSettings
    ept: EptSettings
    source_length: int
    seeds: tuple[int, ...]
    init_ids: Sequence[Sequence[int]] = ()
    sources: Tensor | None = None
    methods: MethodSettings = field(default_factory=MethodSettings)
    text_length: int | None = None
    vocabulary: Sequence[int] | None = None
    generators: tuple[torch.Generator, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not self.seeds:
            raise InputError("a pack needs at least one seed")
        object.__setattr__(self, "generators", tuple(torch.Generator().manual_seed(seed) for seed in self.seeds))

    @property
    def hidden_size(self) -> int:
        """d, the size of the backbone's embeddings."""
        return self.embedding.shape[1]

    @property
    def reached_length(self) -> int:
        """How many rows of a [source_length, ...] tensor the training texts reach."""
        return min(self.text_length or self.source_length, self.source_length)


def fit_rows(tensor: Tensor, rows: int) -> Tensor:
    """The first `rows` rows of `tensor` [length, ...]; missing ones are zeros.

    [ours] A zero row starts as a prompt without it: random rows of A times a trained B would be noise as large as the
    trained product.
    """
    kept = tensor[:rows]
    return torch.cat([kept, kept.new_zeros(rows - len(kept), *kept.shape[1:])])


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
        self.source_length: int = setup.source_length

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

    @classmethod
    def served(cls, stored: Mapping[str, Tensor]) -> PromptOutput:
        """What one saved run adds to its inputs, with a leading runs axis of 1, from the tensors of `collapse`."""
        return PromptOutput(stored["prompt"].unsqueeze(0), None)


def combine(output: PromptOutput, embeddings: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return [P; E + offsets] of all rows of all runs as one batch for the backbone.

    `embeddings` [runs, batch, length, hidden] of the text, `mask` [runs, batch, length] with 1 at pieces and
    0 at padding. Returns embeddings [runs * batch, prompt_length + length, hidden] in the text's dtype and
    mask [runs * batch, prompt_length + length] in the mask's, run by run. Raises InputError where runs,
    hidden size or text length do not fit the prompts.
    """
    _check(output, embeddings)
    prompt = output.row_prompts(embeddings, mask).to(embeddings.dtype)
    offsets = output.row_offsets(embeddings)
    if offsets is not None:
        # Summed in float32 and rounded once: rounding the offset first would add a second error.
        embeddings = (embeddings + offsets).to(embeddings.dtype)
    joined = torch.cat([prompt, embeddings], dim=2)
    joined_mask = torch.cat([mask.new_ones(prompt.shape[:3]), mask], dim=2)
    return joined.flatten(0, 1), joined_mask.flatten(0, 1)


def _check(output: PromptOutput, embeddings: Tensor) -> None:
    runs, _, _, hidden = embeddings.shape
    for name, part in (("prompt", output.prompt), ("offset", output.offset)):
        if part is not None and (part.shape[0], part.shape[-1]) != (runs, hidden):
            raise InputError(
                f"the {name} has shape {list(part.shape)}, the text {list(embeddings.shape)}: runs (first) "
                "and hidden size (last) must agree"
            )
