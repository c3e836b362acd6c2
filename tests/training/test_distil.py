"""MPT's source training: its losses by the formulas, its gradients by transformers' own forward pass."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional

from ept.backbones.encoder_decoder import EncoderDecoder, LabelStates
from ept.config.settings import EptSettings, PromptSettings, TrainingSettings
from ept.data.dataset import TokenizedSplit
from ept.data.prepare import SCHEMA, write_tokens
from ept.data.sampling import BatchOrder
from ept.methods.build import build_prompt_module
from ept.methods.mpt import SharedPrompt
from ept.training.checkpoint import Checkpoint
from ept.training.distil import Distillation, SourceTask, loss_sums
from ept.training.loop import train_runs
from ept.training.progress import Progress
from ept.training.runs import Run
from ept.training.step import ForwardSize
from tiny_models import make_t5

HIDDEN, LENGTH, VOCABULARY, BATCH = 16, 6, 40, 4


@pytest.fixture(scope="module")
def t5():
    return make_t5(std=None, vocab_size=VOCABULARY, d_model=HIDDEN, num_layers=2).requires_grad_(False)


@pytest.fixture(scope="module")
def backbone(t5):
    return EncoderDecoder(t5)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Two source tasks of texts and labels of several lengths; teachers much larger than a prompt starts."""
    return [make_task(tmp_path_factory.mktemp("tokens"), seed, labels) for seed, labels in ((1, (5, 6)), (2, (7, 8)))]


def make_task(folder, seed, labels):
    generator = np.random.default_rng(seed)
    columns = {
        "id": [str(row) for row in range(24)],
        "group": [""] * 24,
        "input_ids": [[*generator.integers(3, VOCABULARY, generator.integers(2, 9)), 1] for _ in range(24)],
        "target_ids": [[labels[0], 1] if row % 2 else [labels[1], 9, 1] for row in range(24)],
        "label": [float(row % 2) for row in range(24)],
        "answers": [[]] * 24,
    }
    (batch,) = pa.table(columns, schema=SCHEMA).to_batches()
    write_tokens(folder / "train.arrow", batch, {"pad_id": 0, "split": "train"})
    train = TokenizedSplit(folder / "train.arrow")
    teacher = 3 * torch.randn(1, LENGTH, HIDDEN, generator=torch.Generator().manual_seed(seed))
    return SourceTask(train, BatchOrder(train.lengths, np.arange(24)[None], [0], BATCH), teacher)


def shared_prompt(backbone, runs=3, tasks=2, randomize=True):
    settings = PromptSettings(length=LENGTH, short_length=3, reference_length=8)
    prompts = SharedPrompt(
        build_prompt_module("pt", backbone.embedding, settings, EptSettings(), 9, range(runs)), tasks
    )
    if randomize:
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in (prompts.u, prompts.v):
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return prompts


def test_losses_are_the_formulas():
    """In NumPy, row by row, piece by piece; padding has values that must not count."""
    generator = np.random.default_rng(0)
    runs, rows, positions, vocabulary, hidden = 2, 3, 5, 7, 4
    target_ids = np.array([[2, 1, -100], [3, 4, 1], [1, -100, -100]])
    mask = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    labels = target_ids[target_ids != -100]
    shapes = ((positions, hidden), (hidden,), (vocabulary,))
    sizes = (rows, len(labels), len(labels))
    taught = [generator.normal(size=(size, *shape)) for size, shape in zip(sizes, shapes, strict=True)]
    student = [generator.normal(size=(runs * size, *shape)) for size, shape in zip(sizes, shapes, strict=True)]
    expected = np.zeros((4, runs))
    for run in range(runs):
        encoded, decoded, logits = (part.reshape(runs, -1, *part.shape[1:])[run] for part in student)
        for piece, label in enumerate(labels):
            p = np.exp(taught[2][piece]) / np.exp(taught[2][piece]).sum()
            q = np.exp(logits[piece]) / np.exp(logits[piece]).sum()
            expected[0, run] -= np.log(q[label])
            expected[1, run] += (p * np.log(p / q)).sum()
            expected[2, run] += ((decoded[piece] - taught[1][piece]) ** 2).mean()
        for row, position in np.argwhere(mask):
            expected[3, run] += ((encoded[row, position] - taught[0][row, position]) ** 2).mean()
    found = loss_sums(
        LabelStates(*(torch.tensor(part) for part in student)),
        LabelStates(*(torch.tensor(part) for part in taught)),
        torch.tensor(mask),
        torch.tensor(target_ids),
    )
    np.testing.assert_allclose(torch.stack(found).numpy(), expected, rtol=1e-5)


