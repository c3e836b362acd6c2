"""The whole workflow on a small configuration of the embedded benchmark: tables, staleness, nothing made twice."""

import csv
import json
import re

import pytest
from safetensors import safe_open

from ept.results.tables.registry import SCORES_COLUMNS

SMALL = {
    "data": {"source_length": {"default": 64}},
    "tasks": {"target": ["sst2", "cb"], "source": ["mnli"]},
    "methods": ["pt", "spot", "ept"],
    "seeds": [0, 1],
    "prompt": {"length": 10, "short_length": 6, "reference_length": 64},
    # So many that something is above the majority.
    "training": {"steps": 40, "warmup_steps": 4, "evaluate_every": 20, "learning_rates": {}},
    "few_shot": {
        "k": [4],
        "initialize_from": ["scratch", "source"],
        "steps": 4,
        "warmup_steps": 1,
        "evaluate_every": 2,
    },
}
RATES = {"pt": {"prompt": [0.3]}, "spot": {"prompt": [0.3]}, "ept": {"prompt": [0.3, 0.1], "low_rank": [0.005]}}
SMALL["training"]["learning_rates"] = RATES
SMALL["few_shot"]["learning_rates"] = {**RATES, "ept": {"prompt": [0.3], "low_rank": [0.005]}}


@pytest.fixture(scope="module")
def finished(shared_workflow):
    """The workflow after a first complete run, and the configuration that made it."""
    config = shared_workflow.configure(SMALL)
    shared_workflow.run("tables", config=config)
    return shared_workflow, config


def _rows(folder, table):
    with open(folder / f"results/{table}.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_tables_have_every_method_task_and_start(finished):
    folder = finished[0].folder
    main = _rows(folder, "main")
    assert tuple(main[0]) == SCORES_COLUMNS
    tasks = {"sst2", "cb", "average_glue", "average_super_glue", "average"}
    assert {(row["method"], row["task"]) for row in main} == {(m, t) for m in ("pt", "spot", "ept") for t in tasks}
    assert {row["metric"] for row in main if row["task"] == "cb"} == {"accuracy", "macro_f1"}
    starts = {(row["method"], row["source"]) for row in _rows(folder, "fewshot_k4") if row["task"] == "cb"}
    assert starts == {("pt", "scratch"), ("spot", "mnli"), ("ept", "scratch"), ("ept", "mnli")}


def test_every_mean_is_the_mean_of_the_runs_behind_it(finished):
    folder = finished[0].folder
    for row in _rows(folder, "main"):
        if row["task"].startswith("average"):
            continue
        (record_file,) = folder.glob(f"runs/demo-t5/{row['method']}/{row['task']}/full/*/runs.json")
        record = json.loads(record_file.read_text())
        scores = [run["test"][row["metric"]] for run in record["runs"] if run["selected"]]
        assert len(scores) == int(row["seeds"]) == 2
        assert float(row["mean"]) == pytest.approx(sum(scores) / 2, abs=1e-3)
        assert float(row["ci_low"]) <= float(row["mean"]) <= float(row["ci_high"])


def test_prompts_are_saved_with_their_settings(finished):
    folder = finished[0].folder
    (prompts,) = folder.glob("prompts/demo-t5/ept/cb/full/*")
    settings = json.loads((prompts / "settings.json").read_text())
    assert settings["hash"] == prompts.name
    assert settings["settings"]["training"]["learning_rates"] == RATES["ept"]
    (record_file,) = folder.glob("runs/demo-t5/ept/cb/full/*/runs.json")
    record = json.loads(record_file.read_text())
    assert settings["data_fingerprints"] == record["data_fingerprints"]
    reported = {str(run["seed"]): run["best_validation"] for run in record["runs"] if run["selected"]}
    assert settings["best_validation"] == reported and len(reported) == 2
    with safe_open(prompts / "seed1.safetensors", framework="pt") as file:
        assert file.get_tensor("prompt").shape == (6, 128)


def test_fusion_and_gate_stand_in_the_record_from_start_to_end(finished):
    (record_file,) = finished[0].folder.glob("runs/demo-t5/ept/cb/full/*/runs.json")
    for run in json.loads(record_file.read_text())["runs"]:
        first, *between, last = run["diagnostics"]
        assert (first["step"], first["fusion_ratio"], first["gate_weights"]) == (0, 0.0, [0.25] * 4)
        assert [found["step"] for found in between] == [20] and last["step"] == 40
        assert last["fusion_ratio"] > 0 and last["gate_weights"] != [0.25] * 4
        assert sum(last["gate_weights"]) == pytest.approx(1)


def test_markdown_and_latex_show_the_same_best(finished):
    folder = finished[0].folder
    markdown = (folder / "results/main.md").read_text()
    assert markdown.splitlines()[2].startswith("| majority |")
    best = re.findall(r"\*\*([^*]+)\*\*", markdown)
    latex = (folder / "results/main.tex").read_text()
    assert best and [text.replace("$\\pm$", "±") for text in re.findall(r"textbf\{([^}]+)\}", latex)] == best
    listed = json.loads((folder / "results/main.settings.json").read_text())["runs"]
    assert all((folder / run["folder"] / "runs.json").exists() for run in listed)


def test_a_second_run_does_nothing(finished):
    workflow, config = finished
    assert "Nothing to be done" in workflow.run("tables", config=config)


def test_a_changed_rate_retrains_what_depends_on_it_and_going_back_nothing(finished):
    workflow, config = finished
    before = (workflow.folder / "results/fewshot_k4.csv").read_bytes()
    changed = json.loads(json.dumps(SMALL))
    changed["few_shot"]["learning_rates"]["ept"]["prompt"] = [0.2]
    other = workflow.configure(changed, "other.yaml")
    # two tasks, from scratch and from the source; full data and source prompts stay
    # k = 4, significance, gains of transfer
    assert workflow.planned("tables", config=other) == {"train": 4, "table": 3, "tables": 1}
    workflow.run("tables", config=other)
    assert (workflow.folder / "results/fewshot_k4.csv").read_bytes() != before
    assert workflow.planned("tables", config=config) == {"table": 3, "tables": 1}
    workflow.run("tables", config=config)
    assert (workflow.folder / "results/fewshot_k4.csv").read_bytes() == before


def test_a_second_configuration_with_its_own_output_trains_only_what_differs(finished):
    workflow, _ = finished
    changed = {**json.loads(json.dumps(SMALL)), "output": "second"}
    assert workflow.planned("second/main.csv", config=workflow.configure(changed, "second.yaml")) == {"table": 1}
    changed["few_shot"]["learning_rates"]["ept"]["prompt"] = [0.4]
    second = workflow.configure(changed, "second.yaml")
    # EPT with k = 4 on two tasks, from scratch and from the source
    assert workflow.planned("second/main.csv", "second/fewshot_k4.csv", config=second) == {"train": 4, "table": 2}


def test_a_changed_source_rate_leaves_the_runs_from_scratch(finished):
    workflow, _ = finished
    changed = json.loads(json.dumps(SMALL))
    changed["source_training"] = {**SMALL["training"], "learning_rates": {"pt": {"prompt": [0.2]}, "ept": RATES["ept"]}}
    planned = workflow.planned("tables", config=workflow.configure(changed, "source.yaml"))
    # SPoT starts from PT's source prompt: full data and k = 4 on two tasks
    assert planned == {"train_source": 1, "train": 4, "table": 5, "tables": 1}
