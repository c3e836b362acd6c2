"""Pretraining the shipped backbone: its loss is transformers', its optimizer does what the papers say."""

import csv
from collections import Counter

import pytest
import torch
from transformers import T5ForConditionalGeneration

from ept.demo import pretrain
from ept.demo.corpus import NAMES, language, task_example
from ept.demo.mastery import held_out, percent_exact
from ept.demo.network import FILLER, exact, label_loss, padded
from ept.demo.optimizing import COOL_DOWN, Muon, Optimizer, orthogonal, rate_at
from ept.demo.pretrain import configuration, rebuild
from ept.demo.start import start_matching, start_words
from ept.demo.tokenizer import build_tokenizer
from ept.demo.world import World


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(language())


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(5)
    model = T5ForConditionalGeneration(configuration(tokenizer.get_vocab_size()))
    start_words(model, tokenizer)
    start_matching(model)
    return model


@pytest.fixture(scope="module")
def rows(tokenizer):
    """Sources and targets [23, length] of different lengths, one example of each task."""
    world = World("pretraining", (7,))
    examples = [task_example(world, task, hinted=1.0) for task in NAMES]
    sources = padded([tokenizer.encode(source).ids for source, _ in examples], 0)
    return sources, padded([tokenizer.encode(target).ids for _, target in examples], FILLER)


def test_the_loss_and_its_gradients_are_those_of_transformers(model, rows):
    source, target = rows
    assert (source == 0).any() and (target == FILLER).any()
    ours = label_loss(model, source, target)
    found = torch.autograd.grad(ours, list(model.parameters()))
    theirs = model(input_ids=source, attention_mask=(source != 0).long(), labels=target).loss
    expected = torch.autograd.grad(theirs, list(model.parameters()))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for name, gradient, other in zip(dict(model.named_parameters()), found, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-5, msg=name)


def test_a_target_is_exact_when_greedy_generation_writes_it(model, rows):
    source, _target = rows
    with torch.no_grad():
        written = model.generate(input_ids=source, attention_mask=(source != 0).long(), max_new_tokens=4, num_beams=1)
    written = written[:, 1:].clone()
    stopped = (written == 1).cumsum(1) - (written == 1).long() > 0
    written[stopped] = FILLER
    assert exact(model, source, written).all()
    other = written.clone()
    other[:, 0] = (other[:, 0] + 1) % 500
    assert not exact(model, source, other).any()


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 48, 16), (2, 16, 48)])
def test_orthogonal_updates_have_singular_values_near_one_and_the_same_directions(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1)) + 0.5
    updates = orthogonal(matrices)
    assert updates.shape == matrices.shape
    for matrix, update in zip(matrices, updates, strict=True):
        left, _values, right = torch.linalg.svd(matrix, full_matrices=False)
        rotated = left.T @ update @ right.T
        assert rotated.diagonal().min() > 0.5 and rotated.diagonal().max() < 1.35
        assert (rotated - torch.diag(rotated.diagonal())).abs().max() < 0.1


def test_muon_steps_against_the_gradient_in_its_own_scale():
    matrices = [torch.nn.Parameter(torch.zeros(8, 8)) for _ in range(2)]
    matrices[0].grad, matrices[1].grad = torch.eye(8), -1000 * torch.eye(8)
    Muon(matrices, rate=0.1).step(0.5)
    step = 0.2 * 8**0.5 * 0.1 * 0.5
    for matrix, sign in zip(matrices, (-1, 1), strict=True):
        assert (sign * matrix.diagonal()).min() > 0.6 * step and (sign * matrix.diagonal()).max() < 1.3 * step


def test_rates_before_the_cool_down_do_not_depend_on_the_number_of_steps():
    kept = round((1 - COOL_DOWN) * 1000)
    assert [rate_at(step, 1000) for step in range(kept)] == [rate_at(step, 4000) for step in range(kept)]
    falling = [rate_at(step, 1000) for step in range(kept, 1000)]
    assert falling == sorted(falling, reverse=True)
    assert 0 < falling[-1] < 0.01


def test_every_parameter_is_stepped_and_gradients_are_deleted(model, rows):
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer = Optimizer(model, 10)
    label_loss(model, *rows).backward()
    optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_majority_is_what_the_most_frequent_target_of_each_command_gets_right(tokenizer):
    for task in ("cola", "stsb"):
        examples = held_out(tokenizer, task, 60)
        answers: dict[tuple, Counter] = {}
        for sources, targets in examples.batches:
            for source, target in zip(sources.tolist(), targets.tolist(), strict=True):
                answers.setdefault(tuple(source[:2]), Counter())[tuple(target)] += 1
        assert sum(counts.total() for counts in answers.values()) == 60
        right = sum(max(counts.values()) for counts in answers.values())
        assert examples.majority == pytest.approx(100 * right / 60)


def test_rebuild_is_deterministic_and_its_files_load(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "CURVE_EVERY", 2)
    monkeypatch.setattr(pretrain, "BATCH", 8)
    monkeypatch.setattr(pretrain, "HELD_OUT", 10)
    torch.set_num_threads(1)
    lines: list[str] = []
    first = rebuild(tmp_path / "a", seed=3, steps=4, progress=lines.append)
    rebuild(tmp_path / "b", seed=3, steps=4, progress=lines.append)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    loaded = T5ForConditionalGeneration.from_pretrained(tmp_path / "a")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), loaded.parameters(), strict=True))
    rows = list(csv.DictReader((tmp_path / "a/curve.csv").open()))
    assert [row["step"] for row in rows] == ["majority", "2", "4"]
    assert len(lines) == 4 and "step 4 of 4" in lines[-1]
    tokenizer = build_tokenizer(language())
    found = {task: percent_exact(first, held_out(tokenizer, task, 10)) for task in NAMES}
    assert {task: f"{value:.1f}" for task, value in found.items()} == {task: rows[-1][task] for task in NAMES}
