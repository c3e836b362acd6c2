"""Bring a task's published splits into data/raw, checked, with their digests, and read them there."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ept.data.arrow import Parquet, collected
from ept.data.check import SplitChecker, raw_schema, text_schema
from ept.data.own import own_splits
from ept.data.source import REPOSITORIES, DataSource, locate, split_files
from ept.errors import InputError
from ept.files import digest, sha256_file, write_folder_atomically, write_json
from ept.hub import HubRepository
from ept.tasks.record import Task

MANIFEST = "manifest.json"
# Bytes of a row group.
_GROUP_BYTES = 2**25


def fetch(task: Task, source: DataSource, folder: Path) -> None:
    """Write the columns that a task needs of every published split, <folder>/<split>.parquet, checked, and a manifest.

    The folder appears complete or not at all. The manifest has the row count and the SHA-256 of each file. Where the
    folder is complete already it is left alone: its path has the identity of the data. Memory does not grow with the
    number of rows. Raises InputError for whatever ept.data.check refuses, and for what the source cannot give.
    """
    with contextlib.suppress(InputError):
        _check_digests(folder, _manifest(task, folder))
        return
    with _parents_removed_again(folder), write_folder_atomically(folder) as temporary:
        rows = {}
        for split, batches in _splits(task, source):
            rows[split] = _write(task, batches, temporary / f"{split}.parquet")
        _write_manifest(task, rows, temporary)
        if folder.is_dir():
            shutil.rmtree(folder)


@contextlib.contextmanager
def _parents_removed_again(folder: Path) -> Iterator[None]:
    """On failure, folders above `folder` that were made on the way are removed."""
    made = [parent for parent in folder.parents if not parent.exists()]
    try:
        yield
    except BaseException:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


def _splits(task: Task, source: DataSource) -> Iterator[tuple[str, Iterator[pa.RecordBatch]]]:
    """Every published split with its checked rows, which must be taken before the next split."""
    if task.own:
        yield from own_splits(task, task.own)
    elif source.kind == "demo":
        from ept.demo.generator import generate

        for split in task.splits:
            table = generate(task.name, split, source.seed)
            yield split, SplitChecker(task).take(table, f"demo {task.name} {split}")
    elif source.kind == "local":
        for split, files in locate(task, source.path).items():
            yield split, _read(task, [(file, str(file)) for file in files])
    else:
        # Downloaded outside of the project, so that a job that is killed leaves nothing partial in it.
        with tempfile.TemporaryDirectory(prefix="ept-hub-") as temporary:
            folder, repository = Path(temporary), REPOSITORIES[task.suite][0]
            for split, names in download(task, folder).items():
                yield split, _read(task, [(folder / name, f"{repository} {name}") for name in names])


def _read(task: Task, files: Iterable[tuple[Path, str]]) -> Iterator[pa.RecordBatch]:
    checker = SplitChecker(task)
    for path, where in files:
        yield from checker.read(path, where)


def _write(task: Task, batches: Iterator[pa.RecordBatch], path: Path) -> int:
    """Write the rows and return how many there are."""
    rows, waiting = 0, []
    with pq.ParquetWriter(path, raw_schema(task), compression="zstd") as writer:
        for batch in batches:
            rows += batch.num_rows
            waiting.append(batch)
            if sum(part.nbytes for part in waiting) > _GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))
    return rows


def _write_manifest(task: Task, rows: dict[str, int], folder: Path) -> None:
    files = {
        f"{split}.parquet": {"rows": count, "sha256": sha256_file(folder / f"{split}.parquet")}
        for split, count in rows.items()
    }
    values = {"task": task.name, "columns": _columns(task), "files": files}
    write_json(folder / MANIFEST, {**values, "digest": digest(values)})


def _columns(task: Task) -> dict[str, str]:
    return {field.name: str(field.type) for field in raw_schema(task)}


def _manifest(task: Task, folder: Path) -> dict[str, dict[str, Any]]:
    """The files of a raw folder with rows and digests. Raises InputError unless `fetch` wrote it for this task."""
    path = folder / MANIFEST
    remedy = f"remove {folder} and run `ept fetch --task {task.name}` again"
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; make it with `ept fetch --task {task.name}`")
    if not path.is_file():
        raise InputError(f"{path}: there is no such file, so the folder is incomplete; {remedy}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = values.pop("digest")
        files = values["files"]
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not a manifest of `ept fetch`, or damaged; {remedy}") from error
    if found != digest(values):
        raise InputError(f"{path}: damaged, its digest does not match its content; {remedy}")
    if values["task"] != task.name or values["columns"] != _columns(task):
        raise InputError(f"{path}: written for other columns than {task.name} has now; {remedy}")
    return files


def _check_digests(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    for name, values in files.items():
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: there is no such file; remove {folder} and fetch the task again")
        if (found := sha256_file(folder / name)) != values["sha256"]:
            raise InputError(
                f"{folder / name}: damaged, its SHA-256 begins with {found[:8]}, {MANIFEST} says "
                f"{values['sha256'][:8]}; remove {folder} and fetch the task again"
            )


def read_raw(task: Task, folder: Path) -> dict[str, pa.RecordBatch]:
    """The published splits of a task as `fetch` wrote them, by split, with the columns of `ept.data.check.text_schema`.

    Raises InputError where the folder is missing or incomplete, or a file is not the one that was written.
    """
    files = _manifest(task, folder)
    _check_digests(folder, files)
    schema = text_schema(task)
    return {
        Path(name).stem: collected(Parquet(folder / name, str(folder / name)).batches(schema.names), schema)
        for name in files
    }


def download(task: Task, folder: Path) -> dict[str, list[str]]:
    """Download a task's published splits into `folder` and return the names of each one's files there, in order.

    The library datasets would give the rows too (`ept.data.own` uses it for data sets of any format), but not what is
    needed here: it compares no checksums and no page checksums, keeps the files and a copy in Arrow in its cache (five
    times the bytes of data/raw), and reads a row group at once (docs/reliability.md).

    Raises InputError where the Hub has no such configuration or split, and for whatever ept.hub refuses.
    """
    repository = HubRepository("dataset", *REPOSITORIES[task.suite])
    prefix = f"{task.config}/"
    names = [name.removeprefix(prefix) for name in repository.names if name.startswith(prefix)]
    shards = {split: split_files(names, split, f"{repository.where} {task.config}") for split in task.splits}
    for split, found in shards.items():
        if not found:
            raise InputError(
                f"{repository.where}: there are no files {prefix}{split}-*.parquet; check HF_ENDPOINT or use "
                "data.source local"
            )
    paths = {split: [f"{prefix}{name}" for name in found] for split, found in shards.items()}
    repository.download([name for found in paths.values() for name in found], folder)
    return paths
