"""Reading Parquet and refusing tables that a task cannot use."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ept.errors import InputError
from ept.tasks.record import Task


def read_parquet(path: Path, where: str = "") -> pa.Table:
    """A Parquet file as a table. Raises InputError for a missing, torn or foreign file, and calls it `where`."""
    where = where or str(path)
    if not path.is_file():
        raise InputError(f"{where}: there is no such file; put the split there or correct data.path")
    try:
        return pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{where}: this is not a whole Parquet file ({reason}); make it again") from error


def check_table(task: Task, table: pa.Table, where: Path | str) -> None:
    """Raise InputError where a published split lacks what `task` needs; rows are counted from 0.

    Checked are: at least one row, every column and its type, no missing values, text in UTF-8, no idx twice, labels
    in range, an answer in each row.
    """
    if not table.num_rows:
        raise InputError(f"{where}: the split has no rows; put a split with examples there")
    for column in task.columns:
        _check_column(task, table, column, where)
    if task.kind == "extraction":
        _check_answers(task, table, where)
    else:
        _check_labels(task, table, where)


def _column(task: Task, table: pa.Table, name: str, where: Path | str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise InputError(
            f"{where}: column {name!r}, which {task.name} needs, is missing; "
            f"name the columns as in the Hugging Face data set (there are {', '.join(table.column_names)})"
        )
    if (times := table.column_names.count(name)) > 1:
        raise InputError(f"{where}: column {name!r} is there {times} times; leave one of them")
    return table.column(name)


def _check_column(task: Task, table: pa.Table, name: str, where: Path | str) -> None:
    values = _column(task, table, name, where)
    kind = task.columns[name]
    _check_type(task, name, values.type, kind, where)
    _refuse_rows(pc.is_null(values), f"{where}: column {name!r} has no value", "fill it or leave the row out")
    if kind in ("text", "lists of text"):
        _check_texts(values, f"{where}: column {name!r}")
    if kind == "records":
        _check_records(task, values, f"{where}: column {name!r}")


def _check_texts(values: pa.ChunkedArray, column: str) -> None:
    """Bytes that are no text, and lists with an empty place; row by row only where there is one."""
    lists = _is_list(values.type)
    try:
        values.validate(full=True)
        if not lists or not pc.list_flatten(values).null_count:
            return
    except pa.ArrowInvalid:
        pass
    for row, value in enumerate(values):
        try:
            content = value.as_py()
            if lists and None in content:
                raise InputError(f"{column} has a list with an empty place in row {row}; fill it or leave it out")
        except UnicodeDecodeError as error:
            raise InputError(f"{column} holds text that is not UTF-8 in row {row}; write the file anew") from error


def _check_records(task: Task, values: pa.ChunkedArray, column: str) -> None:
    """The fields by which rows are grouped, and, where there are more than these, that no record comes twice."""
    for field in task.groups:
        if values.type.get_field_index(field) < 0:
            raise InputError(f"{column} lacks the field {field!r} of {task.name}; add it")
        missing = pc.is_null(pc.struct_field(values, field))
        _refuse_rows(missing, f"{column} has no {field!r}", "fill it or leave the row out")
    if values.type.num_fields == len(task.groups):
        return
    seen: dict[str, int] = {}
    for row, record in enumerate(values.to_pylist()):
        if (first := seen.setdefault(str(record), row)) != row:
            raise InputError(f"{column} has the value of row {first} again in row {row}; number every row once")


def _check_labels(task: Task, table: pa.Table, where: Path | str) -> None:
    values = _column(task, table, "label", where)
    classes = task.kind == "classification"
    _check_type(task, "label", values.type, "whole numbers" if classes else "numbers", where)
    _refuse_rows(pc.is_null(values), f"{where}: column 'label' has no value", "label the row or leave it out")
    low, high = (0, len(task.labels) - 1) if classes else (float(task.labels[0]), float(task.labels[-1]))
    numbers = values.to_numpy()
    outside = ~((numbers >= low) & (numbers <= high))
    if outside.any():
        row = int(outside.argmax())
        raise InputError(
            f"{where}: the label in row {row} is {numbers[row]}, but {task.name}'s labels go from {low} to "
            f"{high}; correct it or leave the row out"
        )


def _check_answers(task: Task, table: pa.Table, where: Path | str) -> None:
    values = _column(task, table, "answers", where)
    if pa.types.is_struct(values.type) and values.type.get_field_index("text") >= 0:
        values = pc.struct_field(values, "text")
    _check_type(task, "answers", values.type, "lists of text", where)
    lengths = pc.fill_null(pc.list_value_length(values), 0)
    what = f"{where}: column 'answers' has no answer"
    _refuse_rows(pc.equal(lengths, 0), what, "give one or leave the row out")
    _check_texts(values, f"{where}: column 'answers'")


def _check_type(task: Task, name: str, type_: pa.DataType, kind: str, where: Path | str) -> None:
    fits = {
        "text": _is_text,
        "whole numbers": pa.types.is_integer,
        "numbers": lambda type_: pa.types.is_integer(type_) or pa.types.is_floating(type_),
        "records": pa.types.is_struct,
        "lists of text": lambda type_: _is_list(type_) and _is_text(type_.value_type),
    }
    if not fits[kind](type_):
        raise InputError(f"{where}: column {name!r} holds {type_}, but {task.name} needs {kind}; convert it")


def _is_text(type_: pa.DataType) -> bool:
    return any(test(type_) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _is_list(type_: pa.DataType) -> bool:
    return pa.types.is_list(type_) or pa.types.is_large_list(type_)


def _refuse_rows(wrong: pa.ChunkedArray, what: str, remedy: str) -> None:
    rows = np.flatnonzero(wrong.to_numpy())
    if len(rows):
        raise InputError(f"{what} in row {rows[0]}; {remedy}")
