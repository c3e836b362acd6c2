"""Where published splits come from: the demonstration generator, the Hugging Face Hub, or a local folder."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ept.demo.identity import GENERATOR_VERSION
from ept.errors import InputError
from ept.files import content_digests, digest
from ept.tasks.record import OwnData, Task

REPOSITORIES = {
    "glue": ("nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"),
    "super_glue": ("aps/super_glue", "3de24cf8022e94f4ee4b9d55a6f539891524d646"),
    "squad": ("rajpurkar/squad", "7b6d24c440a36b6815f21b70d25016731768db1f"),
}
"""Suite -> Hub repository and revision."""

_MAGIC = b"PAR1"
# Raised when the same file of a user is read as other rows.
_OWN_VERSION = 1


@dataclass(frozen=True)
class DataSource:
    """A source of published splits: `path` belongs to local folders, `seed` to the demonstration."""

    kind: Literal["demo", "hub", "local"]
    path: str = ""
    seed: int = 0


def identity(source: DataSource, task: Task) -> str:
    """The identity of a task's data, short and fit for paths, known without a download.

    Of a local folder these are eight hexadecimal digits of the SHA-256 over the contents of the files of the task's
    splits (`ept.files.content_digest`): any change of a byte gives another identity, another place does not. Raises
    InputError where a local file is missing or incomplete.
    """
    if task.own:
        return _own_identity(task, task.own)
    if source.kind == "demo":
        return f"demo-v{GENERATOR_VERSION}-seed{source.seed}"
    if source.kind == "hub":
        return f"hub-{REPOSITORIES[task.suite][1][:8]}"
    files = {
        f"{split}/{number}": path
        for split, paths in locate(task, source.path).items()
        for number, path in enumerate(paths)
    }
    for path in files.values():
        _check_ends(path)
    return f"local-{content_digests(files)[:8]}"


def _own_identity(task: Task, own: OwnData) -> str:
    """The identity of the rows: of the files' contents (or the Hub's revision), and of what is read out of them.

    Raises InputError for a file that does not exist.
    """
    for split, path in own.files:
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file; correct tasks.define.{task.name}.files.{split}")
    content = content_digests({split: Path(path) for split, path in own.files}) if own.files else list(own.hub)
    read = [sorted(task.columns), own.label, list(own.values), task.kind, task.splits, list(own.hub_splits)]
    return f"own-{digest([_OWN_VERSION, content, read])}"


def locate(task: Task, path: str) -> dict[str, list[Path]]:
    """The files of a task's published splits, by split: <split>.parquet, or the shards that the Hub has, in order.

    MNLI's validation is validation_matched and validation_mismatched, or the first of them, or one
    `validation`. SQuAD's folder is plain_text (as on the Hub) or v1.1. Raises InputError where a folder or
    file is missing.
    """
    if not Path(path).is_dir():
        raise InputError(f"{path}: there is no such folder; correct data.path")
    folder = _folder(task, Path(path))
    names = [file.name for file in folder.iterdir() if file.is_file()]
    present = {}
    for split in (*task.splits, "validation"):
        if (single := f"{split}.parquet") in names:
            present[split] = [folder / single]
        elif shards := shard_names(names, split, str(folder)):
            present[split] = [folder / name for name in shards]
    if "validation_matched" in present:
        present.pop("validation", None)
    elif "validation" in present:
        present.pop("validation_mismatched", None)
    for split in ("train",) if "validation" in present else ("train", task.splits[1]):
        if split not in present:
            missing = folder / f"{split}.parquet"
            raise InputError(f"{missing}: there is no such file; put {task.name}'s {split} split there")
    return present


def shard_names(names: Iterable[str], split: str, where: str) -> list[str]:
    """The names <split>-0000x-of-0000y.parquet among `names`, in order; none where there is none.

    Raises InputError, which calls the folder `where`, unless all y of one y are there.
    """
    pattern = re.compile(rf"{re.escape(split)}-(\d+)-of-(\d+)\.parquet")
    found: Mapping[tuple[int, int], str] = {
        (int(match[2]), int(match[1])): name for name in names if (match := pattern.fullmatch(name))
    }
    whole = sorted(found)
    if whole and whole != [(whole[0][0], number) for number in range(whole[0][0])]:
        raise InputError(
            f"{where}: the files {split}-*-of-*.parquet are {len(found)}, but should be numbered from 0 to "
            f"{whole[-1][0] - 1}, each once; add those that are missing"
        )
    return [found[key] for key in whole]


def _folder(task: Task, path: Path) -> Path:
    names = [task.config, "v1.1"] if task.suite == "squad" else [task.config]
    for name in names:
        if (folder := path / task.suite / name).is_dir():
            return folder
    missing = path / task.suite / names[0]
    raise InputError(f"{missing}: there is no such folder; put {task.name}'s Parquet files there")


def _check_ends(path: Path) -> None:
    """Raise InputError for a file that does not begin and end as Parquet: the usual sign of an interrupted copy."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        begins = file.read(4)
        file.seek(max(0, size - 8))
        tail = file.read()
    if begins != _MAGIC or tail[4:] != _MAGIC or int.from_bytes(tail[:4], "little") + 12 > size:
        raise InputError(f"{path}: this is not a whole Parquet file (its beginning or end is missing); copy it again")
