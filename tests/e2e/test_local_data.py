"""config/local.yaml on the real data of all its tasks, with the T5 tokenizer and a small T5 made here."""

import csv
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from ept.config.configuration import load_configuration
from tiny_models import make_t5

# Some minutes: sixty jobs on some hundred thousand rows.
pytestmark = pytest.mark.long

# Rows of the test split: published halves, or the whole published validation split where validation is carved.
TEST_ROWS = {
    "cola": 522,
    "mrpc": 204,
    "rte": 139,
    "stsb": 750,
    "boolq": 1635,
    "cb": 28,
    "wic": 319,
    "wsc": 52,
    "sst2": 872,
}
# By scikit-learn and SciPy. -1 is an answer that is no label: wrong, and a class of its own to Matthews.
METRICS = {
    "accuracy": accuracy_score,
    "matthews": matthews_corrcoef,
    "f1": lambda truth, found: f1_score(truth, np.where(found < 0, 1 - truth, found), zero_division=0),
    "pearson": lambda truth, found: pearsonr(truth, found)[0] if len(set(found)) > 1 else 0,
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory, real_data):
    """A folder with an untrained T5 of 32,128 pieces and hidden size 32."""
    folder = tmp_path_factory.mktemp("backbone")
    shape = dict(vocab_size=32128, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    make_t5(std=None, **shape).save_pretrained(folder)
    for path in (real_data.parent / "tokenizer/t5").iterdir():
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def shipped(project):
    """config/local.yaml as it ships."""
    return yaml.safe_load((project / "config/local.yaml").read_text())


@pytest.fixture(scope="module")
def tasks(project):
    """The tasks of config/local.yaml, which may name sets of them."""
    return load_configuration(project / "config/local.yaml").tasks


@pytest.fixture(scope="module")
def finished(shared_workflow, shipped, real_data, backbone):
    """The folder of a complete run on this data and backbone: all tasks and sources, but few steps, methods and k."""
    few = {"steps": 2, "warmup_steps": 1, "evaluate_every": 2, "validation_rows": 16}
    values = {
        **shipped,
        "data": {"source": "local", "path": str(real_data)},
        "backbone": {**shipped["backbone"], "id": str(backbone)},
        "methods": ["ept"],
        "seeds": [0],
        # The budget of length * 32 holds a rank only with a short reference.
        "prompt": {"length": 40, "short_length": 8, "reference_length": 256},
        "training": {**shipped["training"], **few},
        "few_shot": {**few, "k": [16], "initialize_from": ["source"]},
    }
    shared_workflow.run("tables", config=shared_workflow.configure(values))
    return shared_workflow.folder


def _rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _record(finished, task, regime):
    """The record of a pack, and its test predictions."""
    (path,) = finished.glob(f"runs/local-t5/ept/{task}/{regime}/*/runs.json")
    return json.loads(path.read_text()), pq.read_table(path.parent / "predictions.parquet")


def test_all_tasks_went_through(finished, tasks):
    targets, sources = set(tasks.target), set(tasks.source)
    assert len(targets | sources) == 15
    assert {path.name for path in finished.glob("data/raw/*/*")} == targets | sources
    assert {path.name for path in finished.glob("data/tokenized/local-t5/*")} == targets | sources
    trained = {path.parts[-4] for path in finished.glob("prompts/local-t5/ept/*/source/*/seed0.safetensors")}
    assert trained == sources
    for table in ("main", "fewshot_k16"):
        rows = _rows(finished / f"results/local/{table}.csv")
        assert {row["task"] for row in rows if not row["task"].startswith("average")} == targets
        assert all(-100 <= float(row["mean"]) <= 100 for row in rows)


@pytest.mark.parametrize("task", TEST_ROWS)
def test_every_row_of_the_published_test_half_is_predicted(finished, task):
    record, predictions = _record(finished, task, "k16")
    assert record["train_rows"] == 16
    assert record["test_rows"] == predictions.num_rows == len(set(predictions["id"].to_pylist())) == TEST_ROWS[task]


def test_multirc_is_halved_by_paragraph_and_carved_tasks_keep_their_published_validation(finished, real_data):
    record, predictions = _record(finished, "multirc", "full")
    assert record["split_rule"] == "halve"
    assert record["test_rows"] == pytest.approx(2424, abs=30)
    assert len(set(predictions["group"].to_pylist())) < record["test_rows"]
    for name in ("qqp", "qnli", "mnli"):
        published = pq.ParquetFile(real_data / f"glue/{name}/validation.parquet").metadata.num_rows
        record = _record(finished, name, "full")[0]
        assert (record["split_rule"], record["test_rows"]) == ("carve", published)


def test_tables_score_the_predictions_as_scikit_learn_and_scipy_do(finished):
    checked = set()
    for row in _rows(finished / "results/local/main.csv"):
        if row["metric"] in METRICS and not row["task"].startswith("average"):
            table = _record(finished, row["task"], "full")[1]
            truth, found = (table[name].to_numpy() for name in ("label", "prediction"))
            expected = 100 * METRICS[row["metric"]](truth, found)
            assert float(row["mean"]) == pytest.approx(expected, abs=0.01), row
            checked.add(row["task"])
    assert len(checked) == 13


def test_majority_baselines_are_the_published_halves(finished):
    rows = _rows(finished / "results/local/main.csv")
    baseline = {(row["task"], row["metric"]): float(row["majority_baseline"]) for row in rows}
    assert baseline["wsc", "accuracy"] == pytest.approx(67.3, abs=0.05)
    assert baseline["stsb", "pearson"] == 0


def test_a_target_never_starts_from_its_own_prompt(finished, tasks):
    for row in _rows(finished / "results/local/fewshot_k16.csv"):
        if not row["task"].startswith("average"):
            assert row["source"] in set(tasks.source) - {row["task"]}


def test_full_and_few_shot_runs_know_the_same_data(finished, tasks):
    for task in tasks.target:
        full, few = (_record(finished, task, regime)[0]["data_fingerprints"] for regime in ("full", "k16"))
        assert full == few
        assert all(len(value) == 64 for value in full.values())
