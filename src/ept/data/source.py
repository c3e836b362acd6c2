"""Where published splits come from: the demonstration generator, the Hugging Face Hub, or a local folder."""

import re
from collections.abc import Iterable
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
    "nq": ("lucadiliello/naturalquestionsshortqa", "49435450b0abb287be45639fdaa49a9b56512f9b"),
    "hotpotqa": ("lucadiliello/hotpotqa", "87a889a73da456a0888ab25d6e91aaf2ff6e9976"),
    "searchqa": ("lucadiliello/searchqa", "c1a979068ba118d85467179b704031d113d689cc"),
    "newsqa": ("lucadiliello/newsqa", "728e52920b8e4ffcfaad93fa47556f26a1d82546"),
    "winogrande": ("allenai/winogrande", "01e74176c63542e6b0bcb004dcdea22d94fb67b5"),
    # No commit of it is known here, so that the branch is read; its splits have had their sizes since 2015.
    "yelp_polarity": ("fancyzhx/yelp_polarity", "main"),
    "scitail": ("allenai/scitail", "0cc4353235b289165dfde1c7c5d1be983f99ce44"),
    "paws": ("google-research-datasets/paws", "161ece9501cf0a11f3e48bd356eaa82de46d6a09"),
}
"""Data set (`Task.suite`) -> Hub repository and revision."""

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
        if task.suite not in REPOSITORIES:
            raise InputError(
                f"{task.name} is not among the data sets that are read from the Hub; use data.source local"
            )
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
    """The files of a task's published splits, by split and in order, under any of the names of `split_files`.

    MNLI's validation is validation_matched and validation_mismatched, or the first of them, or one
    `validation`. SQuAD's folder is plain_text (as on the Hub) or v1.1. Raises InputError where a folder or
    file is missing.
    """
    if not Path(path).is_dir():
        raise InputError(f"{path}: there is no such folder; correct data.path")
    folder = _folder(task, Path(path))
    names = [str(file.relative_to(folder)) for file in (*folder.glob("*.parquet"), *folder.glob("*/*.parquet"))]
    splits = (*task.splits, "validation") if task.split == "mismatched" else task.splits
    present = {
        split: [folder / name for name in files]
        for split in splits
        if (files := split_files(names, split, str(folder)))
    }
    needed = task.splits
    if task.split == "mismatched":
        chosen, other = "validation_matched", "validation"
        if "validation_matched" not in present and "validation" in present:
            chosen, other = "validation", "validation_mismatched"
        present.pop(other, None)
        needed = ("train", chosen)
    for split in needed:
        if split not in present:
            missing = folder / f"{split}.parquet"
            raise InputError(f"{missing}: there is no such file; put {task.name}'s {split} split there")
    return present


def split_files(names: Iterable[str], split: str, where: str) -> list[str]:
    """The files of a split among the names of a folder, in order; none where there is none.

    They are named <split>.parquet, or <split>-0000i-of-0000n.parquet with or without a hyphen and 16 hexadecimal
    digits, or <split>/000i.parquet (how the Hub converts other formats); the first of these that is there is taken.

    Args:
        names: Names relative to the folder.
        split: The published split.
        where: What messages call the folder.

    Raises:
        InputError: Unless all parts of the split are there, each once.
    """
    names, named = list(names), re.escape(split)
    if f"{split}.parquet" in names:
        return [f"{split}.parquet"]
    for pattern in (rf"{named}-(\d+)-of-(\d+)(?:-[0-9a-f]{{16}})?\.parquet", rf"{named}/(\d+)()\.parquet"):
        found = sorted((match[2], int(match[1]), match[0]) for name in names if (match := re.fullmatch(pattern, name)))
        if not found:
            continue
        count = int(found[-1][0] or found[-1][1] + 1)
        if [(int(whole or count), number) for whole, number, _ in found] != [(count, at) for at in range(count)]:
            raise InputError(
                f"{where}: {len(found)} files are named like {found[0][2]}, but their numbers must run from 0 to "
                f"{count - 1}, each once; add the missing ones"
            )
        return [name for _, _, name in found]
    return []


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
        raise InputError(f"{path}: not a complete Parquet file (its beginning or end is missing); copy it again")
