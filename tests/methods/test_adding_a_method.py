"""docs/adding-a-method.md: its file and its line of the registry, as they stand there, make a method that works."""

import csv
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ept.cli import main
from ept.config.settings import FEW_SHOT_LEARNING_RATES, FULL_LEARNING_RATES
from ept.methods.combine import combine
from ept.methods.prompt_file import read_prompt, save_prompt
from ept.methods.registry import METHODS, Method

EXAMPLE = "docs/examples/residual_prompt.py"
LENGTH = 10


@pytest.fixture
def blocks(project) -> list[str]:
    """The Python blocks of the document: the file and the line."""
    text = (project / "docs/adding-a-method.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


@pytest.fixture
def registered(project, blocks, monkeypatch) -> str:
    """The example as if its file lay in src/ept/prompts/ and its line stood in METHODS; its name."""
    name = "ept.prompts.residual_prompt"
    spec = importlib.util.spec_from_file_location(name, project / EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    method = eval(blocks[1], {"Method": Method})
    for registry, entry in (
        (METHODS, method),
        (FULL_LEARNING_RATES, method.rates),
        (FEW_SHOT_LEARNING_RATES, method.few_shot_rates),
    ):
        monkeypatch.setitem(registry, method.name, entry)
    return method.name


def test_document_and_file_are_the_same_and_short(project, blocks):
    text = (project / EXAMPLE).read_text(encoding="utf-8")
    assert blocks[0] == text
    assert len(text.splitlines()) <= 60


def test_formula(registered, small_pack, randomize):
    pack = randomize(small_pack(registered, seeds=[3, 4]))
    output = pack()
    assert output.offset is None
    for run in range(2):
        own = {name: tensor.double().numpy() for name, tensor in pack.tensors(run).items()}
        inner = np.maximum(own["prompt"] @ own["W_1"] + own["b_1"], 0)
        outer = inner @ own["W_2"] + own["b_2"]
        centered = outer - outer.mean(-1, keepdims=True)
        normalized = centered / np.sqrt(centered.var(-1, keepdims=True) + 1e-5)
        expected = own["prompt"] + own["scale"] * normalized + own["shift"]
        np.testing.assert_allclose(output.prompt[run].detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def _losses(model, pack, ids, labels):
    """The loss of each run on the same rows."""
    embeddings = model.get_input_embeddings()(ids).expand(pack.runs, -1, -1, -1)
    mask = torch.ones(embeddings.shape[:3], dtype=torch.int64)
    embeddings, mask = combine(pack(), embeddings, mask)
    parts = zip(embeddings.chunk(pack.runs), mask.chunk(pack.runs), strict=True)
    return torch.stack([model(inputs_embeds=part, attention_mask=own, labels=labels).loss for part, own in parts])


def _train(model, pack, ids, labels):
    """Adam on the same rows; gradients reach every tensor of every run from the first step on. Returns the losses."""
    rates = {"prompt": 0.3, "network": 0.01}
    groups = [{"params": group, "lr": rates[name]} for name, group in pack.parameter_groups().items()]
    optimizer = torch.optim.Adam(groups)
    for _ in range(25):
        optimizer.zero_grad()
        _losses(model, pack, ids, labels).sum().backward()
        for name, parameter in pack.named_parameters():
            assert all(gradient.abs().max() > 0 for gradient in parameter.grad), name
        optimizer.step()
    return _losses(model, pack, ids, labels).detach()


def test_training(registered, small_pack, tiny_t5, tmp_path):
    model = tiny_t5()
    ids = torch.randint(2, 50, (6, LENGTH), generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[7, 1], [8, 1]] * 3)
    pack, alone = small_pack(registered, seeds=[0, 1], hidden=16), small_pack(registered, seeds=[1], hidden=16)
    first = _losses(model, pack, ids, labels).detach()
    last = _train(model, pack, ids, labels)
    assert (last < first - 0.5).all()
    torch.testing.assert_close(_train(model, alone, ids, labels), last[1:], rtol=1e-4, atol=1e-5)

    save_prompt(tmp_path / "seed0.safetensors", pack.tensors(0), pack.collapse(0), {})
    saved = read_prompt(tmp_path / "seed0.safetensors")
    fresh = small_pack(registered, seeds=[7], hidden=16)
    fresh.load_tensors(0, saved.tensors)
    torch.testing.assert_close(_losses(model, fresh, ids, labels), last[:1])
    # For use the network is gone: the prompt alone gives the same outputs.
    plain = small_pack("pt", seeds=[7], hidden=16)
    plain.load_tensors(0, saved.collapsed)
    torch.testing.assert_close(_losses(model, plain, ids, labels), last[:1])


def test_workflow(registered, tmp_path, monkeypatch):
    """From its name in a configuration to its row in a table, with the rates of its line."""
    monkeypatch.chdir(tmp_path)
    training = {"steps": 2, "warmup_steps": 1, "evaluate_every": 1, "validation_rows": 10}
    config = {
        "data": {"source_length": {"default": 64}},
        "tasks": {"target": ["cb"]},
        "methods": [registered],
        "seeds": [0],
        "training": training,
        "few_shot": {"k": [], "initialize_from": ["scratch"]},
    }
    Path("config.yaml").write_text(yaml.safe_dump(config))
    for command in (
        "fetch --task cb",
        "tokenize --task cb",
        f"train --method {registered} --task cb --regime full",
        "table --table main",
    ):
        verb, *words = command.split()
        assert main([verb, "--config", "config.yaml", *words]) == 0
    with open("results/main.csv", newline="") as file:
        row = next(csv.DictReader(file))
    hidden, length, width = 128, 100, 32
    network = hidden * width + width + width * hidden + 3 * hidden
    assert (row["method"], row["task"]) == (registered, "cb")
    assert int(row["trained_parameters"]) == length * hidden + network
    assert int(row["stored_parameters"]) == length * hidden
    assert "| Residual PT | " in Path("results/main.md").read_text()
