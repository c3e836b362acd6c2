"""After a crash: what was left half-written, or was torn by the disk, is found and removed, so that it is made again.

Every file is written complete or not at all (ept.files), but a process that is killed leaves its temporary file, and a
machine that dies may lose the end of a file that was there already. Snakemake looks at time stamps alone.
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from safetensors import SafetensorError, safe_open

from ept.errors import InputError
from ept.files import DIGESTS, digest, sha256_file
from ept.plan import paths

# Bytes.
LEAST_FREE = 1_000_000
# The names that ept.files gives to temporary files and folders: the final name between a dot and eight characters.
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")


def require_room(folder: Path) -> None:
    """Raise InputError where a disk is so full that Snakemake could not even write its own notes."""
    if shutil.disk_usage(folder).free < LEAST_FREE:
        raise InputError(f"{folder} has no room left: the disk is full; free some space and run the same again")


def remove_damaged(folders: Iterable[Path]) -> list[str]:
    """Remove torn and temporary files below the folders. Returns a line on each: what it was and why it went.

    What one job makes as a folder goes as a folder, because Snakemake looks no deeper. Files of other kinds than the
    workflow writes are left alone.
    """
    lines = []
    for folder in folders:
        for path, reason in list(_damaged(folder)):
            whole = paths.made_as_a_whole(path)
            shutil.rmtree(whole) if whole.is_dir() else whole.unlink(missing_ok=True)
            lines.append(f"removed {whole}: {reason}" if whole == path else f"removed {whole}: {path.name}: {reason}")
    return lines


def _damaged(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.rglob("*")):
        if _TEMPORARY.fullmatch(path.name):
            yield path, "a temporary file of a process that ended"
        elif path.suffix in _CHECKS and path.is_file() and not any(_TEMPORARY.fullmatch(part) for part in path.parts):
            try:
                _CHECKS[path.suffix](path)
            except FileNotFoundError:
                # A job that still runs has taken it away.
                continue
            except (OSError, ValueError, pa.ArrowException, SafetensorError, yaml.YAMLError):
                yield path, "it is not whole"
                continue
            if path.name.endswith("settings.json"):
                for made in _changed(path):
                    yield made, f"it is not what {path.name} says"


def _changed(listing: Path) -> list[Path]:
    """The files that a table's or the figures' settings name with their digest and that are not like that."""
    made = json.loads(listing.read_text(encoding="utf-8")).get(DIGESTS, {})
    files = {listing.parent / name: sha for name, sha in made.items()}
    return [path for path, sha in files.items() if path.is_file() and sha256_file(path) != sha]


def _json(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    json.loads(text)
    if not text.endswith("\n"):
        raise ValueError("the last line has no end")


def _arrow(path: Path) -> None:
    pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _safetensors(path: Path) -> None:
    with safe_open(path, framework="numpy") as file:
        file.keys()


def _configuration(path: Path) -> None:
    """A resolved configuration has the name of its content."""
    if path.parent.name == "configurations" and digest(yaml.safe_load(path.read_text())) != path.stem:
        raise ValueError("another content than its name says")


# By ending: what raises for a file that is not whole.
_CHECKS = {
    ".json": _json,
    ".parquet": pq.read_table,
    ".arrow": _arrow,
    ".safetensors": _safetensors,
    ".yaml": _configuration,
}
