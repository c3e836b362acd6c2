"""Tokenized splits mapped into memory, and the batches made of them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ept.errors import InputError

METADATA_KEY = b"ept"


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right: `input_ids` and `attention_mask` (1 at pieces, 0 at padding) [rows, length],
    `target_ids` [rows, target_length] with -100 at padding; all int64."""

    input_ids: Tensor
    attention_mask: Tensor
    target_ids: Tensor

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on another device."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self._tensors()))

    def slice(self, start: int, stop: int) -> "Batch":
        """Rows `start` to `stop`, without a copy."""
        return Batch(*(tensor[start:stop] for tensor in self._tensors()))

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.input_ids, self.attention_mask, self.target_ids


class Texts(Sequence):
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
    """One split as `ept.data.tokenize.write_tokens` wrote it; numbers are views of the mapped file.

    `lengths` and `target_lengths` [rows] int32: pieces of each source and label; `labels` [rows] float64: class index,
    raw score, or NaN; `ids` and `groups`: sequences of text; `metadata`: task, split, split_rule, source,
    source_length, rows_published_train, truncated, pad_id, fingerprint. Raises InputError for a file that is missing,
    torn or of another kind.
    """

    def __init__(self, path: str | Path) -> None:
        batch, self.metadata = _read(Path(path))
        self.fingerprint: str = self.metadata["fingerprint"]
        self.ids, self.groups = Texts(batch.column("id")), Texts(batch.column("group"))
        self.labels = batch.column("label").to_numpy()
        self._answers = batch.column("answers")
        self._inputs, self._targets = _Lists(batch.column("input_ids")), _Lists(batch.column("target_ids"))
        self.lengths, self.target_lengths = self._inputs.lengths, self._targets.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def answers(self, row: int) -> list[str]:
        """All gold answers of a row (extraction), else none."""
        return self._answers[int(row)].as_py()

    def collate(self, rows: np.ndarray, length: int | None = None) -> Batch:
        """The rows as one batch, padded to their longest or to `length`, which must not be shorter."""
        input_ids, mask = self._inputs.padded(rows, length, self.metadata["pad_id"])
        target_ids, _ = self._targets.padded(rows, None, -100)
        return Batch(torch.from_numpy(input_ids), torch.from_numpy(mask), torch.from_numpy(target_ids))


class _Lists:
    """A column of lists of numbers as two arrays: where each begins, and all values."""

    def __init__(self, column: pa.ListArray) -> None:
        self._offsets = column.offsets.to_numpy()
        self._values = column.values.to_numpy()
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


def _read(path: Path) -> tuple[pa.RecordBatch, dict]:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; make it with `ept tokenize`")
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batch = reader.get_batch(0)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: this is not a whole Arrow file; remove it and make it again") from error
    try:
        metadata = json.loads((reader.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    except ValueError:
        metadata = {}
    if "fingerprint" not in metadata:
        raise InputError(f"{path}: this file was not written by `ept tokenize`; remove it and make it again")
    return batch, metadata
