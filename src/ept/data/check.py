"""Published splits as a task needs them: checked, its columns in fixed types, batch by batch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ept.data.arrow import (
    BATCH_BYTES,
    BATCH_ROWS,
    MAX_EXPANSION,
    MAX_SPLIT_BYTES,
    UNPACKED_BYTES,
    Parquet,
    as_numpy,
    column_of,
)
from ept.errors import InputError, listed, reason_of, shortened
from ept.tasks.record import Task

MAX_ROWS = 10_000_000
MAX_TEXT_BYTES = 1_000_000
# Every piece of an answer is trained and generated, whereas other texts are cut.
MAX_ANSWER_BYTES = 10_000
# An image as it is stored; photographs have less than a hundredth of it.
MAX_IMAGE_BYTES = 32_000_000


def raw_schema(task: Task) -> pa.Schema:
    """The columns that are kept of a published split, with their types.

    These are the task's columns and `label` (int64, or float64 for regression), whatever its published name and
    words, or `answers` (list of text); of `records` the fields that group rows, as text. An image, which comes last,
    is its encoded bytes.
    """
    fields = list(text_schema(task))
    return pa.schema([*fields, pa.field(task.image, pa.binary())] if task.image else fields)


def text_schema(task: Task) -> pa.Schema:
    """The columns of `raw_schema` without the image."""
    types = {
        "text": pa.string(),
        "whole numbers": pa.int64(),
        "lists of text": pa.list_(pa.string()),
        "records": pa.struct([(field, pa.string()) for field in task.groups]),
    }
    fields = [pa.field(name, types[kind]) for name, kind in task.columns.items()]
    if task.kind == "extraction":
        return pa.schema([*fields, pa.field("answers", pa.list_(pa.string()))])
    return pa.schema([*fields, pa.field("label", pa.float64() if task.kind == "regression" else pa.int64())])


class SplitChecker:
    """Reads the files (or the table) of one published split, in order, as checked batches with `raw_schema(task)`.

    `rows` counts the rows so far. Every method raises InputError with file and row (counted from 0 in each file) for:
    a missing or unreadable file; a missing or repeated column; another type; a missing value; text that is not UTF-8 or
    longer than MAX_TEXT_BYTES; a label out of range; no answer, a blank one or one longer than MAX_ANSWER_BYTES; a
    record of idx that comes twice; no image, a missing file of one, or one of more than MAX_IMAGE_BYTES; more
    than MAX_ROWS rows or MAX_SPLIT_BYTES of text; a small file with much text.
    """

    def __init__(self, task: Task) -> None:
        self.rows, self._bytes, self._stored = 0, 0, 0
        self._most = MAX_SPLIT_BYTES
        self._task, self._schema = task, raw_schema(task)
        self._published = [task.label if name == "label" else name for name in self._schema.names]
        self._records: dict[tuple, int] = {}
        self._folder: Path | None = None

    def read(self, path: Path, where: str) -> Iterator[pa.RecordBatch]:
        """The rows of a Parquet file, which messages call `where`; memory is bounded whatever its size."""
        if not path.is_file():
            raise InputError(f"{where}: there is no such file; put the split there or correct data.path")
        file, self._folder = Parquet(path, where), path.parent
        self._stored += path.stat().st_size
        self._most = min(MAX_SPLIT_BYTES, max(UNPACKED_BYTES, MAX_EXPANSION * self._stored))
        self._check_rows(file.rows, where)
        self._check_types(file.schema, file.names, where)
        first = 0
        for batch in file.batches(self._leaves(file.schema)):
            yield from self._checked(batch, where, first)
            first += batch.num_rows

    def take(self, table: pa.Table, where: str) -> Iterator[pa.RecordBatch]:
        """The rows of a table in memory, which messages call `where`."""
        self._check_rows(table.num_rows, where)
        self._check_types(table.schema, table.schema.names, where)
        first = 0
        for batch in table.to_batches(max_chunksize=BATCH_ROWS):
            yield from self._checked(batch, where, first)
            first += batch.num_rows

    def _check_rows(self, rows: int, where: str) -> None:
        if not rows:
            raise InputError(f"{where}: the split has no rows; put a split with examples there")
        self.rows += rows
        if self.rows > MAX_ROWS:
            raise InputError(f"{where}: the split has {self.rows} rows, at most {MAX_ROWS} are read; use a part of it")

    def _check_types(self, schema: pa.Schema, names: list[str], where: str) -> None:
        for name, wanted in zip(self._published, self._schema.types, strict=True):
            if not (times := names.count(name)):
                raise InputError(
                    f"{where}: column {name!r}, which {self._task.name} needs, is missing; name the columns as in the "
                    f"Hugging Face data set (found: {listed(names)})"
                )
            if times > 1:
                raise InputError(f"{where}: column {name!r} occurs {times} times; keep one of them")
            found = schema.field(name).type
            if name == self._task.image:
                _check_image_type(found, f"{where}: column {name!r}")
                continue
            if name == "answers":
                found = _answer_type(found)
            classes = self._task.classes if name == self._task.label else ()
            # Digits that are words in the data set may have been read as numbers.
            if classes and not (_kind(found) == "int" and all(word.isdigit() for word in classes)):
                wanted = pa.string()
            if not _fits(found, wanted):
                raise InputError(
                    f"{where}: column {name!r} holds {found}, but {self._task.name} needs {_WORDS[_kind(wanted)]}; "
                    "convert it"
                )
            for field in self._task.groups if pa.types.is_struct(wanted) else ():
                if found.get_field_index(field) < 0:
                    raise InputError(f"{where}: column {name!r} lacks the field {field!r} of {self._task.name}; add it")

    def _leaves(self, schema: pa.Schema) -> list[str]:
        """What is read: the columns, and of structs the fields that are needed."""
        leaves = []
        for name, wanted in zip(self._published, self._schema.types, strict=True):
            found = schema.field(name).type
            if name == self._task.image:
                leaves += [f"{name}.{field.name}" for field in found if field.name in ("bytes", "path")]
            elif pa.types.is_struct(wanted):
                leaves += [f"{name}.{field}" for field in _record_fields(self._task, found)]
            else:
                leaves.append(f"{name}.text" if pa.types.is_struct(found) else name)
        return leaves

    def _checked(self, batch: pa.RecordBatch, where: str, first: int) -> Iterator[pa.RecordBatch]:
        sizes = np.zeros(batch.num_rows, np.int64)
        columns = {}
        for name in self._published:
            values = batch.column(name)
            if name == "answers":
                values = _answer_texts(values)
            if name == self._task.image:
                values = _images(values, self._folder, f"{where}: column {name!r}", first)
            columns[name] = values
            if not pa.types.is_binary(values.type) and not pa.types.is_struct(values.type):
                most = MAX_ANSWER_BYTES if name == "answers" else MAX_TEXT_BYTES
                sizes += _check_sizes(values, most, f"{where}: column {name!r}", first)
        self._bytes += int(sizes.sum())
        if self._bytes > self._most:
            last = first + batch.num_rows - 1
            stored = f" in {self._stored} bytes of Parquet" if self._most < MAX_SPLIT_BYTES else ""
            raise InputError(
                f"{where}: the split's texts have more than {self._most} bytes{stored} by row {last}; use a part of it"
            )
        if self._task.image:
            sizes += as_numpy(pc.binary_length(columns[self._task.image]))
        start = 0
        while start < len(sizes):
            rows = max(1, int(np.searchsorted(np.cumsum(sizes[start:]), BATCH_BYTES, side="right")))
            part = {name: values.slice(start, rows) for name, values in columns.items()}
            yield self._cast(part, where, first + start)
            start += rows

    def _cast(self, columns: dict[str, pa.Array], where: str, first: int) -> pa.RecordBatch:
        found = []
        for name, wanted in zip(self._published, self._schema.types, strict=True):
            values, column = columns[name], f"{where}: column {name!r}"
            if name == self._task.image:
                pass  # read and checked already
            elif name == self._task.label:
                values = self._labels(values, where, first)
            elif pa.types.is_struct(wanted):
                values = self._struct(values, wanted, column, first)
            else:
                values = (_cast if _kind(wanted) == "int" else _texts)(values, wanted, column, first)
                _refuse_rows(pc.is_null(values), f"{column} has no value", "fill it in or remove the row", first)
            if name == "answers":
                _check_answers(values, column, first)
            found.append(values)
        return pa.RecordBatch.from_arrays(found, schema=self._schema)

    def _labels(self, values: pa.Array, where: str, first: int) -> pa.Array:
        task = self._task
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        column = f"{where}: column {task.label!r}"
        _refuse_rows(pc.is_null(values), f"{column} has no value", "label the row or remove it", first)
        if task.classes:
            return _class_numbers(values, task, where, first)
        classes = task.kind == "classification"
        low, high = (0, len(task.labels) - 1) if classes else (float(task.labels[0]), float(task.labels[-1]))
        numbers = values.to_numpy(zero_copy_only=False)
        outside = ~((numbers >= low) & (numbers <= high))
        if outside.any():
            row = int(outside.argmax())
            raise InputError(
                f"{where}: the label in row {first + row} is {numbers[row]}, but {task.name}'s labels are between "
                f"{low} and {high}; correct it or remove the row"
            )
        return _cast(values, self._schema.field("label").type, column, first)

    def _struct(self, values: pa.Array, wanted: pa.DataType, column: str, first: int) -> pa.Array:
        """The fields that group rows; where idx numbers rows too, no number comes twice."""
        fields = {field: pc.struct_field(values, field) for field in _record_fields(self._task, values.type)}
        for field in self._task.groups:
            _refuse_rows(pc.is_null(fields[field]), f"{column} has no {field!r}", "fill it in or remove the row", first)
        if len(fields) > len(self._task.groups):
            for row, record in enumerate(zip(*(found.to_pylist() for found in fields.values()), strict=True)):
                before = self._records.setdefault(record, first + row)
                if before != first + row:
                    raise InputError(
                        f"{column} repeats the value of row {before} in row {first + row}; number every row once"
                    )
        parts = [_cast(fields[field], pa.string(), column, first) for field in self._task.groups]
        return pa.StructArray.from_arrays(parts, fields=list(wanted))


_WORDS = {
    "text": "text",
    "list": "lists of text",
    "int": "whole numbers",
    "float": "numbers",
    "struct": "records",
}


def _answer_type(type_: pa.DataType) -> pa.DataType:
    """What a column of answers holds: SQuAD's are a struct of lists of `text`, VQA's lists of structs with `answer`."""
    if pa.types.is_struct(type_) and type_.get_field_index("text") >= 0:
        return type_.field("text").type
    if pa.types.is_list(type_) and pa.types.is_struct(type_.value_type):
        place = type_.value_type.get_field_index("answer")
        return pa.list_(type_.value_type.field(place).type) if place >= 0 else type_
    return type_


def _answer_texts(values: pa.Array) -> pa.Array:
    """The texts of a column of answers, whose type is one of those that `_answer_type` knows."""
    if pa.types.is_struct(values.type):
        return pc.struct_field(values, "text")
    if pa.types.is_list(values.type) and pa.types.is_struct(values.type.value_type):
        texts = pc.struct_field(values.flatten(), "answer")
        ends = np.append(0, np.cumsum(as_numpy(pc.list_value_length(values)))).astype(np.int32)
        return pa.ListArray.from_arrays(column_of(ends), texts)
    return values


def _check_image_type(found: pa.DataType, column: str) -> None:
    binary = found.field("bytes").type if pa.types.is_struct(found) and found.get_field_index("bytes") >= 0 else None
    # Null: all images are files.
    known = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_null)
    if binary is None or not any(is_known(binary) for is_known in known):
        raise InputError(
            f"{column} holds {shortened(str(found), 100)}, but an image is a record of bytes and path, as data sets "
            "of the Hub have it; convert it"
        )


def _images(values: pa.Array, folder: Path | None, column: str, first: int) -> pa.Array:
    """The encoded images of a column of records: their bytes, or else the file at their path, from `folder`."""
    found = []
    for row, record in enumerate(values, start=first):
        fields = record.as_py() or {}
        content, path = fields.get("bytes"), fields.get("path")
        if content is None and folder is not None and path:
            file = folder / path
            if not file.is_file():
                raise InputError(f"{column} names {file} in row {row}, which does not exist; put the image there")
            with file.open("rb") as opened:
                content = opened.read(MAX_IMAGE_BYTES + 1)
        if not content:
            raise InputError(f"{column} has no image in row {row}; add it or remove the row")
        if len(content) > MAX_IMAGE_BYTES:
            raise InputError(
                f"{column} has an image of more than {MAX_IMAGE_BYTES} bytes in row {row}; make it smaller"
            )
        found.append(content)
    return pa.array(found, pa.binary())


def _class_numbers(values: pa.Array, task: Task, where: str, first: int) -> pa.Array:
    """The class of each row from the word in its label column. Raises InputError for another word."""
    words = _texts(values, pa.string(), f"{where}: column {task.label!r}", first)
    numbers = pc.index_in(words, value_set=pa.array(task.classes))
    unknown = np.flatnonzero(pc.is_null(numbers).to_numpy(zero_copy_only=False))
    if len(unknown):
        word = shortened(ascii(words[int(unknown[0])].as_py()), 60)
        raise InputError(
            f"{where}: the label in row {first + unknown[0]} is {word}, but {task.name}'s labels are "
            f"{', '.join(task.classes)}; correct it or remove the row"
        )
    return numbers.cast(pa.int64())


def _kind(type_: pa.DataType) -> str:
    """What a type holds, whatever its width, dictionary or view: a key of _WORDS, or another word."""
    if pa.types.is_dictionary(type_):
        return _kind(type_.value_type)
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return "text"
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        return "list" if _kind(type_.value_type) == "text" else "other"
    if pa.types.is_integer(type_):
        return "int"
    if pa.types.is_floating(type_):
        return "float"
    return "struct" if pa.types.is_struct(type_) else "other"


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    return _kind(found) == _kind(wanted) or (_kind(found), _kind(wanted)) == ("int", "float")


def _record_fields(task: Task, type_: pa.DataType) -> list[str]:
    """The fields of a record that are read: those that group rows, and other whole numbers, which number the rows."""
    others = [field.name for field in type_ if _kind(field.type) == "int" and field.name not in task.groups]
    return [*task.groups, *others]


def _flat(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The texts of a column of texts or of lists of texts, and the row of each."""
    if _kind(values.type) != "list":
        return values, np.arange(len(values))
    lengths = as_numpy(pc.list_value_length(values))
    return values.flatten(), np.repeat(np.arange(len(values)), lengths)


