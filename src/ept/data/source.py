"""Where published splits come from: the demonstration generator, the Hugging Face hub, or a local folder."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ept.data import hub, local
from ept.demo import GENERATOR_VERSION
from ept.errors import InputError
from ept.files import write_atomically
from ept.tasks.record import Task

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class DataSource:
    """A source of published splits: `path` belongs to local folders, `seed` to the demonstration."""

    kind: Literal["demo", "hub", "local"]
    path: str = ""
    seed: int = 0


def identity(source: DataSource, task: Task) -> str:
    """The declared identity of a task's data: short, fit for paths, known without reading or a download.

    Raises InputError where a local file is missing or torn.
    """
    if source.kind == "demo":
        return f"demo-v{GENERATOR_VERSION}-seed{source.seed}"
    if source.kind == "hub":
        return f"hub-{hub.REPOSITORIES[task.suite][1][:8]}"
    return f"local-{local.footers_digest(local.locate(task, source.path))}"


def fetch(task: Task, source: DataSource, folder: Path) -> None:
    """Write <folder>/<split>.parquet for every published split, after checking all of them.

    A hub revision cannot change, so that a folder which has all its splits is left alone and needs no
    network. Raises InputError for whatever ept.data.check refuses, and for what the source cannot give.
    """
    import pyarrow.parquet as pq

    from ept.data.check import check_table

    if source.kind == "hub" and all((folder / f"{split}.parquet").is_file() for split in task.splits):
        return
    tables = _read(task, source)
    for where, table in tables.values():
        check_table(task, table, where)
    for split, (_, table) in tables.items():
        with write_atomically(folder / f"{split}.parquet") as path:
            pq.write_table(table, path, compression="zstd")


def _read(task: Task, source: DataSource) -> dict[str, tuple[str, "pa.Table"]]:
    """By split: where the table comes from, for messages, and the table."""
    import pyarrow as pa

    from ept.data.check import read_parquet

    if source.kind == "demo":
        from ept.demo.generator import generate

        return {split: (f"demo {task.name} {split}", generate(task.name, split, source.seed)) for split in task.splits}
    if source.kind == "local":
        files = local.locate(task, source.path)
        return {split: (str(file), read_parquet(file)) for split, file in files.items()}
    # Downloaded outside of the project, so that a job that is killed leaves nothing half-written in it.
    with tempfile.TemporaryDirectory(prefix="ept-hub-") as temporary:
        folder, repository = Path(temporary), hub.REPOSITORIES[task.suite][0]
        return {
            split: (
                f"{repository} {task.config} {split}",
                pa.concat_tables(read_parquet(folder / name, f"{repository} {name}") for name in names),
            )
            for split, names in hub.download(task, folder).items()
        }


def read_raw(task: Task, folder: Path) -> dict[str, "pa.Table"]:
    """The published splits of a task as `fetch` wrote them, with a column `row`: "<split>:<row in the file>".

    Raises InputError where train or validation is missing or a file is torn.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; make it with `ept fetch --task {task.name}`")
    import pyarrow as pa

    from ept.data.check import read_parquet

    tables = {name: read_parquet(file) for name, file in local.published_files(task, folder).items()}
    return {
        name: table.append_column("row", pa.array([f"{name}:{row}" for row in range(table.num_rows)]))
        for name, table in tables.items()
    }
