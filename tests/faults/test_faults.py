"""The whole workflow, killed again and again, with torn files, on a full disk: `make resume` ends alike."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

# Many starts of Snakemake and of training, some seconds each.
pytestmark = pytest.mark.long

TRAINING = {
    "batch_size": 4,
    "runs_per_pass": 2,
    "steps": 40,
    "warmup_steps": 4,
    "evaluate_every": 10,
    "validation_rows": 16,
    "learning_rates": {
        "pt": {"prompt": [0.3]},
        "spot": {"prompt": [0.3]},
        "ept": {"prompt": [0.3], "low_rank": [0.005]},
    },
}
CONFIGURATION = {
    "data": {"source_length": {"default": 64}},
    "tasks": {"target": ["cb"], "source": ["rte"]},
    "methods": ["spot", "ept"],
    "seeds": [0, 1],
    "prompt": {"length": 10, "short_length": 6, "reference_length": 64},
    "training": TRAINING,
    "few_shot": {**TRAINING, "k": [4], "initialize_from": ["scratch", "source"]},
}
KILLS = 50
# Records of times and memory, what is drawn from them or holds their digest, and what names the time of its making.
NOT_COMPARED = (
    "efficiency.*",
    "runs.json",
    "training_time.*",
    "costs.html",
    "figures/settings.json",
    "runs/*/*/*/*/*/settings.json",
    ".*",
    "report.zip",
)
# What a run leaves.
FOLDERS = ("results", "runs", "prompts")


class Clone:
    """A folder like a clone, with the project's files as links, in which the small workflow runs."""

    def __init__(self, project: Path, folder: Path):
        self.folder = folder
        self._said = folder.with_name(f"{folder.name}.said")
        folder.mkdir(exist_ok=True)
        for name in ("Snakefile", "workflow", "profiles", "Makefile", "pyproject.toml", "requirements"):
            (folder / name).symlink_to(project / name)
        (folder / ".venv").symlink_to(sys.prefix)
        (folder / "config").mkdir()
        (folder / "config/config.yaml").write_text(yaml.safe_dump(CONFIGURATION))

    def start(self, target: str) -> subprocess.Popen:
        """Start `make target`, its messages into a file beside the folder, whose disk may be full.

        The environment counts as made: it is the running one.
        """
        with open(self._said, "w") as said:
            return subprocess.Popen(
                ["make", "--assume-old", ".venv/.installed", target],
                cwd=self.folder,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self, target: str = "resume") -> bool:
        """Run `make target` to its end; whether the end was a good one."""
        return self.start(target).wait(timeout=600) == 0

    @property
    def said(self) -> str:
        logs = sorted(self.folder.glob("logs/**/*.log"), key=lambda path: path.stat().st_mtime)
        return self._said.read_text()[-3000:] + "".join(path.read_text()[-1500:] for path in logs[-2:])

    def processes(self) -> list[psutil.Process]:
        """Every process of the workflow, also those whose parents were killed: they run in the folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if Path(process.cwd()) == self.folder and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def results(self) -> dict[str, bytes]:
        """Tables, figures, predictions and prompts, by their paths."""
        paths = [path for name in FOLDERS for path in (self.folder / name).rglob("*") if path.is_file()]
        kept = [path for path in paths if not any(path.match(pattern) for pattern in NOT_COMPARED)]
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in kept
            if path.relative_to(self.folder).parts[1] not in ("checkpoints", "lists", "configurations")
        }


@pytest.fixture(scope="module")
def undisturbed(project, tmp_path_factory):
    """What an undisturbed run leaves."""
    clone = Clone(project, tmp_path_factory.mktemp("undisturbed"))
    assert clone.finish("run"), clone.said
    results = clone.results()
    assert {"results/main.csv", "results/fewshot_k4.csv"} <= results.keys()
    return results


def test_killed_at_random_moments_and_with_torn_files_it_ends_the_same(project, tmp_path, undisturbed):
    random = np.random.default_rng(0)
    kills, episode = Counter(), 0
    while kills.total() < KILLS:
        clone = Clone(project, tmp_path / f"episode{episode}")
        for _ in range(8):
            make = clone.start("resume")
            wound(clone, make, random, kills)
            tear(clone, random)
        assert clone.finish(), clone.said
        assert clone.results() == undisturbed
        hidden = [path for name in FOLDERS for path in clone.folder.glob(f"{name}/**/.*")]
        # Snakemake's own, in every folder that a rule makes.
        assert {path.name for path in hidden} <= {".snakemake_timestamp"}
        shutil.rmtree(clone.folder)
        episode += 1
    # Jobs, the workflow's own process, and all at once.
    assert min(kills.values()) >= 3 and len(kills) == 3, kills


def wound(clone: Clone, make: subprocess.Popen, random: np.random.Generator, kills: Counter) -> None:
    """Kill some processes of the workflow at random moments until `make` ends or everything was killed."""
    while True:
        time.sleep(random.uniform(0.5, 6))
        processes = clone.processes()
        if make.poll() is not None or not processes:
            break
        kind = random.choice(["job", "workflow", "everything"], p=[0.7, 0.15, 0.15])
        jobs = [process for process in processes if program(process) == "ept"]
        victims = {
            "job": [jobs[random.integers(len(jobs))]] if jobs else [],
            "workflow": [process for process in processes if program(process) == "snakemake"],
            "everything": processes,
        }[kind]
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.send_signal(signal.SIGKILL)
        # Until they have died, they hold their locks.
        assert not psutil.wait_procs([victim for victim in victims if victim.pid != make.pid], timeout=60)[1]
        # However many processes die at once.
        kills[kind] += bool(victims)
        if kind != "job" and victims:
            break
    make.wait(timeout=600)


def program(process: psutil.Process) -> str:
    """The Python program that a process runs: `ept` (also where a process was forked for it), `snakemake`, or another.

    The shell in which make starts `snakemake` is none, although its words name it.
    """
    try:
        words = process.cmdline()
    except psutil.Error:
        return ""
    if not words or not Path(words[0]).name.startswith("python"):
        return ""
    return "ept" if "ept.cli" in " ".join(words) else Path(words[1]).name


def tear(clone: Clone, random: np.random.Generator) -> None:
    """Let a file lose its end, as a machine that dies may do; sometimes none."""
    endings = (".parquet", ".arrow", ".safetensors", ".json", ".csv", ".md")
    files = [
        path
        for name in ("data", *FOLDERS)
        for path in sorted((clone.folder / name).rglob("*"))
        if path.suffix in endings
    ]
    if files and random.random() < 0.7:
        path = files[random.integers(len(files))]
        os.truncate(path, int(random.random() * path.stat().st_size))


def test_on_a_full_disk_it_stops_with_a_sentence_and_goes_on(project, tmp_path, undisturbed):
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", mount], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    try:
        clone = Clone(project, mount)
        ballast = mount / "ballast"
        # Full while data are fetched, while tasks are tokenized, and while prompts are trained.
        for free in (40_000, 600_000, 2_000_000):
            left = shutil.disk_usage(mount).free - free
            with ballast.open("wb") as file:
                file.write(bytes(left))
            assert not clone.finish()
            assert re.search(r"^error: .*\bdisk\b.*\bfull\b", clone.said, re.M), clone.said
            ballast.unlink()
        assert clone.finish(), clone.said
        assert clone.results() == undisturbed
    finally:
        subprocess.run(["umount", "--lazy", mount], check=True)
