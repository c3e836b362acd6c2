"""Nothing of one configuration is ever served as another's: copies without time stamps, lost metadata, side by side."""

import json
import os
import shutil

import pytest

from workflow_runner import Workflow


def _configuration(rate: float, **others) -> dict:
    """SPoT on one task from one source prompt; `rate` is the target's alone."""
    training = {"batch_size": 4, "steps": 2, "warmup_steps": 0, "evaluate_every": 2, "validation_rows": 8}
    return {
        "data": {"source_length": {"default": 64}},
        "tasks": {"target": ["cb"], "source": ["sst2"]},
        "methods": ["spot"],
        "seeds": [0],
        "prompt": {"length": 10, "short_length": 6, "reference_length": 64},
        "training": {**training, "learning_rates": {"spot": {"prompt": [rate]}}},
        "source_training": {**training, "learning_rates": {"pt": {"prompt": [0.3]}}},
        "few_shot": {"k": []},
        **others,
    }


A, B = _configuration(0.3), _configuration(3.0)


@pytest.fixture(scope="module")
def finished(shared_workflow):
    """A folder in which A was run."""
    shared_workflow.run("tables", config=shared_workflow.configure(A, "a.yaml"))
    shared_workflow.configure(B, "b.yaml")
    return shared_workflow


@pytest.fixture
def again(finished, project, tmp_path):
    """A copy of it as others get it, from an archive or a remote: no .snakemake, every file of the same time."""
    names = [
        name for name in ("data", "prompts", "runs", "results", "a.yaml", "b.yaml") if (finished.folder / name).exists()
    ]
    for name in names:
        path = finished.folder / name
        shutil.copytree(path, tmp_path / name) if path.is_dir() else shutil.copy(path, tmp_path / name)
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    return Workflow(project, tmp_path)


def _table(workflow, name="results/main.csv") -> str:
    return (workflow.folder / name).read_text()


def _made_from(workflow) -> set[str]:
    """The hashes that stand beside the main table."""
    record = json.loads((workflow.folder / "results/main.settings.json").read_text())
    return {run["hash"] for run in record["runs"]}


def test_a_copy_without_time_stamps_is_complete(again):
    before = _table(again)
    assert "Nothing to be done" in again.run("tables", config=again.folder / "a.yaml")
    assert _table(again) == before


def test_an_installation_at_another_place_makes_nothing_again(finished, project, tmp_path, monkeypatch):
    """The files of the shipped backbone have other paths then, and Snakemake remembers those of the first run."""
    shutil.copytree(finished.folder, tmp_path / "copy")
    (tmp_path / "elsewhere").symlink_to(project / "src")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    moved = Workflow(project, tmp_path / "copy")
    assert "Nothing to be done" in moved.run("tables", config=tmp_path / "copy/a.yaml")


def test_a_changed_rate_in_a_copy_trains_what_depends_on_it(again):
    before, hashes = _table(again), _made_from(again)
    config = again.folder / "b.yaml"
    assert again.planned("tables", config=config) == {"train": 1, "table": 2, "tables": 1}
    again.run("tables", config=config)
    assert not _made_from(again) & hashes
    # And back, with what Snakemake remembers gone.
    shutil.rmtree(again.folder / ".snakemake")
    assert again.planned("tables", config=again.folder / "a.yaml") == {"table": 2, "tables": 1}
    again.run("tables", config=again.folder / "a.yaml")
    assert (_table(again), _made_from(again)) == (before, hashes)


def test_a_table_of_another_configuration_is_made_again_even_beside_the_right_list(again):
    # A dry run of B rewrites the list beside A's table; a copy of that has lost which of them is older.
    again.run("tables", "--dry-run", config=again.folder / "b.yaml")
    for path in again.folder.glob("results/lists/*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    hashes = _made_from(again)
    again.run("tables", config=again.folder / "b.yaml")
    assert not _made_from(again) & hashes


def test_two_configurations_side_by_side_leave_each_other_alone(again):
    first = again.folder / "a.yaml"
    second = again.configure(_configuration(3.0, output="results/second"), "second.yaml")
    before = _table(again)
    # Runs and tables are its own, the source prompt is shared.
    assert again.planned("tables", config=second) == {"train": 1, "table": 2, "tables": 1}
    again.run("tables", config=second)
    other = _table(again, "results/second/main.csv")
    for config in (first, second):
        assert "Nothing to be done" in again.run("tables", config=config)
    assert (_table(again), _table(again, "results/second/main.csv")) == (before, other)
    source, target = (sorted(again.folder.glob(f"prompts/demo-t5/*/*/{regime}/*")) for regime in ("source", "full"))
    assert (len(source), len(target)) == (1, 2)
