"""Features of a task's images on disk: computed once for each image, mapped into memory for training."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ept.data.arrow import Parquet
from ept.errors import InputError
from ept.files import content_digest, digest, parse_json, sha256_file, write_folder_atomically, write_json
from ept.tasks.record import Task
from ept.vision.encoder import Encoder
from ept.vision.image import decode

FEATURES, INDEX, MANIFEST = "features.npy", "index.npy", "manifest.json"
AT_ONCE = 64
"""Images of one forward pass."""


class VisualFeatures:
    """The features of a published split's images, mapped into memory.

    Attributes:
        patches: Features of an image.
        width: Numbers of a feature.
    """

    def __init__(self, features: np.ndarray, index: np.ndarray) -> None:
        """`features` [images, patches, width], float16; `index` [rows] has the image of each row."""
        self._features, self._index = features, index
        self.patches, self.width = features.shape[1:]

    def __len__(self) -> int:
        return len(self._index)

    @classmethod
    def open(cls, folder: str | Path) -> "VisualFeatures":
        """The features that `write_features` wrote to a folder. Raises InputError where they are missing or damaged."""
        folder = Path(folder)
        remedy = f"remove {folder.parent} and run `ept visual-features` again"
        if not (folder / MANIFEST).is_file():
            raise InputError(f"{folder / MANIFEST}: there is no such file; make it with `ept visual-features`")
        try:
            values = parse_json((folder / MANIFEST).read_bytes())
            found, digests = values.pop("digest"), values["sha256"]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise InputError(f"{folder / MANIFEST}: damaged, or written by something else; {remedy}") from error
        if found != digest(values):
            raise InputError(f"{folder / MANIFEST}: damaged, its digest does not match its content; {remedy}")
        for name in (FEATURES, INDEX):
            if not (folder / name).is_file() or content_digest(folder / name) != digests[name]:
                raise InputError(f"{folder / name}: missing or damaged; {remedy}")
        return cls(np.load(folder / FEATURES, mmap_mode="r"), np.load(folder / INDEX))

    def rows(self, indices: np.ndarray) -> Tensor:
        """The features of the images of these rows, float32 [rows, patches, width]."""
        return torch.from_numpy(self._features[self._index[indices]].astype(np.float32))


class RowFeatures:
    """The features of the rows of a tokenized split, which are rows of published splits.

    Attributes:
        patches: Features of an image.
    """

    def __init__(self, folder: Path, ids: Iterable[str]) -> None:
        """`folder` as `write_features` wrote it, `ids` "<published split>:<row>" of each row.

        Raises InputError where the features of a published split are missing or damaged, or have fewer rows.
        """
        places = [id_.rpartition(":") for id_ in ids]
        names = sorted({name for name, _, _ in places})
        self._parts = [VisualFeatures.open(folder / name) for name in names]
        self._part = np.array([names.index(name) for name, _, _ in places])
        self._row = np.array([int(row) for _, _, row in places])
        self.patches = self._parts[0].patches
        for number, part in enumerate(self._parts):
            if (most := self._row[self._part == number].max()) >= len(part):
                raise InputError(
                    f"{folder / names[number]} has {len(part)} rows, but row {most} is needed; remove {folder} and "
                    "run `ept visual-features` again"
                )

    def rows(self, indices: np.ndarray) -> Tensor:
        """The features of the images of these rows, float32 [rows, patches, width]."""
        part, row = self._part[indices], self._row[indices]
        found = torch.empty(len(indices), self.patches, self._parts[0].width)
        for number, features in enumerate(self._parts):
            if (own := part == number).any():
                found[torch.from_numpy(own)] = features.rows(row[own])
        return found


def write_features(task: Task, raw_folder: Path, splits: list[str], folder: Path, encoder: Encoder) -> None:
    """Encode every image of a task's published splits and write <folder>/<split>.

    The folder appears complete or not at all. An image that several rows share, by its bytes, is encoded once. Memory
    does not grow with the number of images.

    Args:
        task: A task with images.
        raw_folder: Its published splits as `ept.data.fetch.fetch` wrote them.
        splits: Their names.
        folder: Where the features go.
        encoder: The frozen encoder.

    Raises:
        InputError: A file is missing, an image cannot be decoded (with its row), or features are not finite.
    """
    with write_folder_atomically(folder) as temporary:
        for split in splits:
            (temporary / split).mkdir()
            _write_split(task, raw_folder / f"{split}.parquet", temporary / split, encoder)


def _write_split(task: Task, path: Path, folder: Path, encoder: Encoder) -> None:
    numbers: dict[bytes, int] = {}
    index = np.array(
        [numbers.setdefault(hashlib.sha256(image).digest(), len(numbers)) for image in _images(task, path)], np.int32
    )
    shape = (len(numbers), encoder.patches, encoder.width)
    features = np.lib.format.open_memmap(folder / FEATURES, "w+", np.float16, shape)
    first_rows = np.unique(index, return_index=True)[1]
    wanted = ((row, image) for row, image in enumerate(_images(task, path)) if first_rows[index[row]] == row)
    # Images are numbered in the order of their first rows.
    for start, batch in _batches(wanted):
        images = [decode(image, f"{path}: the image of row {row}") for row, image in batch]
        found = encoder.encode(images)
        if not found.isfinite().all() or found.abs().max() > np.finfo(np.float16).max:
            raise InputError(f"{path}: the encoder gives numbers for rows {batch[0][0]} and later that are not finite")
        features[start : start + len(batch)] = found.half().numpy()
    features.flush()
    np.save(folder / INDEX, index)
    values = {
        "task": task.name,
        "rows": len(index),
        "images": len(numbers),
        "patches": encoder.patches,
        "width": encoder.width,
        "sha256": {name: sha256_file(folder / name) for name in (FEATURES, INDEX)},
    }
    write_json(folder / MANIFEST, {**values, "digest": digest(values)})


def _images(task: Task, path: Path) -> Iterator[bytes]:
    """The encoded image of each row."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; make it with `ept fetch --task {task.name}`")
    for batch in Parquet(path, str(path)).batches([str(task.image)]):
        for value in batch.column(0):
            yield value.as_py()


def _batches(images: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, list[tuple[int, bytes]]]]:
    """Images with their rows, AT_ONCE at a time, and how many came before."""
    start, waiting = 0, list[tuple[int, bytes]]()
    for image in images:
        waiting.append(image)
        if len(waiting) == AT_ONCE:
            yield start, waiting
            start, waiting = start + AT_ONCE, []
    if waiting:
        yield start, waiting