def expected_losses(t5, prompts, tasks, step, run):
    """The three losses of one run by transformers' forward pass and torch's losses, each row alone: no padding."""
    losses = []
    for number, task in enumerate(tasks):
        student = prompts.prompt[run] * torch.outer(prompts.u[run, number], prompts.v[run, number])
        parts, labels, positions = torch.zeros(4), 0, 0
        for row in task.order.batch(step)[0]:
            batch = task.train.collate(np.array([row]))
            outs = [forward(t5, prompt, batch) for prompt in (student, task.teacher[0])]
            (logits, encoded, decoded), (taught, taught_encoded, taught_decoded) = outs
            target = batch.target_ids[0]
            parts = parts + torch.stack(
                [
                    functional.cross_entropy(logits, target, reduction="sum"),
                    functional.kl_div(logits.log_softmax(-1), taught.softmax(-1), reduction="sum"),
                    functional.mse_loss(decoded, taught_decoded) * len(decoded),
                    functional.mse_loss(encoded, taught_encoded) * len(encoded),
                ]
            )
            labels, positions = labels + len(target), positions + len(encoded)
        hidden = parts[2] / labels + parts[3] / positions
        losses.append(torch.stack([parts[0] / labels, parts[1] / labels, hidden]))
    return torch.stack(losses).mean(0)


def forward(model, prompt, batch):
    embeddings = torch.cat([prompt, model.shared(batch.input_ids[0])])[None]
    out = model(inputs_embeds=embeddings, labels=batch.target_ids, output_hidden_states=True)
    return out.logits[0], out.encoder_last_hidden_state[0], out.decoder_hidden_states[-1][0]


@pytest.mark.parametrize("positions", [1, 40, 10**6])
@pytest.mark.parametrize("alive", [[0, 1, 2], [0, 2]])
def test_gradients_are_those_of_the_three_losses(t5, backbone, tasks, positions, alive):
    """However the batches are cut into pieces, and whichever runs are still alive."""
    weight, step = 0.7, 3
    prompts, reference = shared_prompt(backbone), shared_prompt(backbone)
    objective = Distillation(backbone, prompts, tasks, weight)
    losses = objective.accumulate(alive, objective.take(step, alive, ForwardSize(positions)))
    for place, run in enumerate(alive):
        parts = expected_losses(t5, reference, tasks, step, run)
        total = parts[0] + weight * (parts[1] + parts[2])
        total.backward()
        torch.testing.assert_close(losses[place], total.detach(), rtol=1e-4, atol=1e-5)
        names = ("task_loss", "logits_loss", "hidden_loss")
        assert prompts.diagnostics(run) == pytest.approx(dict(zip(names, parts.tolist(), strict=True)), rel=1e-3)
    for (name, parameter), expected in zip(prompts.named_parameters(), reference.parameters(), strict=True):
        assert expected.grad[alive].flatten(1).any(1).all()
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_a_teacher_loses_nothing_against_itself(backbone, tasks):
    prompts = shared_prompt(backbone, runs=1, tasks=1, randomize=False)
    with torch.no_grad():
        prompts.prompt.copy_(tasks[0].teacher)
    objective = Distillation(backbone, prompts, tasks[:1], 1.0)
    objective.accumulate([0], objective.take(0, [0], ForwardSize(10**6)))
    found = prompts.diagnostics(0)
    assert found["task_loss"] > 0.1
    assert found["logits_loss"] == pytest.approx(0, abs=1e-6) and found["hidden_loss"] == pytest.approx(0, abs=1e-6)


