"""Where published splits come from: the demonstration generator, the Hugging Face hub, or a local folder."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ept.demo.identity import GENERATOR_VERSION
from ept.errors import InputError
from ept.tasks.record import Task


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
        return f"hub-{REPOSITORIES[task.suite][1][:8]}"
    return f"local-{footers_digest(locate(task, source.path))}"


MAGIC = b"PAR1"


def locate(task: Task, path: str) -> dict[str, Path]:
    """The files of a task's published splits, by split.

    MNLI's validation is validation_matched and validation_mismatched, or the first of them, or one
    `validation`. SQuAD's folder is plain_text (as on the hub) or v1.1. Raises InputError where a folder or
    file is missing.
    """
    if not Path(path).is_dir():
        raise InputError(f"{path}: there is no such folder; correct data.path")
    return published_files(task, _folder(task, Path(path)))


def published_files(task: Task, folder: Path) -> dict[str, Path]:
    """The files <folder>/<split>.parquet of a task, by split. Raises InputError where one is missing."""
    files = {split: folder / f"{split}.parquet" for split in (*task.splits, "validation")}
    present = {split: file for split, file in files.items() if file.is_file()}
    if "validation_matched" in present:
        present.pop("validation", None)
    elif "validation" in present:
        present.pop("validation_mismatched", None)
    for split in ("train",) if "validation" in present else ("train", task.splits[1]):
        if split not in present:
            raise InputError(f"{files[split]}: there is no such file; put {task.name}'s {split} split there")
    return present


def _folder(task: Task, path: Path) -> Path:
    names = [task.config, "v1.1"] if task.suite == "squad" else [task.config]
    for name in names:
        if (folder := path / task.suite / name).is_dir():
            return folder
    missing = path / task.suite / names[0]
    raise InputError(f"{missing}: there is no such folder; put {task.name}'s Parquet files there")


def footers_digest(files: dict[str, Path]) -> str:
    """Eight hexadecimal digits of the SHA-256 over the splits' names and Parquet footers.

    A footer holds schema, row counts, offsets and statistics, so that most changes of the data change it, and
    it is read in a moment however large the file is. Raises InputError for a file that is not whole.
    """
    digest = hashlib.sha256()
    for split, file in sorted(files.items()):
        digest.update(split.encode() + b"\0" + _footer(file))
    return digest.hexdigest()[:8]


def _footer(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 8))
        tail = file.read()
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != MAGIC or length + 8 > size:
            raise InputError(f"{path}: this is not a whole Parquet file (its end is missing); copy it again")
        file.seek(size - 8 - length)
        return file.read(length)


REPOSITORIES = {
    "glue": ("nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"),
    "super_glue": ("aps/super_glue", "3de24cf8022e94f4ee4b9d55a6f539891524d646"),
    "squad": ("rajpurkar/squad", "7b6d24c440a36b6815f21b70d25016731768db1f"),
}
"""Suite -> repository and revision."""
