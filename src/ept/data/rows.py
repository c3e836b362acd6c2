"""Rows of a user's own file: csv, tsv, jsonl or Parquet, read piece by piece in bounded memory."""

import csv
import json
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from ept.data.arrow import Parquet, readable
from ept.errors import InputError
from ept.tasks.record import FORMATS

CHUNK = 1024
# A cell or a line longer than this is not a text to classify; refusing it bounds the memory.
MOST_CHARACTERS = 10_000_000


def read_rows(
    path: str | Path, file_format: str | None = None, chunk: int = CHUNK, needed: Collection[str] = ()
) -> Iterator[list[dict[str, Any]]]:
    """The rows of a file as dictionaries, at most `chunk` at a time.

    Args:
        path: The file, or `-` for standard input.
        file_format: csv, tsv, jsonl or parquet; by default from the file's ending, csv for standard input.
        chunk: Rows in one list.
        needed: Of a Parquet file that has all of these columns, only they are read: others may hold anything. By
            default all are.

    Raises:
        InputError: The file is missing, of another format, or a line cannot be read; the sentence names file and line.
    """
    file_format = file_format or _format_of(path)
    if file_format not in FORMATS:
        raise InputError(f"{path}: unknown format {file_format!r}; use {', '.join(FORMATS)}")
    if file_format == "parquet":
        yield from _parquet(path, chunk, needed)
        return
    with _opened(path) as file:
        rows = _json_lines(file, path) if file_format == "jsonl" else _separated(file, path, file_format)
        found: list[dict[str, Any]] = []
        for row in rows:
            found.append(row)
            if len(found) == chunk:
                yield found
                found = []
        if found:
            yield found


def _format_of(path: str | Path) -> str:
    if str(path) == "-":
        return "csv"
    ending = Path(path).suffix.lower().removeprefix(".")
    if ending == "json":
        return "jsonl"
    if ending not in FORMATS:
        raise InputError(f"{path}: the ending {ending!r} is not a known format; use {', '.join(FORMATS)}")
    return ending


@contextmanager
def _opened(path: str | Path) -> Iterator[TextIO]:
    if str(path) == "-":
        yield sys.stdin
        return
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield file
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, line {_bad_line(path)}: not UTF-8 text; save the file as UTF-8") from error


def _bad_line(path: str | Path) -> int:
    """The first line that is not UTF-8. A decoder's own position counts from the start of its buffer."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _separated(file: TextIO, path: str | Path, file_format: str) -> Iterator[dict[str, Any]]:
    limit = csv.field_size_limit(MOST_CHARACTERS)
    try:
        reader = csv.DictReader(file, delimiter="\t" if file_format == "tsv" else ",", strict=True)
        names = reader.fieldnames
        if not names:
            raise InputError(f"{path}: the file is empty; its first line must name the columns")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"{path}: the column {twice!r} occurs twice; rename one")
        for row in reader:
            if None in row:
                raise InputError(
                    f"{path}, line {reader.line_num}: more cells than the {len(names)} columns; check quotes"
                )
            if None in row.values():
                raise InputError(
                    f"{path}, line {reader.line_num}: fewer cells than the {len(names)} columns; check quotes"
                )
            yield row
    except csv.Error as error:
        # The first line of the row that could not be read.
        line = reader.line_num + 1
        raise InputError(f"{path}, line {line}: {error}; check quotes and separators") from error
    finally:
        csv.field_size_limit(limit)


def _json_lines(file: TextIO, path: str | Path) -> Iterator[dict[str, Any]]:
    number = 0
    while line := file.readline(MOST_CHARACTERS + 1):
        number += 1
        if len(line) > MOST_CHARACTERS:
            raise InputError(
                f"{path}, line {number}: longer than {MOST_CHARACTERS:,} characters; put one row in a line"
            )
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path}, line {number}: not valid JSON ({str(error)[:100]}); put one row in a line"
            ) from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: found {type(row).__name__}; a row is an object {{...}}")
        yield row


def _parquet(path: str | Path, chunk: int, needed: Collection[str]) -> Iterator[list[dict[str, Any]]]:
    if str(path) == "-":
        raise InputError("Parquet cannot be read from standard input; name a file")
    if not Path(path).exists():
        raise InputError(f"{path}: no such file; check the path")
    file = Parquet(Path(path), str(path))
    columns = list(dict.fromkeys(needed)) if needed and set(needed) <= set(file.names) else file.names
    for batch in file.batches(columns):
        for start in range(0, batch.num_rows, chunk):
            with readable(str(path)):
                rows = batch.slice(start, chunk).to_pylist()
            yield rows