def train(backbone, tasks, weight, steps=40, rates=({"prompt": 0.3, "task": 0.01},), objective=Distillation, file=None):
    prompts = shared_prompt(backbone, runs=len(rates), randomize=False)
    runs = [Run(0, rate) for rate in rates]
    settings = TrainingSettings(batch_size=BATCH, steps=steps, warmup_steps=2, evaluate_every=1)
    checkpoint = Checkpoint(file, {}, {}, seconds=0) if file else None

    def validate(alive):
        return np.zeros(len(alive))

    made, size, progress = objective(backbone, prompts, tasks, weight), ForwardSize(10**6), Progress("test", steps)
    results, _ = train_runs(prompts, runs, made, steps, settings, size, validate, progress, checkpoint)
    return prompts, results


def mean_losses(result, steps):
    return {
        name: np.mean([found[name] for found in result.diagnostics[steps]])
        for name in ("task_loss", "logits_loss", "hidden_loss")
    }


def test_training_lowers_all_three_losses_and_leaves_backbone_and_teachers(backbone, tasks):
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    # Without distillation and on one task it is PT: so teachers are made.
    taught = [train(backbone, [task], weight=0.0)[0].of_task(0).prompt.detach() for task in tasks]
    tasks = [dataclasses.replace(task, teacher=teacher.clone()) for task, teacher in zip(tasks, taught, strict=True)]
    _, (result,) = train(backbone, tasks, weight=1.0)
    first, last = (mean_losses(result, steps) for steps in (slice(0, 4), slice(-12, None)))
    assert last["task_loss"] < first["task_loss"] - 0.5
    assert last["logits_loss"] < 0.5 * first["logits_loss"]
    assert last["hidden_loss"] < 0.8 * first["hidden_loss"]
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.model.state_dict().items())
    assert all(torch.equal(task.teacher, teacher) for task, teacher in zip(tasks, taught, strict=True))
    # What the weight is for: without it the labels alone are learned.
    _, (alone,) = train(backbone, tasks, weight=0.0)
    assert mean_losses(alone, slice(-12, None))["hidden_loss"] > last["hidden_loss"]


def test_every_tensor_moves_within_three_steps(backbone, tasks):
    start = shared_prompt(backbone, runs=1, randomize=False)
    trained, _ = train(backbone, tasks, weight=1.0, steps=3)
    for (name, parameter), before in zip(trained.named_parameters(), start.parameters(), strict=True):
        assert (parameter != before).flatten(2).any(2).all(), name


def test_a_diverging_run_leaves_the_others_untouched(backbone, tasks):
    good, wild = {"prompt": 0.3, "task": 0.01}, {"prompt": 1e38, "task": 1e38}
    together, (first, second) = train(backbone, tasks, 1.0, steps=12, rates=(good, wild))
    alone, _ = train(backbone, tasks, 1.0, steps=12, rates=(good,))
    assert (first.status, second.status) == ("finished", "diverged")
    for name, tensor in alone.tensors(0).items():
        torch.testing.assert_close(together.tensors(0)[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


class Killed(Distillation):
    """A machine that dies at the sixth step."""

    def take(self, step, alive, size):
        if step == 5:
            raise KeyboardInterrupt
        return super().take(step, alive, size)


def test_a_killed_source_training_ends_as_if_nothing_had_happened(backbone, tasks, tmp_path):
    file, steps = tmp_path / "checkpoint.safetensors", 9
    undisturbed, (expected,) = train(backbone, tasks, 1.0, steps)
    with pytest.raises(KeyboardInterrupt):
        train(backbone, tasks, 1.0, steps, objective=Killed, file=file)
    resumed, (found,) = train(backbone, tasks, 1.0, steps, file=file)
    assert found.diagnostics == expected.diagnostics
    for (name, parameter), other in zip(resumed.named_parameters(), undisturbed.parameters(), strict=True):
        assert torch.equal(parameter, other), name
