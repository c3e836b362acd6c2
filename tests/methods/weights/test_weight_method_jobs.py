"""Whole jobs of the weight-side methods on the embedded benchmark: two runs over one backbone, files, reload."""

import json
import shutil
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from ept.cli import main
from ept.config.configuration import load_configuration
from ept.evaluation.score import predict_split
from ept.methods.prompt_file import read_prompt
from ept.plan.experiment import Experiment
from ept.training.checkpoint import Checkpoint
from ept.training.choose_source import build_runs
from ept.training.job import load_job

CONFIG = {
    "data": {"source_length": {"default": 48}},
    "tasks": {"target": ["cb"]},
    "methods": ["lora"],
    "seeds": [0, 1],
    "baselines": {"adapterdrop_layers": 1},
    "training": {
        "batch_size": 4,
        "steps": 4,
        "warmup_steps": 1,
        "evaluate_every": 2,
        "validation_rows": 8,
        "learning_rates": {"lora": {"weights": [0.01, 0.003]}},
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the tokenized task."""
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for verb in ("fetch", "tokenize"):
            assert main([verb, "--config", "config.yaml", "--task", "cb"]) == 0
    return folder


def test_a_job_trains_its_runs_one_by_one_and_leaves_what_use_needs(folder, monkeypatch, method):
    monkeypatch.chdir(folder)
    arguments = ["--method", method, "--task", "cb", "--regime", "full"]
    assert main(["train", "--config", "config.yaml", *arguments]) == 0
    experiment = Experiment(load_configuration("config.yaml"))
    pack = experiment.pack(method, "cb", "full", "scratch")
    record = json.loads((pack.folder / "runs.json").read_text())
    assert [run["seed"] for run in record["runs"]] == [0, 1] * (2 if method == "lora" else 1)
    assert {run["status"] for run in record["runs"]} == {"finished"}

    job = load_job(experiment, pack, threads=1)
    written = pq.read_table(pack.folder / "predictions.parquet").to_pydict()
    rows = np.arange(len(job.test))
    for seed in (1, 0):
        again = build_runs(job, [7])
        saved = read_prompt(pack.prompts / f"seed{seed}.safetensors")
        assert saved.metadata["method"] == method
        again.load_tensors(0, saved.tensors)
        assert again.trained_parameters == record["trained_parameters"] == record["stored_parameters"]
        (found,) = predict_split(job.backbone, again(), job.test, rows, job.answers, job.size.positions)
        expected = [p for p, of in zip(written["prediction"], written["seed"], strict=True) if of == seed]
        assert found.tolist() == expected
        again.close()


@pytest.mark.parametrize("name", ["fine_tuning", "lora", "lst"])
def test_a_stopped_job_ends_as_an_undisturbed_one(folder, monkeypatch, name):
    monkeypatch.chdir(folder)
    command = ["train", "--config", "stopped.yaml", "--method", name, "--task", "cb", "--regime", "full"]
    values = {**CONFIG, "seeds": [2, 3], "training": {**CONFIG["training"], "learning_rates": {}}}
    (folder / "stopped.yaml").write_text(yaml.safe_dump(values))
    pack = Experiment(load_configuration("stopped.yaml")).pack(name, "cb", "full", "scratch")

    def trained():
        files = sorted(pack.prompts.glob("*.safetensors"))
        assert [file.name for file in files] == ["seed2.safetensors", "seed3.safetensors"]
        return [file.read_bytes() for file in files]

    assert main(command) == 0
    expected = trained()
    shutil.rmtree(pack.prompts)
    shutil.rmtree(pack.folder)
    after_step, parts = Checkpoint.after_step, []

    def stop_the_second_run(self, state, last):
        parts.extend({self.path.name} - set(parts))
        if len(parts) == 2 and state.step == 3:
            self.stop.signal = signal.SIGTERM
        after_step(self, state, last)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "after_step", stop_the_second_run)
        assert _status(command) == 143
    assert not pack.folder.exists()
    assert main(command) == 0
    assert trained() == expected


def _status(command: list[str]) -> int | str | None:
    """The exit status of a command, however it ends."""
    try:
        return main(command)
    except SystemExit as ended:
        return ended.code


def test_a_backbone_without_five_layers_says_so(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    (folder / "defaults.yaml").write_text(yaml.safe_dump({**CONFIG, "baselines": {}}))
    arguments = ["--method", "adapterdrop", "--task", "cb", "--regime", "full"]
    assert main(["train", "--config", "defaults.yaml", *arguments]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "baselines.adapterdrop_layers is 5" in message and "2 layers" in message