def _text_bytes(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of each text of a column of texts or of lists of texts, and the row of each; none of other columns."""
    texts, rows = _flat(values)
    if _kind(texts.type) != "text":
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    if pa.types.is_dictionary(texts.type):
        lengths = pc.binary_length(texts.dictionary.cast(pa.large_string())).take(texts.indices)
    else:
        lengths = pc.binary_length(texts.cast(pa.large_string()))
    return as_numpy(lengths), rows


def row_bytes(values: pa.Array) -> np.ndarray:
    """About how many bytes [rows] each row of a column has: those of its texts, or of a number."""
    return _by_row(*_text_bytes(values), len(values))


def _by_row(lengths: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    return 8 + np.bincount(rows, weights=lengths, minlength=count).astype(np.int64)


def _check_sizes(values: pa.Array, most: int, column: str, first: int) -> np.ndarray:
    """The bytes [rows] that each row's texts will take. Raises InputError for a text of more than `most` bytes."""
    lengths, rows = _text_bytes(values)
    if len(lengths) and lengths.max() > most:
        place = int(lengths.argmax())
        raise InputError(
            f"{column} has a text of {lengths[place]} bytes in row {first + rows[place]}, at most {most} are read; "
            "shorten it or remove the row"
        )
    return _by_row(lengths, rows, len(values))


def _cast(values: pa.Array, wanted: pa.DataType, column: str, first: int) -> pa.Array:
    try:
        return values.cast(wanted)
    except pa.ArrowException as error:
        rows = f"rows {first} to {first + len(values) - 1}"
        raise InputError(f"{column} cannot become {wanted} in {rows} ({reason_of(error)}); convert it") from error


def _texts(values: pa.Array, wanted: pa.DataType, column: str, first: int) -> pa.Array:
    """Texts, or lists of texts, in UTF-8; no list has an empty place."""
    values = _cast(values, wanted, column, first)
    texts, rows = _flat(values)
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        for row, text in zip(rows, texts, strict=True):
            try:
                text.as_py()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{column} holds text that is not UTF-8 in row {first + row}; write the file as UTF-8"
                ) from error
        raise
    if texts is not values and texts.null_count:
        row = rows[int(pc.is_null(texts).to_numpy(zero_copy_only=False).argmax())]
        raise InputError(f"{column} has a list with a missing text in row {first + row}; fill it in or remove it")
    return values


def _check_answers(values: pa.Array, column: str, first: int) -> None:
    empty = pc.equal(pc.list_value_length(values), 0)
    _refuse_rows(empty, f"{column} has no answer", "give one or remove the row", first)
    texts, rows = _flat(values)
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0).to_numpy(zero_copy_only=False)
    if blank.any():
        row = first + rows[int(blank.argmax())]
        raise InputError(f"{column} has a blank answer in row {row}; give one or remove the row")


def _refuse_rows(wrong: pa.Array, what: str, remedy: str, first: int) -> None:
    rows = np.flatnonzero(wrong.to_numpy(zero_copy_only=False))
    if len(rows):
        raise InputError(f"{what} in row {first + rows[0]}; {remedy}")
