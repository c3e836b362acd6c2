"""config/paper.yaml from a hub on loopback through to a table: a try that fails, one that completes, one offline."""

import pyarrow.parquet as pq
import pytest
import yaml

from ept.data.source import REPOSITORIES
from ept.demo.generator import generate
from ept.demo.identity import BACKBONE_FOLDER
from ept.tasks.registry import TASKS

# A minute or two: eight jobs.
pytestmark = pytest.mark.long

TRAINING = {"batch_size": 4, "steps": 2, "warmup_steps": 0, "evaluate_every": 2, "validation_rows": 8}


@pytest.fixture
def paper(project):
    """config/paper.yaml with two tasks, one method and few steps."""
    rates = {"pt": {"prompt": [0.3]}, "spot": {"prompt": [0.3]}}
    return {
        **yaml.safe_load((project / "config/paper.yaml").read_text()),
        "data": {"source": "hub", "source_length": {"default": 64}},
        "tasks": {"target": ["rte"], "source": ["sst2"]},
        "methods": ["spot"],
        "seeds": [0],
        "prompt": {"length": 10, "short_length": 6, "reference_length": 64},
        "training": {**TRAINING, "learning_rates": rates},
        "few_shot": {"k": []},
        "ablation": {},
        "transfer": {},
    }


@pytest.fixture
def published(hub, paper, tmp_path):
    """The hub with the demonstration's data and backbone at the places that the configuration names."""
    for name in ("rte", "sst2"):
        task, path = TASKS[name], tmp_path / "split.parquet"
        for split in task.splits:
            pq.write_table(generate(name, split, 0), path)
            file = f"{task.config}/{split}-00000-of-00001.parquet"
            hub.publish(*REPOSITORIES[task.suite], {file: path.read_bytes()})
    backbone = {path.name: path.read_bytes() for path in BACKBONE_FOLDER.iterdir()}
    hub.publish(paper["backbone"]["id"], paper["backbone"]["revision"], backbone)
    return hub


def test_from_the_hub_to_a_table_and_then_offline(workflow, published, paper, monkeypatch):
    config, folder = workflow.configure(paper), workflow.folder
    backbone = folder / "data/backbones/t5-base-a9723ea7"

    published.refusals[paper["backbone"]["id"]] = (503, "")
    output = workflow.run("tables", config=config, check=False)
    assert any("google-t5/t5-base" in line and "503" in line for line in output.splitlines())
    assert not backbone.exists() and not (folder / "results/paper/main.csv").exists()

    published.refusals.clear()
    published.breaks["model.safetensors"] = [1_000_000]
    workflow.run("tables", config=config)
    assert (backbone / "model.safetensors").read_bytes() == (BACKBONE_FOLDER / "model.safetensors").read_bytes()
    table = (folder / "results/paper/main.csv").read_text()
    assert "t5-base,spot,rte,full,sst2,accuracy," in table

    published.close()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    paper["training"]["learning_rates"]["spot"]["prompt"] = [3.0]
    changed = workflow.configure(paper, "changed.yaml")
    # the main table, efficiency, and the comparison with published numbers of T5-base
    assert workflow.planned("tables", config=changed) == {"train": 1, "table": 3, "tables": 1}
    workflow.run("tables", config=changed)
    workflow.run("tables", config=config)
    assert (folder / "results/paper/main.csv").read_text() == table
