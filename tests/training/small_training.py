"""A tiny backbone, splits and trainings for the tests of this folder."""

import numpy as np
import pyarrow as pa
import torch

import tiny_models
from ept.config.settings import BaselineSettings, EptSettings, PromptSettings, TrainingSettings
from ept.data.dataset import TokenizedSplit
from ept.data.prepare import SCHEMA, write_tokens
from ept.methods.build import build_prompt_module, build_weight_module
from ept.methods.registry import get_method
from ept.training.loop import label_loss, train_runs
from ept.training.progress import Progress
from ept.training.runs import Run
from ept.training.step import ForwardSize, accumulate_gradients, cut, pack_losses

LENGTH = 12
PROMPT = PromptSettings(length=15, short_length=3, reference_length=LENGTH)
SETTINGS = TrainingSettings(batch_size=4, steps=12, warmup_steps=2, evaluate_every=4)
LARGE = ForwardSize(10**6)
RATES = {"prompt": 0.3, "low_rank": 0.005, "task": 0.01, "attention": 0.01, "weights": 0.003}
BASELINES = BaselineSettings(adapter_reduction=4, adapterdrop_layers=1, lora_rank=2, lst_reduction=4, lst_skip_every=2)
VALIDATION_ROWS = np.arange(8)


def make_t5():
    """A random T5 of two layers."""
    return tiny_models.make_t5(std=None, num_layers=2)


def make_split(path, lengths):
    """Random texts of these lengths with two labels in turn."""
    generator = np.random.default_rng(0)
    rows = len(lengths)
    columns = {
        "id": [str(row) for row in range(rows)],
        "group": [""] * rows,
        "input_ids": [[*generator.integers(3, 40, length - 1), 1] for length in lengths],
        "target_ids": [[5, 1] if row % 2 else [6, 7, 1] for row in range(rows)],
        "label": [float(row % 2) for row in range(rows)],
        "answers": [[]] * rows,
    }
    (batch,) = pa.table(columns, schema=SCHEMA).to_batches()
    write_tokens(path, batch, {"pad_id": 0, "split": "train"})
    return TokenizedSplit(path)


def make_pack(backbone, method, seeds):
    """A pack of untrained runs; of a method that trains inside the backbone the one run, attached to it."""
    if not get_method(method).packed:
        return build_weight_module(method, backbone, BASELINES, *seeds)
    sources = 3 * torch.randn(2, PROMPT.length, 16, generator=torch.Generator().manual_seed(1))
    return build_prompt_module(method, backbone.embedding, PROMPT, EptSettings(), LENGTH, seeds, sources=sources)


def make_grid(method, seeds=(0, 1), scales=(1.0, 0.3)):
    """Runs of every scale of the usual rates with every seed, in the order of a job."""
    groups = get_method(method).groups
    return [
        Run(seed, {group: RATES.get(group, 0.01) * scale for group in groups}) for scale in scales for seed in seeds
    ]


def accumulate(backbone, prompts, split, rows, size=LARGE):
    """The gradients of one step on `rows` [runs, batch], all runs alive; returns the losses."""
    length = prompts().prompt.shape[1]
    counts = torch.from_numpy(split.target_lengths[rows].sum(1))
    parts = list(cut(split, rows, length, size))
    return accumulate_gradients(backbone, prompts, list(range(len(rows))), parts, counts)


def loss_score(backbone, split, prompts):
    """A validation that scores with the loss on some rows, negated."""

    @torch.no_grad()
    def validate(alive):
        output = prompts().select(alive)
        return -pack_losses(backbone, output, split.collate(np.tile(VALIDATION_ROWS, len(alive)))).numpy()

    return validate


def train(backbone, prompts, split, runs, settings=SETTINGS, size=LARGE, validate=None, progress=None, checkpoint=None):
    """Train `prompts` on all rows of `split`, scored by the loss unless `validate` is given; returns the results."""
    rows = np.tile(np.arange(len(split)), (len(runs), 1))
    results, _ = train_runs(
        prompts,
        runs,
        label_loss(backbone, prompts, runs, split, rows, settings.batch_size, settings.dropout),
        settings.steps,
        settings,
        size,
        validate or loss_score(backbone, split, prompts),
        progress or Progress("test", settings.steps),
        checkpoint,
    )
    return results


def train_new(backbone, method, split, runs, **options):
    """Train a fresh pack; returns the prompts at the end and the results."""
    prompts = make_pack(backbone, method, [run.seed for run in runs])
    return prompts, train(backbone, prompts, split, runs, **options)


def distance(found, expected):
    """The norm of the difference of two dictionaries of tensors, relative to that of `expected`, by name."""
    return {name: float((found[name] - tensor).norm() / (tensor.norm() + 1e-12)) for name, tensor in expected.items()}
