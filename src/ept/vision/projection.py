"""How a method reads images: a linear map from an encoder's features to the backbone's embeddings, frozen or trained.

The patches of an image stand behind the text (`ept.methods.prompt.combine`). A frozen map is the encoder's own, which
was aligned with the backbone once. [known, VL-Adapter: the map is trained in every row] A trained one belongs to the
run: it is trained with the method, counted with its parameters and saved in its file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ept.demo.identity import encoder_folder
from ept.errors import InputError
from ept.methods.base import MethodModule
from ept.methods.initialize import embedding_rms
from ept.methods.prompt import ImageInput, PromptOutput

PROJECTION = "projection"
"""The name of a trained projection among a run's tensors, and of its group of learning rates."""
# Keeps the random numbers of projections apart from those of prompts.
_STREAM = 7_696_583


class WithImages(MethodModule):
    """A method whose inputs have images; with a start, each run trains a projection next to the method's tensors."""

    def __init__(self, method: MethodModule, images: ImageInput, start: Tensor | None = None):
        """`start` [runs, width + 1, hidden]: where each run's projection starts; None where `images` has a frozen one.

        The method is then part of this module: close this one.
        """
        super().__init__(method.seeds, method.hidden_size)
        self.packed, self.stored_as = method.packed, method.stored_as
        self.method, self.images = method, images
        self.projection: nn.Parameter | None = None
        if start is not None:
            self.projection = nn.Parameter((start if method.packed else start[0]).clone())

    def forward(self) -> PromptOutput:
        """What the method adds, and how images are read."""
        own = self.projection
        return replace(self.method(), projection=own if own is None or self.packed else own[None], images=self.images)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """The method's parameters by their own names, and the projection."""
        yield from self.method.named_parameters(*args, **kwargs)
        if self.projection is not None:
            yield PROJECTION, self.projection

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The method's groups, and the projection as one of its own."""
        groups = self.method.parameter_groups()
        return groups if self.projection is None else {**groups, PROJECTION: [self.projection]}

    def load_tensors(self, run: int, tensors: Mapping[str, Tensor], origin: str = "the prompt") -> None:
        """As for every method; the projection too, where each run has its own."""
        rest = dict(tensors)
        if self.projection is None:
            self.method.load_tensors(run, rest, origin)
            return
        if PROJECTION not in rest:
            raise InputError(
                f"{origin} lacks {PROJECTION}: it was trained without images, or with a frozen projection; use a "
                f"{self.stored_as} of the same vision.projection"
            )
        own, found = self.tensors(run)[PROJECTION], rest.pop(PROJECTION)
        MethodModule.check_tensor(self, PROJECTION, found, own, origin)
        self.method.load_tensors(run, rest, origin)
        own.copy_(found)

    def target_tensors(self, run: int) -> dict[str, Tensor]:
        """The method's, and the projection."""
        return {**self.method.target_tensors(run), **self._own(run)}

    def collapse(self, run: int) -> dict[str, Tensor]:
        """The method's, and the projection, as copies."""
        return {**self.method.collapse(run), **self._own(run)}

    def diagnostics(self, run: int) -> dict[str, float | list[float]]:
        """The method's."""
        return self.method.diagnostics(run)

    def close(self) -> None:
        """Leave the backbone as it was."""
        self.method.close()

    def _own(self, run: int) -> dict[str, Tensor]:
        return {} if self.projection is None else {PROJECTION: self.tensors(run)[PROJECTION].clone()}


