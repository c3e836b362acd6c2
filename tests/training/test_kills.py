"""A real training that is killed at random moments ends bit for bit like one that is not."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from safetensors import SafetensorError, safe_open

# Dozens of starts of the program, some seconds each.
pytestmark = pytest.mark.long

TASK = "cb"
# More than a quick machine gets done between all kills.
STEPS = 240
VALUES = {
    "data": {"source_length": {"default": 64}},
    "tasks": {"target": [TASK]},
    "methods": ["pt", "dept", "ept"],
    "seeds": [0, 1],
    "prompt": {"length": 10, "short_length": 6, "reference_length": 64},
    "training": {
        "batch_size": 4,
        "steps": STEPS,
        "warmup_steps": 10,
        "evaluate_every": 15,
        "validation_rows": 16,
        "learning_rates": {
            "pt": {"prompt": [0.3, 0.1]},
            "dept": {"prompt": [0.3], "low_rank": [0.005, 0.0005]},
            "ept": {"prompt": [0.3, 0.1], "low_rank": [0.005]},
        },
    },
    "few_shot": {"k": [16], "initialize_from": ["scratch"], "steps": 100, "warmup_steps": 10, "evaluate_every": 20},
}
# With runs that end early.
STOPPING = {"patience": 2, "halving": 1, "learning_rates": {"ept": {"prompt": [0.3, 0.1, 0.01], "low_rank": [0.005]}}}
CASES = {
    "dept": ("dept", "full", {}),
    "ept": ("ept", "full", STOPPING),
    "few-shot pt": ("pt", "k16", {}),
}
# By SIGKILL, in each case, and one more while results are written.
KILLS = 7
# Beside times and memory: the commit may change while this runs, and the digest of runs.json with all of these.
NOT_COMPARED = ("train_seconds", "wall_seconds", "examples_per_second", "peak_memory_bytes", "commit", "sha256")


class Folder:
    """A folder in which `ept train` runs, with its data."""

    def __init__(self, path, case):
        self.path = path
        self.method, self.regime, changes = CASES[case]
        values = {**VALUES, "training": {**VALUES["training"], **changes}}
        (path / "config.yaml").write_text(yaml.safe_dump(values))

    def start(self, verb, *arguments):
        """Start a verb, its messages into a file."""
        command = [sys.executable, "-m", "ept.cli", verb, "--config", "config.yaml", *arguments]
        with open(self.path / "stderr", "w") as stderr:
            return subprocess.Popen(command, cwd=self.path, stdout=subprocess.DEVNULL, stderr=stderr)

    def start_training(self):
        return self.start(
            *("train", "--method", self.method, "--task", TASK, "--regime", self.regime, "--checkpoint-seconds", "0.2")
        )

    def finish(self, process):
        """Wait for the end, which must be a good one; returns what was said."""
        process.wait(timeout=300)
        assert process.returncode == 0, self.said
        return self.said

    @property
    def said(self):
        return (self.path / "stderr").read_text()

    def checkpoint(self):
        """The checkpoint's number of steps and when it was written; None where there is none."""
        for path in self.path.glob("data/checkpoints/**/part0.safetensors"):
            try:
                with safe_open(path, framework="pt") as file:
                    return json.loads(file.metadata()["ept"])["step"], path.stat().st_mtime_ns
            except (OSError, SafetensorError):
                return None
        return None

    def first_prompt(self):
        """When the first seed's prompt was written; None where there is none."""
        return next((path.stat().st_mtime_ns for path in self.path.glob("prompts/**/seed0.safetensors")), None)

    def results(self):
        """The bytes of every file that a training leaves, but for times and memory."""
        found = {}
        for path in sorted(self.path.glob("prompts/**/*")) + sorted(self.path.glob("runs/**/*")):
            if path.is_dir() or path.name.startswith("."):
                continue
            content = path.read_bytes()
            if path.name in ("runs.json", "settings.json"):
                record = json.loads(content)
                content = {key: value for key, value in record.items() if key not in NOT_COMPARED}
            found[str(path.relative_to(self.path))] = content
        return found


