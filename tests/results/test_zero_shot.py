"""The table zero_shot of a tiny decoder-only model against likelihoods computed row by row with transformers."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from data.task_rows import write_local
from ept.cli import main
from ept.config.configuration import load_configuration
from ept.data.dataset import TokenizedSplit
from ept.plan.experiment import Experiment
from ept.tasks.registry import TASKS
from tiny_models import save_byte_llama


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A random Llama over bytes and a folder with CB, as the current folder's configuration names them."""
    monkeypatch.chdir(tmp_path)
    model = save_byte_llama(tmp_path / "model")
    write_local(tmp_path / "glue-and-more", TASKS["cb"], rows=24)
    values = {
        "output": "out",
        "backbone": {"name": "tiny", "source": "local", "id": "model"},
        "data": {"source": "local", "path": "glue-and-more"},
        "tasks": {"target": ["cb"], "wording": "natural"},
        "prompt": {"length": 8, "short_length": 4, "reference_length": 4},
        "methods": ["pt"],
        "few_shot": {"k": []},
        "training": {"runs_per_pass": 1},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    return model


def test_every_row_gets_its_likeliest_label(model):
    for command in ("fetch --task cb", "tokenize --task cb", "zero-shot"):
        assert main([*command.split(), "--config", "config.yaml"]) == 0
    experiment = Experiment(load_configuration("config.yaml"))
    split = TokenizedSplit(experiment.tokenized_folder("cb") / "test.arrow")
    vocabulary = json.loads(Path("model/tokenizer.json").read_text())["model"]["vocab"]
    labels = [[vocabulary[piece] for piece in f"Ġ{word}"] for word in ("True", "False", "Neither")]
    right = []
    for row in range(len(split)):
        text = split.collate(np.array([row])).input_ids[0].tolist()
        scores = []
        for label in labels:
            with torch.no_grad():
                logs = model(torch.tensor([text + label])).logits[0].log_softmax(-1)
            scores.append(sum(float(logs[len(text) - 1 + place, piece]) for place, piece in enumerate(label)))
        right.append(int(np.argmax(scores)) == int(split.labels[row]))
    with open("out/zero_shot.csv", newline="") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    assert float(rows["accuracy"]["mean"]) == pytest.approx(100 * np.mean(right), abs=1e-3)
    assert (rows["accuracy"]["method"], rows["accuracy"]["trained_parameters"]) == ("zero_shot", "0")
    assert float(rows["accuracy"]["majority_baseline"]) > 0
    assert "zero-shot" in Path("out/zero_shot.md").read_text() and "majority" in Path("out/zero_shot.tex").read_text()
