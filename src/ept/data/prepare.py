"""Splits as tokenized Arrow files, one record batch each, which training maps into memory."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from ept.data.arrow import GrowingColumn, as_numpy, column_of
from ept.data.check import row_bytes
from ept.data.dataset import DIGEST, METADATA_KEY, NO_DIGEST, seal
from ept.data.fetch import read_raw
from ept.data.own import LOG, shared_rows
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
# Rows that are Python objects at one time, and about how many bytes of text these have.
_CHUNK = 2000
_CHUNK_BYTES = 2**22
# [ours] The share of a split's rows that may have no answer in their passages.
MOST_MISSING = 0.1


def tokenize_task(
    task: Task,
    raw_folder: Path,
    tokenizer_folder: str | Path,
    source_length: int,
    out_folder: Path,
    source_identity: str,
    test_rows: int | None = None,
) -> None:
    """Split and tokenize what `raw_folder` holds into `out_folder`/{train,validation,test}.arrow.

    Args:
        task: The task.
        raw_folder: The folder that `ept.data.fetch.fetch` wrote; its digests are checked.
        tokenizer_folder: The backbone's folder.
        source_length: The longest source in pieces, including `</s>` or whatever else surrounds a text.
        out_folder: Where the three files go.
        source_identity: The identity of the data (`ept.data.source.identity`), for the metadata.
        test_rows: How many rows of the test split are kept (`sampled`); None for all.

    Raises:
        InputError: For missing or damaged files, a tokenizer that does not fit, and rows that contradict themselves.
    """
    pieces = load_pieces(tokenizer_folder, task.cue)
    published = read_raw(task, Path(raw_folder))
    parts, rule = split(task, published)
    all_test = len(parts["test"])
    if test_rows is not None:
        parts["test"] = sampled(task, published, parts["test"], test_rows)
    common: dict[str, Any] = {
        "task": task.name,
        "split_rule": rule,
        "source": source_identity,
        "source_length": source_length,
        "rows_published_train": published["train"].num_rows,
        "pad_id": pieces.pad_id,
    }
    if task.own:
        common["shared_rows"] = _shared(task, published, parts)
    # All are complete before the first is written.
    batches = {
        name: tokenize_table(task, published[rows.split], rows, pieces, source_length) for name, rows in parts.items()
    }
    if len(parts["test"]) < all_test:
        batches["test"][1]["sampled_from"] = all_test
    for name, (batch, counts) in batches.items():
        if counts.get("answers_cut") or counts.get("answers_missing"):
            LOG.warning(
                "%s: of %d %s rows %d lose every answer to the cut at %d pieces, and %d have none in their %s; all are "
                "kept and scored",
                task.name,
                batch.num_rows,
                name,
                counts["answers_cut"],
                source_length,
                counts["answers_missing"],
                task.passage,
            )
        write_tokens(Path(out_folder) / f"{name}.arrow", batch, {**common, "split": name, **counts})


def _shared(task: Task, published: dict[str, pa.RecordBatch], parts: dict[str, "Rows"]) -> dict[str, int]:
    """How many test rows occur in the training rows; a warning says so where there are any."""
    train, test = (_read_rows(task, published, parts[name]) for name in ("train", "test"))
    shared = shared_rows(task, train, test)
    if any(shared.values()):
        LOG.warning(
            "%s: of %d test rows %d occur in the training rows exactly, and %d more up to case and blanks; scores on "
            "them say little about new rows",
            task.name,
            len(parts["test"]),
            shared["exact"],
            shared["nearly"],
        )
    return shared


def _read_rows(task: Task, published: dict[str, pa.RecordBatch], rows: "Rows") -> Iterator[dict[str, Any]]:
    for _, chunk in _chunks(published[rows.split].select(list(task.columns)), rows.numbers):
        yield from chunk


def _chunks(table: pa.RecordBatch | pa.Table, numbers: np.ndarray) -> Iterator[tuple[np.ndarray, list[dict[str, Any]]]]:
    """Rows of a table as Python objects, with their numbers, a few at a time: texts may have a megabyte each."""
    table = table.combine_chunks() if isinstance(table, pa.Table) else table
    columns = [column.chunk(0) if isinstance(column, pa.ChunkedArray) else column for column in table.columns]
    # A part at a time, because each takes several arrays of its length.
    sizes = np.concatenate(
        [
            np.sum([row_bytes(column.slice(start, _CHUNK)) for column in columns], axis=0)
            for start in range(0, max(1, table.num_rows), _CHUNK)
        ]
    )[numbers]
    start = 0
    while start < len(numbers):
        within = np.searchsorted(np.cumsum(sizes[start : start + _CHUNK]), _CHUNK_BYTES, side="right")
        some = numbers[start : start + max(1, int(within))]
        yield some, table.take(column_of(some)).to_pylist()
        start += len(some)


@dataclass(frozen=True)
class Rows:
    """Rows of a published split: its name, and their numbers [rows] in order."""

    split: str
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)


def tokenize_table(
    task: Task, table: pa.RecordBatch | pa.Table, rows: Rows, pieces: Pieces, source_length: int
) -> tuple[pa.RecordBatch, dict[str, int]]:
    """Tokenize some rows of a published split.

    Args:
        task: The task.
        table: The whole published split, with the columns of `ept.data.check.raw_schema`.
        rows: Which of its rows, in which order.
        pieces: How the backbone's family writes texts and labels.
        source_length: The longest source in pieces. What surrounds a text (`</s>`) is never cut.

    Returns:
        One record batch with columns SCHEMA (`id` is "<split>:<row>"), and counts of rows: `truncated`, whose source
        was cut, and for answers that are read off a passage `answers_cut`, whose every answer was cut off, and
        `answers_missing`, whose passage has none of them.

    Raises:
        InputError: For a row that contradicts itself, for answers that are mostly not in their passages, and for pieces
            that the backbone has no embedding of.
    """
    columns, counts = {field.name: GrowingColumn(field.type) for field in SCHEMA}, {"truncated": 0}
    answers = AnswerCheck(task, rows.split) if task.kind == "extraction" and task.passage else None
    for numbers, found in _chunks(table, rows.numbers):
        examples = [
            _example(task, row, f"{rows.split} split, row {number}") for number, row in zip(numbers, found, strict=True)
        ]
        labels = {target: pieces.label(target) for target in {example.target for example in examples}}
        sources, cut = pieces.sources([example.source for example in examples], source_length)
        counts["truncated"] += cut
        if answers:
            answers.count(found, examples, numbers, sources, pieces, source_length)
        chunk: dict[str, list[Any]] = {
            "id": [f"{rows.split}:{number}" for number in numbers],
            "group": [example.group for example in examples],
            "input_ids": pieces.checked(sources),
            "target_ids": pieces.checked([labels[example.target] for example in examples]),
            "label": [example.label for example in examples],
            "answers": [example.answers for example in examples],
        }
        for name, column in columns.items():
            column.append(chunk[name])
    batch = pa.RecordBatch.from_arrays([column.array() for column in columns.values()], schema=SCHEMA)
    return batch, counts | (answers.checked() if answers else {})


class AnswerCheck:
    """Counts rows of a split whose answers cannot be read: none is in the passage, or the cut took all of them.

    A few such rows are the data set's own (HotpotQA has "yes" and "no"); where there are more than MOST_MISSING, the
    columns do not belong together.
    """

    def __init__(self, task: Task, split: str) -> None:
        self._task, self._split = task, split
        self._rows = self._missing = self._cut = 0
        self._first: int | None = None

    def count(
        self,
        rows: list[dict[str, Any]],
        examples: list[Example],
        numbers: np.ndarray,
        sources: list[list[int]],
        pieces: Pieces,
        source_length: int,
    ) -> None:
        """Look at some rows with the examples and the pieces that they became; `numbers` are theirs in the split."""
        beginnings = []
        for row, example, number, source in zip(rows, examples, numbers, sources, strict=True):
            passage = _plain(row[self._task.passage])
            wanted = [_plain(answer) for answer in example.answers]
            if not any(answer in passage for answer in wanted):
                self._missing += 1
                self._first = int(number) if self._first is None else self._first
            elif len(source) >= source_length:
                # The passage ends the source: the part up to the first answer must fit.
                text = example.source.lower()
                start = max(0, len(text) - len(row[self._task.passage]))
                ends = [at + len(answer) for answer in example.answers if (at := text.find(answer.lower(), start)) >= 0]
                beginnings += [example.source[: min(ends)]] if ends else []
        self._rows += len(rows)
        self._cut += pieces.sources(beginnings, source_length)[1] if beginnings else 0

    def checked(self) -> dict[str, int]:
        """The counts. Raises InputError where too many rows have no answer in their passage."""
        if self._missing > MOST_MISSING * self._rows:
            raise InputError(
                f"{self._task.name}, {self._split} split: {self._missing} of {self._rows} rows, the first of them row "
                f"{self._first}, have no answer that occurs in the column {self._task.passage!r}; check that answers "
                "and passages belong together"
            )
        return {"answers_cut": self._cut, "answers_missing": self._missing}


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _example(task: Task, row: dict[str, Any], where: str) -> Example:
    try:
        return task.example(row)
    except InputError as error:
        raise InputError(f"{task.name}, {where}: {error}") from error


def write_tokens(path: str | Path, batch: pa.RecordBatch, metadata: dict[str, Any]) -> None:
    """Write one split atomically as an Arrow IPC file; the fingerprint of its content and its digest join the metadata.

    The digest is the SHA-256 of the file with 64 zeros in its own place, so that a reader can check every byte.
    """
    record = {**metadata, "fingerprint": fingerprint(batch), DIGEST: NO_DIGEST}
    schema = batch.schema.with_metadata({METADATA_KEY: canonical_json(record)})
    with write_atomically(path) as temporary:
        with pa.ipc.new_file(str(temporary), schema) as writer:
            writer.write_batch(batch.replace_schema_metadata(schema.metadata))
        seal(temporary)


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
        digest.update(as_numpy(array.value_lengths()))
        _digest_array(digest, array.flatten())
    elif pa.types.is_string(array.type):
        for start in range(0, len(array), _CHUNK):
            encoded = [text.encode() for text in array.slice(start, _CHUNK).to_pylist()]
            digest.update(b"".join(len(text).to_bytes(4, "little") + text for text in encoded))
    else:
        digest.update(as_numpy(array))


SPLIT_SEED = 42
CARVED_ROWS = 1000


def split(task: Task, published: dict[str, pa.RecordBatch]) -> tuple[dict[str, Rows], str]:
    """Decide which published rows are for training, validation and test.

    halve: the validation split in permuted order, first half validation, second half test; tasks with groups
    permute those (MultiRC: paragraphs) and cut where the rows come closest to halves. carve: the first
    min(1000, n // 4) permuted training rows are validation, the published validation is the test split; a task with a
    passage permutes passages, so that validation and training share none, and cuts where the rows come closest.
    mismatched (MNLI): validation = mismatched, test = matched; without the mismatched part, carve. published: all
    three as they are published. Hidden test sets are never used. own: the splits that a task of one's own has, and each
    missing one is min(1000, n // 4) permuted training rows, the test split first. `Task.test_split` names another split
    than validation for halve and carve; `Task.most_train` limits the training rows that carve leaves.

    Args:
        task: The task.
        published: Its published splits by name.

    Returns:
        {"train", "validation", "test"} and the name of the rule.

    Raises:
        InputError: Where a part would be empty.
    """
    whole = {name: Rows(name, np.arange(table.num_rows)) for name, table in published.items()}
    if task.split == "own":
        return _own_split(task, whole)
    if task.split == "published":
        return _refuse_empty(task, whole), "published"
    test = whole[task.test_split if task.test_split in whole else "validation_matched"]
    if "validation_mismatched" in published:
        return {"train": whole["train"], "validation": whole["validation_mismatched"], "test": test}, "mismatched"
    if task.split == "halve":
        first, second = _cut(len(test), _groups(task, published, test), len(test) / 2)
        parts = {"train": whole["train"], "validation": Rows(test.split, first), "test": Rows(test.split, second)}
        return _refuse_empty(task, parts), "halve"
    count = min(CARVED_ROWS, len(whole["train"]) // 4)
    together = published["train"].column(task.passage) if task.passage else None
    first, second = _cut(len(whole["train"]), together, count)
    second = second[: task.most_train or None]
    parts = {"train": Rows("train", second), "validation": Rows("train", first), "test": test}
    return _refuse_empty(task, parts), "carve"


def _own_split(task: Task, given: dict[str, Rows]) -> tuple[dict[str, Rows], str]:
    """The splits that are given, the missing ones carved from training; the rule says which."""
    missing = [name for name in ("test", "validation") if name not in given]
    if not missing:
        return _refuse_empty(task, given), "given"
    rows = len(given["train"])
    count = min(CARVED_ROWS, rows // 4)
    order = permutation(rows)
    parts = {name: Rows("train", order[place * count : (place + 1) * count]) for place, name in enumerate(missing)}
    train = Rows("train", order[len(missing) * count :])
    return _refuse_empty(task, {**given, "train": train, **parts}), f"carved {' and '.join(missing)}"


def permutation(size: int) -> np.ndarray:
    """The permutation [size] behind the published halves; only this call gives them."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(SPLIT_SEED)).numpy()


def _groups(task: Task, published: dict[str, pa.RecordBatch], rows: Rows) -> pa.Array | None:
    """What rows that stay on one side share (MultiRC: the paragraph); None where each row is for itself."""
    if not task.groups:
        return None
    column = published[rows.split].column("idx").take(column_of(rows.numbers))
    return pc.struct_field(column, task.groups[0])


def _cut(rows: int, together: pa.Array | None, count: float) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of `rows` rows in permuted order, cut after `count` of them (rounded down).

    Rows with the same value in `together` stay on one side: these are permuted as one, and cut where the rows come
    closest to `count`.
    """
    if together is None:
        order = permutation(rows)
        return order[: int(count)], order[int(count) :]
    # Numbered in the order of the file, whatever the values are.
    numbers = as_numpy(together.dictionary_encode().indices)
    by_group = np.argsort(numbers, kind="stable")
    starts = np.searchsorted(numbers[by_group], np.arange(numbers.max() + 2))
    order = permutation(len(starts) - 1)
    groups = [by_group[starts[group] : starts[group + 1]] for group in order]
    # Groups differ in size: cut where the rows come closest, with a group on either side where there are two.
    before = np.cumsum([len(group) for group in groups])[:-1]
    cut = int(np.abs(before - count).argmin()) + 1 if len(before) and count else 0
    place = int(before[cut - 1]) if cut else 0
    numbers = np.concatenate(groups)
    return numbers[:place], numbers[place:]


def sampled(task: Task, published: dict[str, pa.RecordBatch], rows: Rows, most: int) -> Rows:
    """`most` of a part's rows, in their order: a function of their number alone.

    Groups stay whole, and are cut where the rows come closest (MultiRC).
    """
    if len(rows) <= most:
        return rows
    places, rest = _cut(len(rows), _groups(task, published, rows), most)
    # A single group is kept as it is.
    return Rows(rows.split, rows.numbers[np.sort(places if len(places) else rest)])


def _refuse_empty(task: Task, parts: dict[str, Rows]) -> dict[str, Rows]:
    for name, rows in parts.items():
        if not len(rows):
            raise InputError(f"{task.name}: there are too few rows for a {name} split; use larger splits")
    return parts
