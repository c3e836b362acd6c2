"""Whole jobs on a quantized backbone: what is trained, what is written down, what is refused."""

import json

import pytest
import yaml

from ept.cli import main
from ept.config.configuration import load_configuration
from ept.methods.prompt_file import read_prompt
from ept.plan.experiment import Experiment
from ept.training.choose_source import build_runs
from ept.training.job import load_job

CONFIG = {
    "backbone": {"quantization": "nf4", "gradient_checkpointing": True},
    "data": {"source_length": {"default": 48}},
    "tasks": {"target": ["cb"]},
    "few_shot": {"initialize_from": ["scratch"]},
    "methods": ["ept", "lora"],
    "seeds": [0],
    "prompt": {"length": 16, "short_length": 10, "reference_length": 64},
    "training": {
        "batch_size": 4,
        "runs_per_pass": 1,
        "steps": 4,
        "warmup_steps": 1,
        "evaluate_every": 2,
        "validation_rows": 8,
        "learning_rates": {"ept": {"prompt": [0.3], "low_rank": [0.005]}},
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the tokenized task, its configuration, and the same without quantization."""
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "plain.yaml").write_text(yaml.safe_dump({**CONFIG, "backbone": {}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for verb in ("fetch", "tokenize"):
            assert main([verb, "--config", "config.yaml", "--task", "cb"]) == 0
    return folder


@pytest.mark.parametrize("method", ["ept", "lora"])
def test_a_job_trains_and_its_file_serves_the_unquantized_backbone(folder, monkeypatch, method):
    monkeypatch.chdir(folder)
    arguments = ["--method", method, "--task", "cb", "--regime", "full"]
    assert main(["train", "--config", "config.yaml", *arguments]) == 0
    experiment = Experiment(load_configuration("config.yaml"))
    pack = experiment.pack(method, "cb", "full", "scratch")
    record = json.loads((pack.folder / "runs.json").read_text())
    assert {run["status"] for run in record["runs"]} == {"finished"}
    assert record["dtype"] == "bfloat16" and "bitsandbytes" in record["versions"]
    # Of a GPU alone.
    assert record["device_memory_bytes"] is None
    assert json.loads((pack.folder / "settings.json").read_text())["settings"]["backbone"]["quantization"] == "nf4"

    plain = Experiment(load_configuration("plain.yaml"))
    job = load_job(plain, plain.pack(method, "cb", "full", "scratch"), threads=1)
    runs = build_runs(job, [0])
    runs.load_tensors(0, read_prompt(pack.prompts / "seed0.safetensors").tensors)
    assert runs.trained_parameters == record["trained_parameters"]
    runs.close()


def test_fine_tuning_is_refused(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    arguments = ["--method", "fine_tuning", "--task", "cb", "--regime", "full"]
    assert main(["train", "--config", "config.yaml", *arguments]) == 2
    message = capsys.readouterr().err.strip()
    assert "\n" not in message
    assert all(fact in message for fact in ("backbone.quantization", "nf4", "fine_tuning", "float32", "none"))
