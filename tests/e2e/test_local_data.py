"""Real GLUE, SuperGLUE and SQuAD data with the real T5 tokenizer and a small T5 made here, through to tables."""

import csv
import json
import shutil

import pytest
import torch
import yaml
from transformers import T5Config, T5ForConditionalGeneration

# Some minutes: forty jobs on tens of thousands of rows.
pytestmark = pytest.mark.long

TARGETS = ["sst2", "stsb", "rte", "cb", "boolq", "multirc", "wsc"]
SOURCES = ["sst2", "squad"]
METHODS = ["pt", "ept"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory, real_data):
    """A folder with an untrained T5 of 32,128 pieces and hidden size 32."""
    folder = tmp_path_factory.mktemp("backbone")
    torch.manual_seed(0)
    shape = T5Config(vocab_size=32128, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0)
    T5ForConditionalGeneration(shape).save_pretrained(folder)
    for path in (real_data.parent / "tokenizer/t5").iterdir():
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def finished(shared_workflow, project, real_data, backbone):
    """config/local.yaml with this folder of data, this backbone and few steps."""
    values = yaml.safe_load((project / "config/local.yaml").read_text())
    values["data"]["path"] = str(real_data)
    values["backbone"]["id"] = str(backbone)
    values["tasks"] = {"target": TARGETS, "source": SOURCES}
    values["methods"] = METHODS
    values["seeds"] = [0, 1]
    # The budget of length * 32 holds a rank only with a short reference.
    values["prompt"] = {"length": 40, "short_length": 8, "reference_length": 256}
    few = {"steps": 3, "warmup_steps": 1, "evaluate_every": 3, "validation_rows": 32}
    values["training"].update(few)
    values["few_shot"].update(few, k=[16], initialise_from=["source"])
    shared_workflow.run("all", config=shared_workflow.configure(values))
    return shared_workflow.folder


def _rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_task_and_method_is_in_the_tables(finished):
    expected = {(method, task) for method in METHODS for task in TARGETS}
    for table in ("main", "fewshot_k16"):
        rows = _rows(finished / f"results/local/{table}.csv")
        assert expected <= {(row["method"], row["task"]) for row in rows}
        for row in rows:
            assert -100 <= float(row["mean"]) <= 100


def test_majority_baselines_are_the_published_halves(finished):
    rows = _rows(finished / "results/local/main.csv")
    baseline = {(row["task"], row["metric"]): float(row["majority_baseline"]) for row in rows}
    assert baseline["wsc", "accuracy"] == pytest.approx(67.3, abs=0.05)
    assert baseline["stsb", "pearson"] == 0


def test_a_target_never_starts_from_its_own_prompt(finished):
    for row in _rows(finished / "results/local/fewshot_k16.csv"):
        if row["method"] != "pt" and not row["task"].startswith("average"):
            assert row["source"] in set(SOURCES) - {row["task"]}


def test_records_name_rows_splits_and_fingerprints(finished):
    (path,) = finished.glob("results/local/runs/local-t5/ept/multirc/k16/*/runs.json")
    record = json.loads(path.read_text())
    assert record["split_rule"] == "halve"
    assert record["train_rows"] == 16
    assert record["test_rows"] == pytest.approx(2424, abs=60)
    assert all(len(value) == 64 for value in record["data_fingerprints"].values())
    (other,) = finished.glob("results/local/runs/local-t5/pt/multirc/full/*/runs.json")
    assert json.loads(other.read_text())["data_fingerprints"] == record["data_fingerprints"]
