"""A clone of the project as a user has it, driven through git, dvc, snakemake and ept."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

PARTS = ("Makefile", "Snakefile", "workflow", "profiles", "config", "src", "dvc.yaml", ".dvcignore", ".gitignore")
PARTS += (".dvc/config", ".dvc/.gitignore", ".dvc/plots")

_TRAINING = {"batch_size": 4, "steps": 2, "warmup_steps": 0, "evaluate_every": 2, "validation_rows": 8}
# SPoT on one task from one source prompt: two trainings.
SMALL = {
    "output": "results",
    "data": {"source_length": {"default": 64}},
    "tasks": {"target": ["cb"], "source": ["sst2"]},
    "methods": ["spot"],
    "seeds": [0],
    "prompt": {"length": 10, "short_length": 6, "reference_length": 64},
    "training": {**_TRAINING, "learning_rates": {"spot": {"prompt": [0.3]}}},
    "source_training": {**_TRAINING, "learning_rates": {"pt": {"prompt": [0.3]}}},
    "few_shot": {"k": []},
}

# Stands before the real program on the path: notes every call, and breaks off the trainings that $EPT_BROKEN names.
_EPT = """#!/bin/sh
echo "$@" >> "$EPT_CALLS"
case "$*" in *"${EPT_BROKEN:-no such words}"*) echo "broken off" >&2; exit 1;; esac
exec "$EPT_PYTHON" -m ept.cli "$@"
"""


class Clone:
    """A git repository in `folder`; `calls` notes what was asked of ept in it."""

    def __init__(self, folder: Path, source: Path | None = None, home: Path | None = None):
        # The program that runs in it, and where DVC keeps what belongs to a user.
        self.folder, self.source, self.home = folder, source or folder / "src", home or folder.parent / "home"
        self._bin = folder.parent / "bin"
        self._bin.mkdir(exist_ok=True)
        (self._bin / "ept").write_text(_EPT)
        (self._bin / "ept").chmod(0o755)
        self.calls = folder.parent / f"{folder.name}.calls"

    @classmethod
    def of_project(cls, project: Path, folder: Path) -> "Clone":
        """A new repository with the project's files as they are now and the small configuration."""
        ignored = shutil.ignore_patterns("__pycache__")
        for part in PARTS:
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            if (project / part).is_dir():
                shutil.copytree(project / part, folder / part, ignore=ignored)
            else:
                shutil.copy(project / part, folder / part)
        clone = cls(folder)
        clone.configure(SMALL)
        clone.run("git", "init", "--quiet")
        clone.commit()
        return clone

    def clone(self, folder: Path) -> "Clone":
        """`git clone`: what is committed."""
        self.run("git", "clone", "--quiet", ".", folder)
        return Clone(folder, None if (folder / "src").exists() else self.source, self.home)

    def configure(self, values: dict) -> None:
        """Write config/config.yaml."""
        (self.folder / "config/config.yaml").write_text(yaml.safe_dump(values))

    def commit(self) -> None:
        """Commit everything that git does not ignore."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "state")

    def run(self, *command: str | Path, fails: bool = False, **environment: str) -> str:
        """Run a command and return what it printed; assert that it succeeds, or that it fails."""
        isolated = {
            "PATH": os.pathsep.join([str(self._bin), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(self.source),
            "EPT_CALLS": str(self.calls),
            "EPT_PYTHON": sys.executable,
            **{f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
            # Neither settings nor caches of whoever runs the tests.
            **{f"DVC_{name}_DIR": str(self.home / name) for name in ("GLOBAL_CONFIG", "SYSTEM_CONFIG", "SITE_CACHE")},
            "DVC_NO_ANALYTICS": "1",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DVC_"))}
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env=kept | isolated | environment,
        )
        output = done.stdout + done.stderr
        assert bool(done.returncode) == fails, output[-6000:]
        return output

    def make(self, target: str, fails: bool = False, **environment: str) -> str:
        """`make target`, for which the environment counts as made: it is the running one."""
        return self.run("make", "--assume-old", ".venv/.installed", target, fails=fails, **environment)

    def trained(self) -> list[str]:
        """The hashes that were trained since the last call of this method."""
        calls = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return [call.split("--hash ")[1].split()[0] for call in calls if call.startswith("train ")]

    def read(self, path: str) -> bytes:
        """The content of a file in the clone."""
        return (self.folder / path).read_bytes()

    def made_from(self) -> list[str]:
        """The hashes that stand beside the main table."""
        return hashes_behind(self.read("results/main.settings.json"))

    def add_remote(self, url: str | Path, **options: str) -> None:
        """Set the default remote in .dvc/config.local, as `dvc remote add --local` and `modify --local` do."""
        lines = ["[core]", "remote = store", "['remote \"store\"']", f"url = {url}"]
        lines += [f"{name} = {value}" for name, value in options.items()]
        (self.folder / ".dvc/config.local").write_text("\n".join(lines) + "\n")


def hashes_behind(settings: bytes) -> list[str]:
    """The hashes of the packs in a table's settings file."""
    return [run["hash"] for run in json.loads(settings)["runs"]]
