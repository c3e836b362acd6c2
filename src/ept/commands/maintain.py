"""Verbs for maintenance: after a crash, and after a change of the settings' types."""

import argparse
import contextlib
import fcntl
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ept.commands.options import Verbs, experiment_of
from ept.errors import InputError
from ept.files import DIGESTS, digest, leftovers, parse_json, sha256_file
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.plan.tables import SUMMARY, ZERO_SHOT
from ept.plan.targets import Targets

# Bytes. With less, Snakemake could not even write its own notes.
LEAST_FREE = 1_000_000
# What safetensors calls a file that it has not finished.
_SAFETENSORS_TEMPORARY = re.compile(r"\.tmp[A-Za-z0-9]{6}")


def add_verbs(verbs: Verbs) -> None:
    """Add `mend` and `reference`."""
    verbs.group("maintenance")
    mending = verbs.add_with_config(mend)
    mending.add_argument("--look", action="store_true", help="remove nothing; only report a full disk")
    verbs.add(reference)


def mend(options: argparse.Namespace) -> None:
    """Remove files that a crash damaged; the workflow then makes them again.

    Only files that the configuration's jobs write are removed: those whose digest differs from the one recorded when
    they were written, and temporary files of killed processes. The command does nothing while a workflow is running in
    this folder.
    """
    require_room(Path.cwd())
    if options.look:
        return
    experiment = experiment_of(options)
    refuse_beside_workflow()
    for path, reason in damaged(experiment):
        remove(path)
        print(f"removed {path}: {reason}")


def reference(options: argparse.Namespace) -> None:
    """Write the configuration's schema and config/README.md from the typed settings."""
    from ept.config.reference import write_reference

    write_reference(Path("."))


def require_room(folder: Path) -> None:
    """Raise InputError if the disk of `folder` is full."""
    if shutil.disk_usage(folder).free < LEAST_FREE:
        raise InputError(f"the disk of {folder} is full; free some space and run the same command again")


def refuse_beside_workflow() -> None:
    """Raise InputError while Snakemake runs in this folder, whose jobs may be writing what looks damaged."""
    path = paths.workflow_lock_file()
    if not path.exists():
        return
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"a workflow is running in {Path.cwd()}; wait until it has ended, or stop it (Ctrl-C) first"
            ) from error


def damaged(experiment: Experiment) -> Iterator[tuple[Path, str]]:
    """Yield what must go, each with the reason: a file, or the folder that one job makes as a whole.

    Packs that another process trains at this moment are left alone.
    """
    targets = Targets(experiment)
    for task in experiment.tasks:
        folder = experiment.raw_folder(task)
        yield from _abandoned(folder)
        if folder.is_dir() and (problem := _raw_problem(experiment, task)):
            yield folder, problem
        for path in targets.tokens(task):
            yield from _abandoned(path)
            if path.exists() and (problem := _tokens_problem(path)):
                yield path, problem
    if experiment.config.backbone.source == "hub":
        yield from _abandoned(experiment.backbone_folder)
    for pack in experiment.packs:
        with _unless_trained_now(pack) as free:
            if free:
                yield from _damaged_pack(pack)
    for table in [*experiment.tables, SUMMARY, ZERO_SHOT]:
        yield from _damaged_listing(targets.table(table)[-1])
        for path in targets.table(table):
            yield from _abandoned(path)
    figures = paths.figure_settings_file(targets.output)
    yield from _damaged_listing(figures)
    for path in [figures, *targets.summary, *paths.report_files(targets.output).values()]:
        yield from _abandoned(path)


def abandoned_in_pack(pack: Pack) -> Iterator[tuple[Path, str]]:
    """Yield the temporary files of a killed training in the folders that belong to the pack alone."""
    for folder in (pack.folder, pack.prompts, pack.checkpoints):
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if _SAFETENSORS_TEMPORARY.fullmatch(path.name):
                yield path, "a temporary file of a process that was killed"
    for path in [*pack.files, *sorted(pack.checkpoints.glob("*.safetensors"))]:
        yield from _abandoned(path)


def remove(path: Path) -> None:
    """Remove a file or a folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _damaged_pack(pack: Pack) -> Iterator[tuple[Path, str]]:
    yield from abandoned_in_pack(pack)
    for listing in (pack.folder / "settings.json", pack.prompts / "settings.json"):
        yield from _damaged_listing(listing)


def _damaged_listing(listing: Path) -> Iterator[tuple[Path, str]]:
    """What a settings file names with its digest and that has another now, or the settings file itself."""
    if not listing.exists():
        return
    values = _read_json(listing)
    if values is None:
        yield listing, "it is not valid JSON"
        return
    from ept.results.records import OWN_DIGEST

    if (own := values.pop(OWN_DIGEST, None)) is not None and own != digest(values):
        yield listing, "its content differs from its digest"
        return
    recorded = values.get(DIGESTS, {})
    # Files next to it: a damaged listing must not name a person's file elsewhere.
    if not isinstance(recorded, dict) or any(name == ".." or Path(name).name != name for name in recorded):
        yield listing, "it names files in other folders"
        return
    for name, sha256 in recorded.items():
        path = listing.parent / name
        if path.is_file() and sha256_file(path) != sha256:
            yield path, f"it differs from what {listing.name} says"


def _read_json(path: Path) -> dict | None:
    """The content of a file that the workflow wrote; None if it is damaged."""
    try:
        values = parse_json(path.read_bytes())
    except ValueError:
        return None
    return values if isinstance(values, dict) else None


def _abandoned(path: Path) -> Iterator[tuple[Path, str]]:
    for temporary in leftovers(path):
        yield temporary, "a temporary file of a process that was killed"


def _raw_problem(experiment: Experiment, task: str) -> str | None:
    from ept.data.fetch import MANIFEST, read_raw

    folder = experiment.raw_folder(task)
    # A folder without a manifest is not ours to judge.
    if not (folder / MANIFEST).exists():
        return None
    return _problem(lambda: read_raw(experiment.config.tasks.record(task), folder))


def _tokens_problem(path: Path) -> str | None:
    from ept.data.dataset import TokenizedSplit

    return _problem(lambda: TokenizedSplit(path))


def _problem(read: Callable[[], object]) -> str | None:
    """What a reader, which checks digests, says about a file; None if it is sound."""
    try:
        read()
    except InputError as error:
        return str(error)
    return None


@contextlib.contextmanager
def _unless_trained_now(pack: Pack) -> Iterator[bool]:
    """Hold the pack's lock; yields False if another process holds it."""
    path = paths.lock_file(pack.checkpoints)
    if not path.exists():
        yield True
        return
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
