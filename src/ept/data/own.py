"""Rows of a user-defined task, from the user's files or a data set of the Hub, checked row by row."""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from ept.data.arrow import MAX_SPLIT_BYTES
from ept.data.check import MAX_ANSWER_BYTES, MAX_ROWS, MAX_TEXT_BYTES, raw_schema
from ept.data.rows import read_rows
from ept.errors import InputError, listed, reason_of, shortened
from ept.tasks.record import OwnData, Row, Task, is_missing

LOG = logging.getLogger("ept")


def own_splits(task: Task, own: OwnData) -> Iterator[tuple[str, Iterator[pa.RecordBatch]]]:
    """Every split that is given with its checked rows, in the columns of `ept.data.check.raw_schema`.

    Raises InputError, with file, row (the first one is row 1) and column, for a column that is missing, a text that is
    empty or not text, a label that is not among the labels, a score that is not a number within the range, a split
    without rows, and for what `ept.data.rows.read_rows` cannot read.
    """
    for split, path in own.files:
        yield split, _checked(task, own, read_rows(path, needed=[*task.columns, own.label]), path)
    for split, there in own.hub_splits:
        yield split, _checked(task, own, _hub_rows(task, own, there), f"{own.hub[0]} {there}")


def _hub_rows(task: Task, own: OwnData, split: str) -> Iterator[list[Row]]:
    """The rows of a split of a data set of the Hub, class numbers as their names."""
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"tasks.define.{task.name}.hub needs the library datasets; install the extra `data`"
        ) from error
    repository, revision, config = own.hub
    try:
        found = datasets.load_dataset(repository, config, split=split, revision=revision)
    except Exception as error:  # what the library raises for a missing repository, configuration, split or file
        raise InputError(
            f"{repository} at {revision[:8]}, configuration {config}, split {split} cannot be read "
            f"({reason_of(error)}); check tasks.define.{task.name}.hub and HF_ENDPOINT"
        ) from error
    feature = found.features.get(own.label)
    names = feature.names if isinstance(feature, datasets.ClassLabel) else None
    for start in range(0, len(found), 1024):
        rows = found.select(range(start, min(start + 1024, len(found)))).to_list()
        if names:
            rows = [{**row, own.label: _class_name(names, row[own.label])} for row in rows]
        yield rows


def _class_name(names: list[str], number: int | None) -> str | None:
    """The name of a class; a hidden label of the Hub is -1."""
    return names[number] if number is not None and 0 <= number < len(names) else None


def _checked(task: Task, own: OwnData, chunks: Iterable[list[Row]], where: str) -> Iterator[pa.RecordBatch]:
    schema, rows, size = raw_schema(task), 0, 0
    answer = schema.names[-1]
    for chunk in chunks:
        columns: dict[str, list] = {name: [] for name in schema.names}
        for row in chunk:
            rows += 1
            place = f"{where}, row {rows}"
            for name in task.columns:
                text = cell_text(_cell(row, name, place), f"{place}: column {name!r}")
                size += len(text)
                columns[name].append(text)
            columns[answer].append(_answer(task, own, _cell(row, own.label, place), f"{place}: column {own.label!r}"))
        if rows > MAX_ROWS or size > MAX_SPLIT_BYTES:
            raise InputError(
                f"{where}: more than {MAX_ROWS:,} rows or {MAX_SPLIT_BYTES:,} characters by row {rows}; use a part"
            )
        yield pa.RecordBatch.from_pydict(columns, schema=schema)
    if not rows:
        raise InputError(f"{where}: the file has no rows; add some, or leave the split out")


def _cell(row: Mapping[str, Any], name: str, place: str) -> Any:
    if name not in row:
        raise InputError(
            f"{place}: there is no column {name!r} (found: {listed(map(str, row))}); name it as in the file"
        )
    return row[name]


def cell_text(value: Any, place: str, most: int = MAX_TEXT_BYTES) -> str:
    """A cell as text that is not blank; numbers are written out.

    Args:
        value: The cell.
        place: File, row and column, for the message.
        most: Bytes that it may have.

    Raises:
        InputError: It is missing (also a NaN, as tables of pandas say it), blank, too long, or no text.
    """
    if isinstance(value, bool | list | dict | bytes):
        raise InputError(f"{place} holds {type(value).__name__}, not text; convert it")
    text = "" if is_missing(value) else str(value)
    if not text.strip():
        raise InputError(f"{place} is empty; fill it in or remove the row")
    try:
        length = len(text.encode())
    except UnicodeEncodeError as error:
        raise InputError(f"{place} is not valid Unicode (half a character); correct it") from error
    if length > most:
        raise InputError(f"{place} has {length:,} bytes, at most {most:,} are read; shorten it")
    return text


def _answer(task: Task, own: OwnData, value: Any, place: str) -> Any:
    """The class number, the score, or the answers of a row."""
    if task.kind == "extraction":
        answers = value if isinstance(value, list) else [value]
        if not answers:
            raise InputError(f"{place} is empty; give an answer or remove the row")
        return [cell_text(answer, place, MAX_ANSWER_BYTES) for answer in answers]
    if task.kind == "classification":
        label = label_text(value, place)
        if label not in own.values:
            raise InputError(
                f"{place} is {shortened(ascii(label), 60)}, which is not among the labels {listed(own.values)}; "
                f"correct it, or tasks.define.{task.name}.labels"
            )
        return own.values.index(label)
    return _score(task, cell_text(value, place), place)


def label_text(value: Any, place: str) -> str:
    """A class label as text. Raises InputError as `cell_text`."""
    text = str(value) if isinstance(value, bool) else cell_text(value, place)  # of JSON: the labels True and False
    # Tables of numbers hold 1.0 where a value is missing elsewhere.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else text.strip()


def _score(task: Task, text: str, place: str) -> float:
    try:
        score = float(text)
    except ValueError as error:
        raise InputError(f"{place} is {shortened(ascii(text), 60)}, which is not a number; correct it") from error
    low, high = float(task.labels[0]), float(task.labels[-1])
    # The ends of the range were rounded to steps of 0.2.
    if not math.isfinite(score) or not low - 0.1 <= score <= high + 0.1:
        raise InputError(f"{place} is {text}; scores are from {low:g} to {high:g}: correct it, or the range")
    return score


def shared_rows(task: Task, train: Iterable[Row], test: Iterable[Row]) -> dict[str, int]:
    """How many test rows occur in the training rows: exactly, and besides these up to case and blanks.

    Args:
        task: The task, whose columns are compared.
        train: Training rows.
        test: Test rows.

    Returns:
        {"exact": rows, "nearly": rows}.
    """
    # In memory are hashes of the test rows, which are fewer than the training rows: those not found until now.
    wanted = [(hash(texts), hash(_plain(texts))) for texts in _texts(task, test)]
    exact, nearly = {whole for whole, _ in wanted}, {plain for _, plain in wanted}
    for texts in _texts(task, train):
        exact.discard(hash(texts))
        nearly.discard(hash(_plain(texts)))
    return {
        "exact": sum(whole not in exact for whole, _ in wanted),
        "nearly": sum(whole in exact and plain not in nearly for whole, plain in wanted),
    }


def _texts(task: Task, rows: Iterable[Row]) -> Iterator[tuple[str, ...]]:
    return (tuple(row[name] for name in task.columns) for row in rows)


def _plain(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(" ".join(text.lower().split()) for text in texts)
