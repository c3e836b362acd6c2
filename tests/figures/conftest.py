"""A small finished experiment: records and tables written by hand, so that every number of a figure is known."""

import csv
import json
from pathlib import Path

import pytest

from ept.config.configuration import parse_configuration
from ept.config.variants import variants
from ept.figures.data import Results
from ept.figures.style import figure_style
from ept.plan.experiment import Experiment
from ept.results.tables.registry import kind_of
from results.records import sign_table, write_record, write_runs

METHODS = ["fine_tuning", "pt", "spot", "dept", "ept"]
CONFIGURATION = {
    "tasks": {"target": ["rte", "cb"], "source": ["mnli"]},
    "methods": METHODS,
    "seeds": [0, 1],
    "prompt": {"length": 24, "short_length": 10, "reference_length": 64},
    "training": {
        "learning_rates": {"ept": {"prompt": [0.3, 0.5], "low_rank": [0.001, 0.005]}, "pt": {"prompt": [0.3]}}
    },
    "few_shot": {"k": [4, 16], "initialize_from": ["scratch", "source"]},
    "ablation": {"tasks": ["rte", "cb"], "spaces": [1, 2, 4], "short_lengths": [5, 10], "gates": []},
}
STEPS = (50, 100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder in which the commands of a test module run."""
    folder = tmp_path_factory.mktemp("figures")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def experiment(folder):
    """The experiment with all its full-data records and its tables."""
    experiment = Experiment(parse_configuration(CONFIGURATION))
    for number, pack in enumerate(experiment.tables["main"]):
        write_runs(pack, right=(100, 120))
        _complete(pack, number)
    write_rows("main", [average("main", method, "scratch", place) for place, method in enumerate(METHODS)])
    seconds = [{"method": method, "train_seconds_per_run": 2.5 * place} for place, method in enumerate(METHODS)]
    write_rows("efficiency", seconds)
    for k in (4, 16):
        table = f"fewshot_k{k}"
        starts = [("fine_tuning", "scratch"), ("pt", "scratch"), ("spot", "source")]
        starts += [(method, start) for method in ("dept", "ept") for start in ("scratch", "source")]
        rows = [average(table, method, start, k + place, f"k{k}") for place, (method, start) in enumerate(starts)]
        write_rows(table, rows)
    names = [
        variant.name
        for variant in variants(experiment.config.prompt, experiment.config.ept, experiment.config.ablation)
    ]
    write_rows(
        "ablation",
        [average("ablation", "ept", "scratch", place) | {"variant": name} for place, name in enumerate(names)],
    )
    return experiment


@pytest.fixture
def results(experiment):
    """Its tables and records, in the style that figures are drawn in."""
    with figure_style():
        yield Results(experiment)


def average(table, method, start, number, regime="full"):
    """A row with the average over tasks: 50 + number, between 45 + number and 57 + number."""
    return {
        "backbone": "demo-t5",
        "method": method,
        "task": "average",
        "regime": regime,
        "source": start,
        "metric": "average",
        "mean": 50 + number,
        "std": 1,
        "seeds": 2,
        "ci_low": 45 + number,
        "ci_high": 57 + number,
        "trained_parameters": 1000 * 10**number if table == "main" else 1000,
        "stored_parameters": 900,
        "majority_baseline": 33.5,
    }


def write_rows(table, rows, output="results"):
    """Write a table; where it has averages, a row of a task that must not show in any figure stands before them."""
    others = [rows[0] | {"task": "rte", "metric": "accuracy", "mean": 1}] if "mean" in rows[0] else []
    Path(output).mkdir(exist_ok=True)
    with open(f"{output}/{table}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, kind_of(table).columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(others + rows)
    sign_table(Path(f"{output}/{table}.csv"))


def _complete(pack, number):
    """What figures read of a record: four rates of EPT of which one is chosen, curves."""
    record = json.loads((pack.folder / "runs.json").read_text())
    grid = [dict.fromkeys(pack.settings["training"]["learning_rates"], 0.3)]
    if pack.method == "ept":
        grid = [{"prompt": prompt, "low_rank": rank} for prompt in (0.3, 0.5) for rank in (0.001, 0.005)]
    record["runs"] = [
        run
        | {
            "learning_rates": rates,
            "selected": place == 0,
            "best_validation": 40.0 + 10 * place + run["seed"],
            "status": "diverged" if (place, run["seed"]) == (3, 1) else "finished",
            "validation_curve": [[step, number + step / 10 + run["seed"]] for step in STEPS],
            "diagnostics": _diagnostics(run["seed"]) if pack.method == "ept" else [],
        }
        for place, rates in enumerate(grid)
        for run in record["runs"]
    ]
    write_record(pack, record)


def _diagnostics(seed):
    start = {"step": 0, "fusion_ratio": 0.0, "gain": 1.0, "gate_weights": [0.25] * 4}
    end = {
        "step": 100,
        "fusion_ratio": 0.5 + seed,
        "gain": 1.2,
        "gate_weights": [0.7 - 0.2 * seed, 0.1 + 0.2 * seed, 0.1, 0.1],
    }
    return [start, end]
