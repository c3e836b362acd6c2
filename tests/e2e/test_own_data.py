"""A user's own CSV file: to the first table in five lines of YAML, and through every method, few-shot and transfer."""

import csv
import json
import random
from pathlib import Path

import numpy as np
import pytest
import yaml

from ept.cli import main
from ept.config.configuration import load_configuration
from ept.data.prepare import permutation
from ept.methods.registry import METHODS
from ept.plan.experiment import Experiment

pytestmark = pytest.mark.long

GOOD, BAD = ["great", "lovely", "superb"], ["awful", "broken", "rude"]
FIVE_LINES = """\
tasks:
  define: {reviews: {files: {train: reviews.csv}, template: "text: {text}", label: verdict, labels: [bad, good]}}
  target: [reviews]
methods: [pt, ept]
training: {steps: 100, warmup_steps: 10, evaluate_every: 50, learning_rates: {pt: {prompt: [0.3]}, ept: \
{prompt: [0.3], low_rank: [0.005]}}}
"""


def _write_reviews(path, rows):
    random_ = random.Random(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "verdict"])
        for number in range(rows):
            verdict = ["bad", "good"][number % 2]
            word = random_.choice(GOOD if verdict == "good" else BAD)
            writer.writerow([f"The {random_.choice(['parcel', 'meal'])} was {word}, order {number}", verdict])


def _rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_from_a_csv_file_to_the_first_table(workflow):
    assert len(FIVE_LINES.splitlines()) == 5
    folder = workflow.folder
    _write_reviews(folder / "reviews.csv", 3000)
    (folder / "own.yaml").write_text(FIVE_LINES)
    workflow.run("results/main.csv", config=folder / "own.yaml")
    # Processor time of all jobs, which does not depend on what else runs: less than three minutes of one core.
    jobs = [list(csv.DictReader(path.open(), delimiter="\t")) for path in folder.glob("logs/benchmarks/**/*.tsv")]
    assert sum(float(row["cpu_time"]) for rows in jobs for row in rows) < 180
    rows = _rows(folder / "results/main.csv")
    assert {row["method"] for row in rows} == {"pt", "ept"}
    assert [row["metric"] for row in rows if row["task"] == "reviews"] == ["accuracy", "macro_f1"] * 2
    # Rows with an odd number are good; a quarter of the rows is the test split.
    good = 100 * float(np.mean(permutation(3000)[:750] % 2))
    (baseline,) = {float(row["majority_baseline"]) for row in rows if row["metric"] == "accuracy"}
    assert min(abs(baseline - good), abs(baseline - (100 - good))) < 0.01
    assert all(float(row["mean"]) > 60.0 for row in rows if row["metric"] == "accuracy")
    record = json.loads(next(folder.rglob("pt/reviews/full/*/runs.json")).read_text())
    # A quarter of 3,000 rows each for test and validation.
    assert (record["train_rows"], record["test_rows"]) == (1500, 750)
    assert record["split_rule"] == "carved test and validation"
    assert record["shared_rows"] == {"reviews": {"exact": 0, "nearly": 0}}
    # Another row trains again; nothing else does.
    assert workflow.planned("results/main.csv", config=folder / "own.yaml") == {}
    _write_reviews(folder / "reviews.csv", 3002)
    planned = workflow.planned("results/main.csv", config=folder / "own.yaml")
    assert planned == {"fetch": 1, "tokenize": 1, "train": 2, "table": 1}


def test_every_method_few_shot_and_transfer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _write_reviews(tmp_path / "reviews.csv", 60)
    definition = {
        "files": {"train": "reviews.csv"},
        "template": "text: {text}",
        "label": "verdict",
        "labels": {"bad": "negative", "good": "positive"},
        "metrics": ["macro_f1"],
    }
    short = {"steps": 2, "warmup_steps": 1, "evaluate_every": 2, "batch_size": 2, "validation_rows": 10}
    rates = {name: {group: [0.01] for group in record.rates} for name, record in METHODS.items()}
    values = {
        "tasks": {"define": {"reviews": definition}, "target": ["reviews"], "source": ["mnli", "sst2"]},
        "methods": list(METHODS),
        "seeds": [0],
        "prompt": {"length": 24, "short_length": 10, "reference_length": 64},
        "data": {"source_length": {"default": 64}},
        "baselines": {"adapterdrop_layers": 1},
        "training": short | {"learning_rates": rates},
        "few_shot": short | {"k": [4], "initialize_from": ["scratch", "source"], "probe_steps": 1},
        "transfer": {"methods": ["ept"], "every_source": ["k4"], "chosen_source": []},
    }
    Path("own.yaml").write_text(yaml.safe_dump(values))
    experiment = Experiment(load_configuration("own.yaml"))
    for task in experiment.tasks:
        for verb in ("fetch", "tokenize"):
            assert main([verb, "--config", "own.yaml", "--task", task]) == 0
    for pack in experiment.packs:
        assert main(["train", "--config", "own.yaml", "--hash", pack.hash]) == 0, (pack.method, pack.regime)
    for table in experiment.default_tables:
        assert main(["table", "--config", "own.yaml", "--table", table]) == 0
    for verb in ("summary", "figures", "report-pages"):
        assert main([verb, "--config", "own.yaml"]) == 0
    results = tmp_path / "results"
    for table in ("main", "fewshot_k4"):
        found = {row["method"] for row in _rows(results / f"{table}.csv") if row["task"] == "reviews"}
        assert found == set(METHODS), table
    transferred = [row for row in _rows(results / "transfer.csv") if row["metric"] == "macro_f1"]
    assert [(row["task"], row["source"]) for row in transferred] == [("reviews", "mnli"), ("reviews", "sst2")]
    assert "reviews" in (results / "report/overview.rst").read_text()
