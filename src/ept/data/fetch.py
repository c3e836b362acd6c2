"""Bring a task's published splits into data/raw, checked, and read them there."""

import re
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ept.data.check import check_table, read_parquet
from ept.data.source import REPOSITORIES, DataSource, locate, published_files
from ept.errors import InputError
from ept.files import write_atomically
from ept.hub import HubRepository
from ept.tasks.record import Task


def fetch(task: Task, source: DataSource, folder: Path) -> None:
    """Write <folder>/<split>.parquet for every published split, after checking all of them.

    A hub revision cannot change, so that a folder which has all its splits is left alone and needs no
    network. Raises InputError for whatever ept.data.check refuses, and for what the source cannot give.
    """
    if source.kind == "hub" and all((folder / f"{split}.parquet").is_file() for split in task.splits):
        return
    tables = _read(task, source)
    for where, table in tables.values():
        check_table(task, table, where)
    for split, (_, table) in tables.items():
        with write_atomically(folder / f"{split}.parquet") as path:
            pq.write_table(table, path, compression="zstd")


def _read(task: Task, source: DataSource) -> dict[str, tuple[str, pa.Table]]:
    """By split: where the table comes from, for messages, and the table."""
    if source.kind == "demo":
        from ept.demo.generator import generate

        return {split: (f"demo {task.name} {split}", generate(task.name, split, source.seed)) for split in task.splits}
    if source.kind == "local":
        files = locate(task, source.path)
        return {split: (str(file), read_parquet(file)) for split, file in files.items()}
    # Downloaded outside of the project, so that a job that is killed leaves nothing half-written in it.
    with tempfile.TemporaryDirectory(prefix="ept-hub-") as temporary:
        folder, repository = Path(temporary), REPOSITORIES[task.suite][0]
        return {
            split: (
                f"{repository} {task.config} {split}",
                pa.concat_tables(read_parquet(folder / name, f"{repository} {name}") for name in names),
            )
            for split, names in download(task, folder).items()
        }


def read_raw(task: Task, folder: Path) -> dict[str, pa.Table]:
    """The published splits of a task as `fetch` wrote them, with a column `row`: "<split>:<row in the file>".

    Raises InputError where train or validation is missing or a file is torn.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; make it with `ept fetch --task {task.name}`")
    tables = {name: read_parquet(file) for name, file in published_files(task, folder).items()}
    return {
        name: table.append_column("row", pa.array([f"{name}:{row}" for row in range(table.num_rows)]))
        for name, table in tables.items()
    }


def download(task: Task, folder: Path) -> dict[str, list[str]]:
    """Download a task's published splits into `folder` and return the names of each one's files there, in order.

    Raises InputError where the hub has no such configuration or split, and for whatever ept.hub refuses.
    """
    repository = HubRepository("dataset", *REPOSITORIES[task.suite])
    shards = {split: _shards(task, split, repository) for split in task.splits}
    for names in shards.values():
        for name in names:
            repository.download(name, folder)
    return shards


def _shards(task: Task, split: str, repository: HubRepository) -> list[str]:
    """The files <config>/<split>-0000x-of-0000y.parquet of a split, all of them, in order."""
    pattern = re.compile(rf"{re.escape(task.config)}/{split}-(\d+)-of-(\d+)\.parquet")
    found = sorted(name for name in repository.names if pattern.fullmatch(name))
    if not found or len(found) != int(pattern.fullmatch(found[0])[2]):
        raise InputError(
            f"{repository.where}: there are {len(found)} files {task.config}/{split}-*.parquet, which is not the "
            "whole split; check HF_ENDPOINT or use data.source local"
        )
    return found
