"""Records and predictions that were kept without prompts: a copy of them in runs/ is as good as trained."""

import shutil

import pytest

from ept.methods.registry import METHODS
from workflow_runner import Workflow

# Two methods that start from scratch and need nothing but a rate for each of their groups.
FIRST, SECOND = [name for name, method in METHODS.items() if method.packed and method.start == "never"][:2]
TABLE = "results/main.csv"

pytestmark = pytest.mark.long


def _values(*methods: str) -> dict:
    rates = {name: {group: [0.3] for group in METHODS[name].rates} for name in methods}
    training = {"batch_size": 4, "steps": 2, "warmup_steps": 0, "evaluate_every": 2, "validation_rows": 8}
    return {
        "data": {"source_length": {"default": 64}},
        "tasks": {"target": ["cb"]},
        "methods": list(methods),
        "seeds": [0],
        "prompt": {"length": 10, "short_length": 6, "reference_length": 64},
        "training": {**training, "runs_per_pass": 1, "learning_rates": rates},
        "few_shot": {"k": []},
    }


@pytest.fixture(scope="module")
def trained(shared_workflow):
    """A folder in which one method was trained and its table made."""
    shared_workflow.run(TABLE, config=shared_workflow.configure(_values(FIRST)))
    return shared_workflow


@pytest.fixture
def clone(trained, project, tmp_path):
    """A folder with nothing but a copy of the other one's runs/."""
    shutil.copytree(trained.folder / "runs", tmp_path / "runs")
    return Workflow(project, tmp_path)


def test_the_table_is_made_from_them_without_data_or_training(trained, clone):
    config = clone.configure(_values(FIRST))
    assert clone.planned(TABLE, config=config) == {"table": 1}
    clone.run(TABLE, config=config)
    assert (clone.folder / TABLE).read_bytes() == (trained.folder / TABLE).read_bytes()
    assert not (clone.folder / "prompts").exists()


def test_only_what_is_missing_is_trained(clone):
    kept = {path: path.stat().st_mtime_ns for path in clone.folder.glob("runs/**/*") if path.is_file()}
    config = clone.configure(_values(FIRST, SECOND))
    # First the texts: Snakemake runs again what reads a file that is still to be made.
    clone.run("data", config=config)
    assert clone.planned(TABLE, config=config) == {"train": 1, "table": 1}
    clone.run(TABLE, config=config)
    assert [path.name for path in clone.folder.glob("prompts/*/*")] == [SECOND]
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
