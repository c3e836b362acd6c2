"""What every prompt method has: the prompts of a pack of runs, every tensor with a leading runs axis."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from ept.config.settings import EptSettings, MethodSettings, PromptSettings
from ept.errors import InputError
from ept.methods.base import MethodModule


@dataclass(frozen=True)
class ImageInput:
    """How a pack reads images, whose patches stand behind the text."""

    patches: int
    """Positions of an image."""
    offset: Literal["text", "visual", "both"] = "text"
    """What the offset is added to. With `both` its first rows are those of the patches."""
    projection: Tensor | None = None
    """A frozen linear map that all runs share, [1, width + 1, hidden] with the bias last; None where each run trains
    its own."""


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
    projection: Tensor | None = None
    """[runs, width + 1, hidden], each run's own map of an image's features to embeddings, with the bias last."""
    images: ImageInput | None = None
    """How images are read; not a part, since all runs share it. None for a task without images."""

    def __iter__(self) -> Iterator[Tensor | None]:
        """The parts in order."""
        return (getattr(self, name) for name in self._parts)

    @property
    def _parts(self) -> list[str]:
        return [part.name for part in fields(self) if part.name != "images"]

    def row_prompts(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """The prompt of each row, [runs, batch, prompt_length, hidden].

        `embeddings` [runs, batch, length, hidden] and `mask` [runs, batch, length] of the text; here only
        their shape matters.
        """
        return self.prompt.unsqueeze(1).expand(-1, embeddings.shape[1], -1, -1)

    def row_offsets(self, embeddings: Tensor, first: int = 0) -> Tensor | None:
        """What is added to the `embeddings` [runs, batch, length, hidden] of texts or patches, or None.

        In float32 and of their shape, with a batch axis of 1 where it is the same for all rows; `first` is the row of
        the offset for their first position. Raises InputError for a text that is longer than the prompt's source
        length.
        """
        if self.offset is None:
            return None
        last = first + embeddings.shape[2]
        if last > self.offset.shape[1]:
            raise InputError(
                f"a text has {embeddings.shape[2]} pieces, but the prompt was made for at most "
                f"{self.offset.shape[1] - first}; cut the texts or load the prompt for a longer source length"
            )
        return self.offset[:, None, first:last]

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
        parts: dict[str, Any] = {name: getattr(self, name) for name in self._parts}
        changed: dict[str, Any] = {name: None if part is None else change(part) for name, part in parts.items()}
        return type(self)(**changed, images=self.images)


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


def combine(
    output: PromptOutput, embeddings: Tensor, mask: Tensor, features: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return [P; E + offsets] of all rows of all runs as one batch for the backbone; [P; E; V] with images.

    The offsets are added to E, or to V, as `ImageInput.offset` says. The patches V of an image follow the last piece of
    their row's text, and padding follows them, so that a row is computed as without padding.

    Args:
        output: What the prompts add.
        embeddings: [runs, batch, length, hidden], of the text.
        mask: [runs, batch, length], 1 at pieces and 0 at padding.
        features: [runs or 1, batch, patches, width], of the images; None for a task without images.

    Returns:
        Embeddings [runs * batch, positions, hidden] in the text's dtype and mask [runs * batch, positions] in the
        mask's, run by run.

    Raises:
        InputError: Runs, hidden size, text length or images do not fit the prompts.
    """
    _check(output, embeddings, features)
    prompt = output.row_prompts(embeddings, mask).to(embeddings.dtype)
    opened = mask.new_ones(prompt.shape[:3])
    if features is None or output.images is None:
        joined = torch.cat([prompt, _moved(embeddings, output.row_offsets(embeddings))], dim=2)
        return joined.flatten(0, 1), torch.cat([opened, mask], dim=2).flatten(0, 1)
    where = output.images.offset
    visual = _projected(output, output.images, features).expand(len(embeddings), -1, -1, -1)
    if where != "visual":
        first = (output.images.patches,) if where == "both" else ()
        embeddings = _moved(embeddings, output.row_offsets(embeddings, *first))
    visual = _moved(visual, output.row_offsets(visual) if where != "text" else None).to(embeddings.dtype)
    joined = torch.cat([prompt, embeddings, visual], dim=2).flatten(0, 1)
    joined_mask = torch.cat([opened, mask, mask.new_ones(visual.shape[:3])], dim=2).flatten(0, 1)
    order = joined_mask.long().argsort(dim=1, descending=True, stable=True)
    return joined.gather(1, order[..., None].expand_as(joined)), joined_mask.gather(1, order)


def _moved(embeddings: Tensor, offsets: Tensor | None) -> Tensor:
    """Embeddings with their offsets. The sum is float32 and rounded once: a rounded offset would add a second error."""
    return embeddings if offsets is None else (embeddings + offsets).to(embeddings.dtype)


def _check(output: PromptOutput, embeddings: Tensor, features: Tensor | None) -> None:
    runs, _, _, hidden = embeddings.shape
    for name, part in (("prompt", output.prompt), ("offset", output.offset)):
        if part is not None and (part.shape[0], part.shape[-1]) != (runs, hidden):
            raise InputError(
                f"the {name} has shape {list(part.shape)}, the text {list(embeddings.shape)}: runs (first) "
                "and hidden size (last) must agree"
            )
    if (features is None) != (output.images is None):
        with_images, without = ("texts", "prompt") if output.images is None else ("prompt", "texts")
        raise InputError(f"the {with_images} come with images, but the {without} without; use both or neither")


def _projected(output: PromptOutput, images: ImageInput, features: Tensor) -> Tensor:
    """The embeddings [runs or 1, batch, patches, hidden] of images, in float32.

    Of `features` with a runs axis of 1, which all runs read, a frozen projection makes them once.
    """
    projection = images.projection if output.projection is None else output.projection
    shape = (images.patches, 0 if projection is None else projection.shape[1] - 1)
    if projection is None or tuple(features.shape[2:]) != shape:
        raise InputError(
            f"an image has {features.shape[2]} patches of {features.shape[3]} features, but the prompt was made for "
            f"{shape[0]} of {shape[1]}; use the encoder that it was trained with"
        )
    return features.float() @ projection[:, None, :-1] + projection[:, None, None, -1]
