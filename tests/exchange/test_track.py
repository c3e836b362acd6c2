"""Curves of trained runs in trackers: every point is there, once, however often the verb is called."""

import json
import os

import numpy as np
import pytest
import yaml

from ept.cli import main
from ept.config.configuration import load_configuration
from ept.plan.experiment import Experiment

VALUES = {
    "data": {"source_length": {"default": 64}},
    "tasks": {"target": ["cb"]},
    "methods": ["ept"],
    "seeds": [0, 1],
    "prompt": {"length": 16, "short_length": 10, "reference_length": 64},
    "training": {
        "steps": 4,
        "warmup_steps": 1,
        "evaluate_every": 2,
        "validation_rows": 10,
        "runs_per_pass": 2,
        "learning_rates": {"ept": {"prompt": [0.1, 0.3], "low_rank": [0.005]}},
    },
    "few_shot": {"k": [4], "initialize_from": ["scratch"]},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a configuration and one trained pack of four runs; its runs.json."""
    folder, before = tmp_path_factory.mktemp("tracked"), os.getcwd()
    os.chdir(folder)
    try:
        (folder / "config.yaml").write_text(yaml.safe_dump(VALUES))
        for command in ("fetch --task cb", "tokenize --task cb", "train --method ept --task cb --regime full"):
            verb, *words = command.split()
            assert main([verb, "--config", "config.yaml", *words]) == 0
        experiment = Experiment(load_configuration("config.yaml"))
        pack = experiment.pack("ept", "cb", "full", "scratch")
        record = json.loads((folder / pack.folder / "runs.json").read_text())
    finally:
        os.chdir(before)
    return folder, record


@pytest.fixture
def track(trained, monkeypatch, capsys):
    """A function tracker, words -> standard output of `ept track`, in that folder; and its runs."""
    folder, record = trained
    monkeypatch.chdir(folder)

    def call(tracker, *words):
        assert main(["track", "--config", "config.yaml", "--to", tracker, *words]) == 0
        return capsys.readouterr().out

    return call, record["runs"]


def expected_curves(run):
    """The validation curve and the numbers of the diagnostics."""
    curves = {"validation/accuracy": [tuple(point) for point in run["validation_curve"]]}
    for entry in run["diagnostics"]:
        for name, value in entry.items():
            for place, number in enumerate(value if isinstance(value, list) else [value]):
                if name != "step":
                    key = f"diagnostics/{name}.{place}" if isinstance(value, list) else f"diagnostics/{name}"
                    curves.setdefault(key, []).append((entry["step"], number))
    return curves


def test_every_curve_is_in_the_store_of_mlflow(track, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra `track`")
    call, runs = track
    assert "4 of 4" in call("mlflow", "--into", str(tmp_path / "store"))
    assert "0 of 4" in call("mlflow", "--into", str(tmp_path / "store"))
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "store").as_uri())
    (experiment,) = [one for one in client.search_experiments() if one.name == "results"]
    stored = {
        (int(one.data.params["seed"]), float(one.data.params["learning_rate.prompt"])): one
        for one in client.search_runs([experiment.experiment_id])
    }
    assert len(stored) == 4
    for run in runs:
        one = stored[run["seed"], run["learning_rates"]["prompt"]]
        assert one.data.params["method"] == "ept" and one.data.params["selected"] == str(run["selected"])
        for name, points in expected_curves(run).items():
            found = [(point.step, point.value) for point in client.get_metric_history(one.info.run_id, name)]
            np.testing.assert_allclose(sorted(found), sorted(points))
        for name, score in (run["test"] or {}).items():
            assert one.data.metrics[f"test/{name}"] == pytest.approx(score)


def test_every_curve_is_in_the_event_files_of_tensorboard(track, tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra `track`")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    call, runs = track
    assert "4 of 4" in call("tensorboard", "--into", str(tmp_path))
    before = sorted(path for path in tmp_path.rglob("events.*"))
    assert "0 of 4" in call("tensorboard", "--into", str(tmp_path))
    assert sorted(tmp_path.rglob("events.*")) == before and len(before) == 4
    found = []
    for file in before:
        events = EventAccumulator(str(file.parent), size_guidance={"scalars": 0}).Reload()
        found.append([(point.step, point.value) for point in events.Scalars("validation/accuracy")])
    expected = [expected_curves(run)["validation/accuracy"] for run in runs]
    np.testing.assert_allclose(sorted(found), sorted(expected), rtol=1e-6)


def test_without_trained_runs_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(VALUES))
    assert main(["track", "--config", "config.yaml", "--to", "mlflow"]) == 2
    error = capsys.readouterr().err
    assert "trained" in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
