"""A folder with a tiny local backbone and tiny local data, in which packs can be trained by the command line."""

from pathlib import Path

import yaml

from data.task_rows import write_local, write_tokenizer
from ept.cli import main
from ept.config.configuration import load_configuration
from ept.plan.experiment import Experiment
from ept.tasks.registry import TASKS
from tiny_models import make_t5

FOLDERS = {
    "output": "out",
    "backbone": {"name": "tiny", "source": "local", "id": "model"},
    "data": {"source": "local", "path": "published"},
    "seeds": [0, 1],
    "prompt": {"length": 5, "short_length": 2, "reference_length": 4},
}
STEPS = {"steps": 4, "warmup_steps": 1, "evaluate_every": 2}


def make_project(values):
    """Write config.yaml, backbone and tokenized data into the current folder; returns the experiment."""
    Path("config.yaml").write_text(yaml.safe_dump({**FOLDERS, **values}))
    make_t5(std=None, vocab_size=16, d_kv=8, num_layers=1, num_heads=2).save_pretrained("model")
    write_tokenizer(Path("model"), "0 1 2 premise: hypothesis: sentence1: sentence2:")
    for name in dict.fromkeys(values["tasks"]["target"] + values["tasks"]["source"]):
        write_local(Path("published"), TASKS[name], rows=12)
        for verb in ("fetch", "tokenize"):
            assert main([verb, "--config", "config.yaml", "--task", name]) == 0
    return Experiment(load_configuration("config.yaml"))


def train_all(packs):
    """Train packs by their hashes."""
    for pack in packs:
        assert main(["train", "--config", "config.yaml", "--hash", pack.hash]) == 0
