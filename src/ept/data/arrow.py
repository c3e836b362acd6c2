"""Parquet read in bounded memory, and Arrow columns that grow in place."""

import contextlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ept.errors import InputError, reason_of

# A Parquet file of 400 kB can stand for 20 million rows: bounds on what it becomes in memory.
MAX_LIST_VALUES = 20_000_000
MAX_SPLIT_BYTES = 1_000_000_000
# From so many bytes of text on, how many times larger than its files a split may be. Texts shrink to a tenth, and to a
# hundredth where many rows repeat a passage.
UNPACKED_BYTES = 2**27
MAX_EXPANSION = 200
BATCH_BYTES = 2**25
BATCH_ROWS = 8192
_DICTIONARY_BYTES = 2**28


class Parquet:
    """A Parquet file, whose errors are one sentence that calls it `where`.

    `rows` and `schema` come from its footer. Every method raises InputError.
    """

    def __init__(self, path: Path, where: str) -> None:
        self._path, self._where = path, where
        with readable(where):
            self._file = pq.ParquetFile(path)
            self.rows: int = self._file.metadata.num_rows
            self.schema: pa.Schema = self._file.schema_arrow
            self.names: list[str] = self.schema.names

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """The rows of these columns (a field of a struct is "<column>.<field>"), at most BATCH_ROWS at a time.

        Texts in lists come as dictionaries, so that a text repeated a million times is not a million texts; of other
        texts a batch has about BATCH_BYTES.
        """
        with readable(self._where):
            in_lists, rows = self._plan(columns)
            # Without pre_buffer=False the whole file is read ahead.
            file = pq.ParquetFile(
                self._path,
                read_dictionary=in_lists,
                buffer_size=2**20,
                pre_buffer=False,
                page_checksum_verification=True,
            )
            found = file.iter_batches(batch_size=rows, columns=columns)
        while True:
            with readable(self._where):
                batch = next(found, None)
            if batch is None:
                return
            yield batch

    def _plan(self, columns: list[str]) -> tuple[list[str], int]:
        """The paths of texts in lists, and how many rows may be read at a time."""
        metadata, in_lists, longest = self._file.metadata, [], 1
        with self._path.open("rb") as file:
            for number in range(metadata.num_columns):
                leaf = metadata.schema.column(number)
                if not any(leaf.path == name or leaf.path.startswith(f"{name}.") for name in columns):
                    continue
                chunks = [metadata.row_group(group).column(number) for group in range(metadata.num_row_groups)]
                self._check_sizes(leaf.path, chunks)
                if leaf.physical_type != "BYTE_ARRAY":
                    continue
                if leaf.max_repetition_level:
                    in_lists.append(leaf.path)
                else:
                    means = (chunk.total_uncompressed_size // max(1, chunk.num_values) for chunk in chunks)
                    longest = max(longest, *means, *(self._longest_repeated(file, chunk) for chunk in chunks))
        return in_lists, min(BATCH_ROWS, max(1, BATCH_BYTES // longest))

    def _check_sizes(self, path: str, chunks: list[Any]) -> None:
        values, size = max(chunk.num_values for chunk in chunks), max(chunk.total_uncompressed_size for chunk in chunks)
        for what, found, most in (("values", values, MAX_LIST_VALUES), ("bytes", size, MAX_SPLIT_BYTES)):
            if found > most:
                raise InputError(
                    f"{self._where}: column {path!r} has {found} {what} in one row group, at most {most} are read; "
                    "write the file with smaller row groups"
                )

    def _longest_repeated(self, file: BinaryIO, chunk: Any) -> int:
        """The bytes of the longest text of a chunk that rows share: these are in its dictionary."""
        if not chunk.has_dictionary_page:
            return 1
        file.seek(chunk.dictionary_page_offset)
        head = file.read(256)
        fields, start = _thrift_struct(head, 0)
        size, stored = fields[2], fields[3]
        if not 0 <= size <= _DICTIONARY_BYTES:
            raise InputError(
                f"{self._where}: column {chunk.path_in_schema!r} has a dictionary of {size} bytes, at most "
                f"{_DICTIONARY_BYTES} are read; write the file without dictionaries"
            )
        file.seek(chunk.dictionary_page_offset + start)
        content = file.read(stored)
        if chunk.compression != "UNCOMPRESSED":
            codec = chunk.compression.lower()
            if codec == "lz4":  # framed in a way of Parquet's own
                return size
            content = pa.decompress(content, size, codec=codec, asbytes=True)
        longest, place = 1, 0
        while place + 4 <= len(content):
            length = int.from_bytes(content[place : place + 4], "little")
            longest, place = max(longest, length), place + 4 + length
        return longest


def _thrift_struct(content: bytes, place: int) -> tuple[dict[int, int], int]:
    """The whole numbers of a struct in Thrift's compact encoding by field, and where it ends."""
    fields, field = {}, 0
    while head := content[place]:
        kind, delta = head & 15, head >> 4
        place += 1
        if delta:
            field += delta
        else:
            field, place = _thrift_number(content, place)
        if kind in (4, 5, 6):
            fields[field], place = _thrift_number(content, place)
        elif kind == 12:
            _, place = _thrift_struct(content, place)
        elif kind not in (1, 2):
            raise ValueError(f"a page header has a field of type {kind}")
    return fields, place + 1


def _thrift_number(content: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = content[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return value >> 1 ^ -(value & 1), place


@contextlib.contextmanager
def readable(where: str) -> Iterator[None]:
    """One sentence, which calls the file `where`, for whatever Arrow says of a file that it cannot read."""
    try:
        yield
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, LookupError, OverflowError, MemoryError) as error:
        raise InputError(f"{where}: cannot be read as a Parquet file ({reason_of(error)}); copy it again") from error


def as_numpy(column: pa.Array) -> np.ndarray:
    """A column of numbers as an array, without a copy where no value is missing; a missing one is 0.

    Arrow's own `to_numpy`, `array` and `scalar` import pandas, which takes a third of a second and 32 MiB.
    """
    return np.from_dlpack(pc.fill_null(column, 0) if column.null_count else column)


def column_of(values: np.ndarray) -> pa.Array:
    """An array of numbers as a column, without a copy and without pandas."""
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, buffer])


class GrowingColumn:
    """A column that grows in place, so that a million rows are never in memory twice.

    Holds numbers, texts, lists and structs of these, without nulls.
    """

    def __init__(self, type_: pa.DataType) -> None:
        self.type = type_
        self._rows, self._end = 0, 0
        self._offsets, self._values = bytearray(4), bytearray()
        self._children: list[GrowingColumn] = []
        if pa.types.is_list(type_):
            self._children = [GrowingColumn(type_.value_type)]
        elif pa.types.is_struct(type_):
            self._children = [GrowingColumn(field.type) for field in type_]

    def extend(self, array: pa.Array) -> None:
        """Append an array of the same type. Raises InputError where a column of lists or texts gets too long."""
        self._rows += len(array)
        if pa.types.is_struct(self.type):
            for child, values in zip(self._children, array.flatten(), strict=True):
                child.extend(values)
        elif pa.types.is_list(self.type):
            self._extend_offsets(as_numpy(pc.list_value_length(array)))
            self._children[0].extend(array.flatten())
        elif pa.types.is_string(self.type):
            lengths = as_numpy(pc.binary_length(array))
            self._extend_offsets(lengths)
            if data := array.buffers()[2]:
                start = np.frombuffer(array.buffers()[1], np.int32)[array.offset] if len(array) else 0
                self._values += memoryview(data)[start : start + int(lengths.sum())]
        else:
            self._values += as_numpy(array).tobytes()

    def append(self, values: Sequence[Any]) -> None:
        """Append Python objects: numbers, texts, or lists of these. Raises InputError as `extend`."""
        self._rows += len(values)
        if pa.types.is_list(self.type):
            self._extend_offsets(np.array([len(value) for value in values], np.int64))
            self._children[0].append(list(chain.from_iterable(values)))
        elif pa.types.is_string(self.type):
            texts = [value.encode() for value in values]
            self._extend_offsets(np.array([len(text) for text in texts], np.int64))
            self._values += b"".join(texts)
        else:
            self._values += np.array(values, self.type.to_pandas_dtype()).tobytes()

    def _extend_offsets(self, lengths: np.ndarray) -> None:
        ends = self._end + np.cumsum(lengths, dtype=np.int64)
        self._end = int(ends[-1]) if len(ends) else self._end
        if self._end >= 2**31:
            raise InputError("a split has more than 2^31 pieces or bytes of text; use a part of it")
        self._offsets += ends.astype(np.int32).tobytes()

    def array(self) -> pa.Array:
        """The whole column, without a copy."""
        children = [child.array() for child in self._children]
        if pa.types.is_struct(self.type):
            buffers = [None]
        elif pa.types.is_list(self.type):
            buffers = [None, pa.py_buffer(self._offsets)]
        elif pa.types.is_string(self.type):
            buffers = [None, pa.py_buffer(self._offsets), pa.py_buffer(self._values)]
        else:
            buffers = [None, pa.py_buffer(self._values)]
        return pa.Array.from_buffers(self.type, self._rows, buffers, children=children)


def collected(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """Batches without nulls as one of this schema, in memory once."""
    columns = [GrowingColumn(field.type) for field in schema]
    batch = values = None
    for batch in batches:
        for column, values in zip(columns, batch.cast(schema).columns, strict=True):
            column.extend(values)
    del batch, values, batches
    # What reading took and gave back would stay with the process.
    pa.default_memory_pool().release_unused()
    return pa.RecordBatch.from_arrays([column.array() for column in columns], schema=schema)
