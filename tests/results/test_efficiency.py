"""efficiency.csv from real trainings of a few steps: sums of the records, and one batch for all methods in turn."""

import csv
import json

import pytest

from ept.cli import main
from ept.config.configuration import parse_configuration
from ept.plan.experiment import Experiment
from ept.plan.tables import measured_packs
from ept.results.tables import efficiency
from ept.results.write import write_table

METHODS = ["pt", "ept", "lora", "fine_tuning"]
VALUES = {
    "data": {"source_length": {"default": 48}},
    "tasks": {"target": ["cb"]},
    "methods": METHODS,
    "seeds": [3],
    "prompt": {"length": 16, "short_length": 10, "reference_length": 64},
    "training": {
        "batch_size": 2,
        "steps": 2,
        "warmup_steps": 1,
        "evaluate_every": 2,
        "validation_rows": 4,
        "runs_per_pass": 1,
    }
    | {"learning_rates": {"pt": {"prompt": [0.1, 0.2, 0.3]}, "ept": {"prompt": [0.1], "low_rank": [0.01]}}},
    "few_shot": {"k": [], "initialize_from": ["scratch"]},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An experiment with its runs trained, and the folder."""
    folder = tmp_path_factory.mktemp("efficiency")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "config.yaml").write_text(json.dumps(VALUES))
        verbs = [["fetch", "--task", "cb"], ["tokenize", "--task", "cb"]]
        verbs += [["train", "--method", method, "--task", "cb", "--regime", "full"] for method in METHODS]
        for verb in verbs:
            assert main([verb[0], "--config", "config.yaml", *verb[1:]]) == 0
    return folder, Experiment(parse_configuration(VALUES))


def test_costs_are_those_of_the_records_and_one_batch_is_timed(trained, monkeypatch):
    folder, experiment = trained
    monkeypatch.chdir(folder)
    timed = []
    predict = efficiency.predict_split

    def watched(backbone, output, split, rows, *others):
        names = {name for name, parameter in backbone.model.named_parameters() if parameter.requires_grad}
        timed.append((output.prompt.shape[1], len(names), rows.tolist()))
        return predict(backbone, output, split, rows, *others)

    monkeypatch.setattr(efficiency, "predict_split", watched)
    write_table(experiment, "efficiency")
    with open("results/efficiency.csv", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == METHODS
    for pack in experiment.tables["main"]:
        record, row = json.loads((pack.folder / "runs.json").read_text()), rows[pack.method]
        runs = len(record["runs"])
        assert (row["tasks"], row["runs"]) == ("1", str(runs))
        assert row["runs_together"] == {"pt": "3", "ept": "1", "lora": "1", "fine_tuning": "1"}[pack.method]
        assert float(row["train_seconds"]) == pytest.approx(record["train_seconds"], abs=1e-4)
        assert float(row["train_seconds_per_run"]) == pytest.approx(record["train_seconds"] / runs, abs=1e-4)
        assert float(row["examples_per_second"]) == pytest.approx(record["examples_per_second"], abs=1e-4)
        assert int(row["peak_memory_bytes"]) == record["peak_memory_bytes"]
        assert int(row["trained_parameters"]) == record["trained_parameters"]
        ratio = float(row["inference_seconds"]) / float(rows["pt"]["inference_seconds"])
        assert float(row["inference_ratio"]) == pytest.approx(ratio, rel=0.05)
    # In every round: PT's and EPT's prompts, LoRA's and fine-tuning's weights, each on the same rows.
    assert len({tuple(rows) for _, _, rows in timed}) == 1
    rounds = [timed[i : i + len(METHODS)] for i in range(0, len(timed), len(METHODS))]
    assert len(rounds) == 1 + efficiency.ROUNDS
    assert {tuple(length for length, _, _ in part) for part in rounds} == {(16, 10, 0, 0)}
    (trained_tensors,) = {tuple(count for _, count, _ in part) for part in rounds}
    assert trained_tensors[:2] == (0, 0) and 0 < trained_tensors[2] < trained_tensors[3]


def test_generated_answers_are_not_timed_where_labels_can_be():
    experiment = Experiment(parse_configuration(VALUES | {"tasks": {"target": ["squad", "cb"]}}))
    assert {pack.task for pack in measured_packs(experiment.tables["efficiency"])} == {"cb"}


def test_a_missing_prompt_is_named(trained, monkeypatch, capsys):
    folder, experiment = trained
    monkeypatch.chdir(folder)
    (pack,) = (pack for pack in experiment.tables["main"] if pack.method == "ept")
    (pack.prompts / "seed3.safetensors").unlink()
    assert main(["table", "--config", "config.yaml", "--table", "efficiency"]) == 2
    error = capsys.readouterr().err
    assert str(pack.prompts / "seed3.safetensors") in error and error.count("\n") == 1