def wait_until(condition, process, seconds=120.0):
    """Wait until a condition holds; False where the process ends before."""
    until = time.monotonic() + seconds
    while process.poll() is None:
        if condition():
            return True
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.002)
    return False


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with tokenized data and a measured forward size."""
    folder = Folder(tmp_path_factory.mktemp("prepared"), "dept")
    for verb in ("fetch", "tokenize"):
        folder.finish(folder.start(verb, "--task", TASK))
    folder.finish(folder.start_training())
    assert list(folder.path.glob("data/measured/*.json"))
    return folder.path / "data"


@pytest.fixture(scope="module")
def undisturbed(prepared, tmp_path_factory):
    """The results of a case's undisturbed training, made once."""
    made = {}

    def get(case):
        if case not in made:
            folder = Folder(tmp_path_factory.mktemp("undisturbed"), case)
            shutil.copytree(prepared, folder.path / "data")
            folder.finish(folder.start_training())
            made[case] = folder.results()
        return made[case]

    return get


@pytest.fixture
def folder(prepared, tmp_path, request):
    shutil.copytree(prepared, tmp_path / "data")
    return Folder(tmp_path, request.param)


def in_each_case(*cases):
    return pytest.mark.parametrize(("folder", "case"), [(case, case) for case in cases], indirect=["folder"], ids=cases)


@in_each_case(*CASES)
def test_killed_at_random_moments_it_ends_bit_for_bit_the_same(folder, case, undisturbed):
    random = np.random.default_rng(list(CASES).index(case))
    kills, steps = 0, []
    while kills < KILLS:
        process, before = folder.start_training(), folder.checkpoint()
        if random.random() < 0.2:
            # Also before anything is loaded.
            time.sleep(random.uniform(0, 3))
        else:
            for _ in range(random.integers(1, 3)):
                wait_until(lambda before=before: folder.checkpoint() not in (None, before), process)
                before = folder.checkpoint()
            time.sleep(random.uniform(0, 0.25))
        assert process.poll() is None, f"ended by itself after {kills} kills: {folder.said}"
        kill(process)
        kills += 1
        steps.append((folder.checkpoint() or (0,))[0])
    # It got on between kills, and was not done.
    assert 0 < max(steps) < STEPS and len(set(steps)) > KILLS // 2
    # The last of the kills above may have come while results were written, too.
    before = folder.first_prompt()
    process = folder.start_training()
    assert wait_until(lambda: folder.first_prompt() not in (None, before), process)
    kill(process)
    assert f"from step {steps[-1]} " in folder.said or not steps[-1]
    folder.finish(folder.start_training())
    assert folder.results() == undisturbed(case)
    assert not any(path.is_file() for path in folder.path.glob("data/checkpoints/**/*"))


def kill(process):
    """SIGKILL, which no program can answer."""
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
@in_each_case("ept")
def test_a_signal_writes_a_checkpoint_and_says_so(folder, case, undisturbed, name, status):
    process = folder.start_training()
    assert wait_until(lambda: folder.checkpoint() is not None, process)
    process.send_signal(getattr(signal, name))
    assert process.wait(timeout=60) == status
    step, _ = folder.checkpoint()
    assert 0 < step < STEPS
    last = folder.said.splitlines()[-1]
    assert name in last and f"step {step}" in last
    assert "Traceback" not in folder.said and not folder.path.joinpath("prompts").exists()
    said = folder.finish(folder.start_training())
    assert f"from step {step} " in said
    assert folder.results() == undisturbed(case)


def test_the_cases_have_runs_that_finish_and_runs_that_end_early(undisturbed):
    """Otherwise the comparison would see less than it should."""
    statuses = set()
    for case in CASES:
        (record,) = (content for name, content in undisturbed(case).items() if name.endswith("runs.json"))
        statuses |= {run["status"] for run in record["runs"]}
    assert "finished" in statuses and statuses & {"halved", "stopped early"}
