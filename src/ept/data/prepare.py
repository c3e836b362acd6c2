"""Splits as tokenized Arrow files, one record batch each, which training maps into memory."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ept.data.dataset import METADATA_KEY
from ept.data.fetch import read_raw
from ept.data.tokenizer import Pieces, load_pieces
from ept.errors import InputError
from ept.files import canonical_json, write_atomically
from ept.tasks.record import Example, Task

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "group": pa.string(),
        "input_ids": pa.list_(pa.int32()),
        "target_ids": pa.list_(pa.int32()),
        "label": pa.float64(),
        "answers": pa.list_(pa.string()),
    }
)
# Rows that are Python objects at one time.
_CHUNK = 2000


def tokenize_task(
    task: Task,
    raw_folder: Path,
    tokenizer_folder: str | Path,
    source_length: int,
    out_folder: Path,
    source_identity: str,
) -> None:
    """Split and tokenize what `raw_folder` holds into `out_folder`/{train,validation,test}.arrow.

    `source_length` is the longest source in pieces, with `</s>` or what else stands round a text. Raises InputError
    for missing or torn files, a tokenizer that does not fit, and rows that contradict themselves.
    """
    pieces = load_pieces(tokenizer_folder, task.cue)
    published = read_raw(task, Path(raw_folder))
    parts, rule = split(task, published)
    common = {
        "task": task.name,
        "split_rule": rule,
        "source": source_identity,
        "source_length": source_length,
        "rows_published_train": published["train"].num_rows,
        "pad_id": pieces.pad_id,
    }
    batches = {name: tokenize_table(task, table, pieces, source_length) for name, table in parts.items()}
    for name, (batch, truncated) in batches.items():
        metadata = {**common, "split": name, "truncated": truncated}
        write_tokens(Path(out_folder) / f"{name}.arrow", batch, metadata)


def tokenize_table(task: Task, table: pa.Table, pieces: Pieces, source_length: int) -> tuple[pa.RecordBatch, int]:
    """One split's rows with columns SCHEMA, and how many sources were cut.

    `table` has the published columns and `row` (ept.data.source.read_raw). Cut sources keep what stands round a
    text (`</s>`).
    """
    chunks, truncated = [], 0
    for ids, examples in _chunks(task, table):
        sources, cut = pieces.sources([example.source for example in examples], source_length)
        truncated += cut
        columns = {
            "id": ids,
            "group": [example.group for example in examples],
            "input_ids": sources,
            "target_ids": [pieces.label(example.target) for example in examples],
            "label": np.array([example.label for example in examples], dtype=np.float64),
            "answers": [example.answers for example in examples],
        }
        chunks.append(pa.table(columns, schema=SCHEMA))
    (batch,) = pa.concat_tables(chunks).combine_chunks().to_batches()
    return batch, truncated


def _chunks(task: Task, table: pa.Table) -> Iterator[tuple[list[str], list[Example]]]:
    """Row ids and examples of a table, some rows at a time."""
    for chunk in table.to_batches(max_chunksize=_CHUNK):
        ids = chunk.column("row").to_pylist()
        yield ids, [_example(task, row) for row in chunk.to_pylist()]


def _example(task: Task, row: dict[str, Any]) -> Example:
    try:
        return task.example(row)
    except InputError as error:
        name, number = row["row"].split(":")
        raise InputError(f"{task.name}, {name} split, row {number}: {error}") from error


def write_tokens(path: str | Path, batch: pa.RecordBatch, metadata: dict[str, Any]) -> None:
    """Write one split atomically as an Arrow IPC file; its fingerprint joins the metadata."""
    record = {**metadata, "fingerprint": fingerprint(batch)}
    schema = batch.schema.with_metadata({METADATA_KEY: canonical_json(record)})
    with write_atomically(path) as temporary, pa.ipc.new_file(str(temporary), schema) as writer:
        writer.write_batch(batch.replace_schema_metadata(schema.metadata))


def fingerprint(batch: pa.RecordBatch) -> str:
    """The SHA-256, in hexadecimal, over the names and the content of all columns."""
    digest = hashlib.sha256()
    for name in batch.schema.names:
        digest.update(f"\0{name}\0{batch.num_rows}\0".encode())
        _digest_array(digest, batch.column(name))
    return digest.hexdigest()


def _digest_array(digest: Any, array: pa.Array) -> None:
    """Feed values and the lengths that hold them apart; not Arrow's buffers, whose slack is not content."""
    if pa.types.is_list(array.type):
        digest.update(np.ascontiguousarray(array.value_lengths().to_numpy()).tobytes())
        _digest_array(digest, array.flatten())
    elif pa.types.is_string(array.type):
        for text in array.to_pylist():
            encoded = text.encode()
            digest.update(len(encoded).to_bytes(4, "little") + encoded)
    else:
        digest.update(np.ascontiguousarray(array.to_numpy()).tobytes())


SPLIT_SEED = 42
CARVED_ROWS = 1000


def split(task: Task, published: dict[str, pa.Table]) -> tuple[dict[str, pa.Table], str]:
    """{"train", "validation", "test"} and the name of the rule that made them.

    halve: the validation split in permuted order, first half validation, second half test; tasks with groups
    permute those (multirc: paragraphs) and cut where the rows come closest to halves. carve: the first
    min(1000, n // 4) permuted training rows are validation, the published validation is the test split.
    mismatched (MNLI): validation = mismatched, test = matched; without the mismatched part, carve. Hidden
    test sets are never used. Raises InputError where a part would be empty.
    """
    train, validation = published["train"], published.get("validation", published.get("validation_matched"))
    if "validation_mismatched" in published:
        parts = {"train": train, "validation": published["validation_mismatched"], "test": validation}
        return parts, "mismatched"
    if task.split == "halve":
        first, second = _halve(task, validation)
        return _refuse_empty(task, {"train": train, "validation": first, "test": second}), "halve"
    order, carved = permutation(train.num_rows), min(CARVED_ROWS, train.num_rows // 4)
    parts = {
        "train": train.take(order[carved:]),
        "validation": train.take(order[:carved]),
        "test": validation,
    }
    return _refuse_empty(task, parts), "carve"


def permutation(size: int) -> np.ndarray:
    """The permutation [size] behind the published halves; only this call gives them."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(SPLIT_SEED)).numpy()


def _halve(task: Task, table: pa.Table) -> tuple[pa.Table, pa.Table]:
    if not task.groups:
        order = permutation(table.num_rows)
        half = len(order) // 2
        return table.take(order[:half]), table.take(order[half:])
    groups = np.array([row[task.groups[0]] for row in table.column("idx").to_pylist()])
    # Numbered in the order of the file, whatever the groups' own numbers are.
    _, first_rows, numbers = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(first_rows)[permutation(len(first_rows))]
    rows = [np.flatnonzero(numbers == group) for group in order]
    # Groups differ in size: cut where the halves come closest to equal numbers of rows.
    before = np.cumsum([0] + [len(part) for part in rows])
    half = int(np.abs(before - table.num_rows / 2).argmin())
    rows = np.concatenate(rows)
    return table.take(rows[: before[half]]), table.take(rows[before[half] :])


def _refuse_empty(task: Task, parts: dict[str, pa.Table]) -> dict[str, pa.Table]:
    for name, table in parts.items():
        if not table.num_rows:
            raise InputError(f"{task.name}: the published splits have too few rows for a {name} split; use larger ones")
    return parts
