"""Everything made again from nothing, and compared with the recorded results."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ept import paths
from ept.errors import InputError
from ept.experiment import Experiment
from ept.table_plan import EFFICIENCY


def compared_files(experiment: Experiment) -> list[Path]:
    """Every table of the configuration in all its forms, but `efficiency`, which holds times; and the summary."""
    output = experiment.config.output
    files = []
    for table in experiment.default_tables:
        if table != EFFICIENCY:
            csv = paths.table_file(output, table)
            files += [csv.with_suffix(f".{ending}") for ending in paths.TABLE_ENDINGS]
            files.append(paths.table_settings_file(output, table))
    return [*files, paths.summary_file(output)]


def rebuild(experiment: Experiment) -> Path:
    """Run `dvc repro` in a clone of this repository's last commit, without anything that was made before; return the
    clone's folder. Raises InputError where there is nothing to compare with or what would be rebuilt is not committed,
    and where a stage fails.
    """
    missing = [path for path in compared_files(experiment) if not path.exists()]
    if missing:
        raise InputError(
            f"{missing[0]} is not there, so that there is nothing to compare with; `make pull` fetches recorded "
            "results, `dvc repro` makes them"
        )
    changed = _output("git", "status", "--porcelain", "--untracked-files=no", "--", ":!dvc.lock").split("\n")[0]
    if changed:
        raise InputError(f"{changed[3:]} is changed and not committed; commit it: a clean room holds commits alone")
    clone = Path(tempfile.mkdtemp(prefix="ept-clean-room-")) / "clone"
    _output("git", "clone", "--quiet", ".", str(clone))
    # A cache that the user's DVC shares between clones would hold what was made before.
    _output("dvc", "config", "--local", "cache.dir", str(clone / ".dvc/cache"), cwd=clone)
    # The program of the clone, not of the folder that was installed.
    environment = {**os.environ, "PYTHONPATH": str(clone / "src")}
    done = subprocess.run(["dvc", "repro", "--force"], cwd=clone, env=environment)
    if done.returncode:
        raise InputError(f"the rebuild in {clone} failed, as said above; mend it there or here and run the same again")
    return clone


def differing(experiment: Experiment, clone: Path) -> list[Path]:
    """The recorded files that are not byte for byte those of the clone."""
    return [path for path in compared_files(experiment) if not _same(path, clone / path)]


def remove(clone: Path) -> None:
    """Remove a clone that has served."""
    shutil.rmtree(clone.parent)


def _same(recorded: Path, rebuilt: Path) -> bool:
    return rebuilt.exists() and recorded.read_bytes() == rebuilt.read_bytes()


def _output(*command: str, cwd: Path | None = None) -> str:
    """What a command prints. Raises InputError where it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"`{' '.join(command)}` failed: {done.stderr.strip().splitlines()[-1]}; mend that first")
    return done.stdout