class SavedImages:
    """How the rows of a saved prompt read images: its encoder, loaded, and its projection."""

    def __init__(self, values: Mapping[str, Any], embedding: Tensor, origin: str):
        """`values` are the prompt's metadata `vision`, `embedding` the backbone's, `origin` names the prompt.

        Raises InputError where the metadata are incomplete, or the encoder is missing or another one.
        """
        # Here, because training reads features from files.
        from ept.vision.encoder import load_encoder

        try:
            source, id_, revision = (str(values[key]) for key in ("source", "id", "revision"))
            patches, width, offset = int(values["patches"]), int(values["width"]), values["offset"]
            trained = values["projection"] == "trained"
            if source not in ("demo", "hub", "local") or offset not in ("text", "visual", "both"):
                raise ValueError
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{origin} does not say which encoder read its images; use a prompt file that `ept` has written"
            ) from error
        self.column = str(values.get("column") or "image")
        self.encoder = load_encoder(source, id_, revision, patches)  # type: ignore[arg-type]
        frozen = None if trained else frozen_projection(encoder_folder(source, id_), embedding, width)
        self.input = ImageInput(patches, offset, frozen)

    def features(self, images: Sequence[Any], places: Sequence[int]) -> Tensor:
        """The features of images, float32 [1, images, patches, width], as training read them from files.

        `places` are their numbers in messages. Raises InputError for one that is missing or cannot be decoded.
        """
        from ept.vision.image import decode

        for image, place in zip(images, places, strict=True):
            if image is None:
                raise InputError(f"text {place} has no image; pass one in images, or in the column {self.column!r}")
        images = [decode(image, f"image {place}") for image, place in zip(images, places, strict=True)]
        # Files hold float16.
        return self.encoder.encode(images).half().float()[None]

    def reading(self, output: PromptOutput, stored: Mapping[str, Tensor]) -> PromptOutput:
        """What a saved prompt adds, which now reads images; `stored` are its tensors, without a runs axis."""
        own = None if self.input.projection is not None else stored[PROJECTION].to(output.prompt.device)[None]
        return replace(output, projection=own, images=self.input)


def read_projection(folder: Path) -> Tensor | None:
    """The projection in an encoder's safetensors files, float32 [width + 1, hidden] with the bias last.

    None where they have none. Raises InputError for a damaged file.
    """
    names = [f"{PROJECTION}.weight", f"{PROJECTION}.bias"]
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                if set(names) <= set(file.keys()):
                    weight, bias = (file.get_tensor(name).float() for name in names)
                    return torch.cat([weight.T, bias[None]])
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"{path} is damaged or not a safetensors file ({error}); restore it") from error
    return None


def starting_projections(folder: Path | None, embedding: Tensor, width: int, seeds: Sequence[int]) -> Tensor:
    """Where the trained projections of runs start, float32 [runs, width + 1, hidden] on the embeddings' device.

    [ours] From the encoder's own, where it has one of this size. Otherwise random numbers with which features of
    variance 1 become as large as embeddings, and no bias.

    Args:
        folder: The encoder's files, or None.
        embedding: The backbone's word embeddings [vocab, hidden].
        width: Features of a patch.
        seeds: Of the runs.
    """
    hidden, aligned = embedding.shape[1], None if folder is None else read_projection(folder)
    if aligned is not None and aligned.shape == (width + 1, hidden):
        return aligned.to(embedding.device).repeat(len(seeds), 1, 1)
    scale = embedding_rms(embedding) / width**0.5
    starts = torch.zeros(len(seeds), width + 1, hidden)
    for start, seed in zip(starts, seeds, strict=True):
        drawn = np.random.default_rng((_STREAM, seed)).standard_normal((width, hidden), dtype=np.float32)
        start[:-1] = scale * torch.from_numpy(drawn)
    return starts.to(embedding.device)


def frozen_projection(folder: Path | None, embedding: Tensor, width: int) -> Tensor:
    """The encoder's own projection [1, width + 1, hidden]; raises InputError where it does not fit the backbone.

    Arguments as those of `starting_projections`.
    """
    hidden, aligned = embedding.shape[1], None if folder is None else read_projection(folder)
    if aligned is None or aligned.shape != (width + 1, hidden):
        found = "no projection" if aligned is None else f"a projection {len(aligned) - 1} -> {aligned.shape[1]}"
        raise InputError(
            f"{folder or 'the encoder'} has {found}, but vision.projection frozen needs {width} -> {hidden}; set it to "
            "trained, or use an encoder that was aligned with this backbone"
        )
    return aligned.to(embedding.device)[None]
