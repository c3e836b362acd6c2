"""A decoder-only backbone and a local folder of tasks through the whole workflow, beside no prompt at all."""

import csv

import pytest

from data.task_rows import write_local
from ept.tasks.registry import TASKS
from tiny_models import save_byte_llama

# About a minute: nine jobs.
pytestmark = pytest.mark.long


def test_few_shot_table_of_a_llama_beside_zero_shot(workflow):
    folder = workflow.folder
    save_byte_llama(folder / "llama")
    for task in ("cb", "rte"):
        write_local(folder / "tasks", TASKS[task], rows=24)
    values = {
        "output": "results/llama",
        "backbone": {"name": "tiny-llama", "source": "local", "id": "llama"},
        "data": {"source": "local", "path": "tasks", "source_length": {"default": 100}},
        "tasks": {"target": ["cb"], "source": ["rte"], "wording": "natural"},
        "methods": ["pt", "dept", "ept"],
        "seeds": [0, 1],
        "prompt": {"length": 8, "short_length": 4, "reference_length": 16},
        "training": {"runs_per_pass": 2, "steps": 2, "warmup_steps": 0, "evaluate_every": 2, "validation_rows": 4},
        "few_shot": {
            "k": [2],
            "runs_per_pass": 2,
            "steps": 2,
            "warmup_steps": 0,
            "evaluate_every": 2,
            "validation_rows": 4,
            "learning_rates": {
                "pt": {"prompt": [0.1]},
                "dept": {"prompt": [0.1], "low_rank": [0.01]},
                "ept": {"prompt": [0.1], "low_rank": [0.01]},
            },
        },
    }
    config = workflow.configure(values)
    workflow.run("results/llama/fewshot_k2.csv", "results/llama/zero_shot.csv", config=config)
    with open(folder / "results/llama/fewshot_k2.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["task"] == "cb"]
    starts = {(row["method"], row["source"]) for row in rows}
    assert starts == {("pt", "scratch"), ("dept", "rte"), ("ept", "rte")}
    assert all(row["seeds"] == "2" and 0 <= float(row["mean"]) <= 100 for row in rows if row["metric"] == "accuracy")
    page = (folder / "results/llama/zero_shot.html").read_text()
    assert "zero-shot" in page and "CB acc." in page
    # Neither is made again, and a changed wording makes both anew.
    assert not workflow.planned("results/llama/fewshot_k2.csv", "results/llama/zero_shot.csv", config=config)
    values["tasks"]["wording"] = "protocol"
    planned = workflow.planned("results/llama/zero_shot.csv", config=workflow.configure(values, "protocol.yaml"))
    assert planned == {"tokenize": 1, "zero_shot": 1}
