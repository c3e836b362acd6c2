"""Tokenized splits mapped into memory, and the batches made of them."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ept.errors import InputError

METADATA_KEY = b"ept"
DIGEST, NO_DIGEST = "sha256", "0" * 64
# As canonical JSON writes it.
_ENTRY = f'"{DIGEST}":"'.encode()
# Arrow's copies of the metadata are nearer to the ends of a file than this.
_END_BYTES = 2**16
_CHUNK_BYTES = 2**22


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right.

    Attributes:
        input_ids: Pieces of the source, int64 [rows, length].
        attention_mask: 1 at pieces and 0 at padding, int64 [rows, length].
        target_ids: Pieces of the label, -100 at padding, int64 [rows, target_length].
        features: Of the image of each row, float32 [rows, patches, width]; None for a task without images.
    """

    input_ids: Tensor
    attention_mask: Tensor
    target_ids: Tensor
    features: Tensor | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on another device."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self._tensors()))

    def slice(self, start: int, stop: int) -> "Batch":
        """Rows `start` to `stop`, without a copy."""
        return Batch(*(tensor[start:stop] for tensor in self._tensors()))

    def features_of(self, runs: int) -> Tensor | None:
        """The features [runs, rows of a run, patches, width] of a batch that holds the rows of several runs."""
        return None if self.features is None else self.features.view(runs, -1, *self.features.shape[1:])

    def _tensors(self) -> tuple[Tensor, ...]:
        found = (self.input_ids, self.attention_mask, self.target_ids)
        return found if self.features is None else (*found, self.features)


class ImageFeatures(Protocol):
    """The features of the images of a split, as an encoder has computed them."""

    @property
    def patches(self) -> int:
        """Positions of an image."""

    def rows(self, indices: np.ndarray) -> Tensor:
        """The features of these rows of the split, float32 [rows, patches, width]."""


class Texts:
    """A column of texts that become Python strings one by one."""

    def __init__(self, column: pa.StringArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: int) -> str:
        return self._column[int(row)].as_py()

    def __iter__(self) -> Iterator[str]:
        return (text.as_py() for text in self._column)


class TokenizedSplit:
    """One split as `ept.data.prepare.write_tokens` wrote it; numbers are views of the mapped file.

    Opening it reads the file once and compares its digest.

    Attributes:
        lengths: Pieces of each source, int32 [rows].
        target_lengths: Pieces of each label, int32 [rows].
        labels: Class index, raw score, or NaN (extraction), float64 [rows].
        ids: "<published split>:<row>" of each row.
        groups: Of tasks whose rows are scored together, the values of `Task.groups` joined by "/"; else "".
            MultiRC's are "<paragraph>/<question>".
        metadata: task, split, split_rule, source, source_length, rows_published_train, truncated, pad_id,
            fingerprint, sha256.
        fingerprint: SHA-256 of the content of all columns, whatever their layout in the file.
        features: Of the rows' images, set by whoever trains on them; None for a task without images.

    Raises:
        InputError: For a file that is missing, damaged or of another kind.
    """

    def __init__(self, path: str | Path) -> None:
        self.features: ImageFeatures | None = None
        batch, self.metadata = _read(Path(path))
        self.fingerprint: str = self.metadata["fingerprint"]
        self.ids, self.groups = Texts(batch.column("id")), Texts(batch.column("group"))
        self.labels = _numbers(batch.column("label"))
        self._answers = batch.column("answers")
        self._inputs, self._targets = _Lists(batch.column("input_ids")), _Lists(batch.column("target_ids"))
        self.lengths, self.target_lengths = self._inputs.lengths, self._targets.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def patches(self) -> int:
        """Positions of an image, which follow the text; 0 for a task without images."""
        return 0 if self.features is None else self.features.patches

    def answers(self, row: int) -> list[str]:
        """All gold answers of a row (extraction), else none."""
        return self._answers[int(row)].as_py()

    def collate(self, rows: np.ndarray, length: int | None = None) -> Batch:
        """The rows as one batch, padded to their longest or to `length`, which must not be shorter."""
        input_ids, mask = self._inputs.padded(rows, length, self.metadata["pad_id"])
        target_ids, _ = self._targets.padded(rows, None, -100)
        features = None if self.features is None else self.features.rows(rows)
        return Batch(torch.from_numpy(input_ids), torch.from_numpy(mask), torch.from_numpy(target_ids), features)


class _Lists:
    """A column of lists of numbers as two arrays: where each list begins, and all values."""

    def __init__(self, column: pa.ListArray) -> None:
        self._offsets = _numbers(column.offsets)
        self._values = _numbers(column.values)
        self.lengths = np.diff(self._offsets)

    def padded(self, rows: np.ndarray, length: int | None, padding: int) -> tuple[np.ndarray, np.ndarray]:
        """Values [rows, length] and mask [rows, length], both int64."""
        lengths = self.lengths[rows]
        longest = int(lengths.max())
        if length is not None and length < longest:
            raise ValueError(f"rows of up to {longest} pieces do not fit length {length}")
        places = np.arange(longest if length is None else length)
        mask = places < lengths[:, None]
        # Padding reads the first value of its row: any index that exists would do.
        indices = self._offsets[rows][:, None] + np.where(mask, places, 0)
        values = np.where(mask, self._values[indices], padding)
        return values.astype(np.int64), mask.astype(np.int64)


def _numbers(column: pa.Array) -> np.ndarray:
    """A column without nulls as a view. Its own `to_numpy` would import pandas, for a third of a second."""
    return np.from_dlpack(column)


def seal(path: Path) -> None:
    """Put a file's digest into the two places that hold NO_DIGEST: Arrow writes metadata at both ends."""
    with path.open("r+b") as file:
        places = _places(file, NO_DIGEST.encode())
        found = _digest(file, places)
        for place in places:
            file.seek(place)
            file.write(found)


def _is_sound(path: Path) -> bool:
    """Whether `seal` has sealed a file and no byte has changed since."""
    with path.open("rb") as file:
        found = re.search(re.escape(_ENTRY) + rb"([0-9a-f]{64})", file.read(_END_BYTES))
        return found is not None and _digest(file, _places(file, found[1])) == found[1]


def _places(file: BinaryIO, digest: bytes) -> list[int]:
    """Where `digest` stands as the digest, first and last."""
    entry = _ENTRY + digest
    file.seek(0)
    first = file.read(_END_BYTES).find(entry)
    start = max(0, file.seek(0, 2) - _END_BYTES)
    file.seek(start)
    last = file.read().rfind(entry)
    return sorted({place + len(_ENTRY) for place in (first, start + last if last >= 0 else -1) if place >= 0})


def _digest(file: BinaryIO, places: list[int]) -> bytes:
    """The SHA-256 of a file, in hexadecimal, with NO_DIGEST at `places`."""
    digest, size = hashlib.sha256(), file.seek(0, 2)
    position = file.seek(0)
    for place in (*places, size):
        while part := file.read(min(_CHUNK_BYTES, place - position)):
            digest.update(part)
            position += len(part)
        if place < size:
            digest.update(NO_DIGEST.encode())
            position = file.seek(place + len(NO_DIGEST))
    return digest.hexdigest().encode()


def _read(path: Path) -> tuple[pa.RecordBatch, dict]:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; make it with `ept tokenize`")
    if not path.stat().st_size or not _is_sound(path):
        raise InputError(f"{path}: damaged, or not written by `ept tokenize`; remove it and tokenize the task again")
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    return reader.get_batch(0), json.loads(reader.schema.metadata[METADATA_KEY])
