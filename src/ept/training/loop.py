"""The training loop of a pack: one forward and backward for all runs, everything else run by run."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.data.batches import BatchOrder
from ept.data.tokenized import TokenizedSplit
from ept.prompts.base import PromptOutput, PromptPack
from ept.prompts.combine import combine
from ept.training.optimiser import PackedAdam, linear_schedule
from ept.training.progress import Progress
from ept.training.settings import TrainingSettings


@dataclass(frozen=True)
class Run:
    """One training: its seed and the learning rate of each parameter group."""

    seed: int
    learning_rates: dict[str, float]


@dataclass
class RunResult:
    """What a run leaves: its best checkpoint and how it got there."""

    best_step: int = 0
    best_score: float = float("-inf")
    best_tensors: dict[str, Tensor] = field(default_factory=dict)
    validation_curve: list[tuple[int, float]] = field(default_factory=list)
    diagnostics: list[dict] = field(default_factory=list)
    status: str = "finished"
    steps: int = 0


def train_pack(
    backbone: EncoderDecoder,
    prompts: PromptPack,
    runs: list[Run],
    train: TokenizedSplit,
    rows: np.ndarray,
    steps: int,
    settings: TrainingSettings,
    validate: Callable[[PromptPack], np.ndarray],
    progress: Progress,
) -> tuple[list[RunResult], float]:
    """Train all runs and return their results and the seconds spent in optimiser steps (without validation).

    `rows` [runs, rows] are each run's training examples; `validate` gives the score [runs] of the current prompts.
    The loss of a run is the mean over the label pieces of its batch, and the pack's loss is the sum over runs, so the
    gradients are those of separate runs. A run whose loss is not finite is `diverged`: it stops, the others go on.
    """
    order = BatchOrder(train.lengths, rows, [run.seed for run in runs], settings.batch_size)
    groups = prompts.parameter_groups()
    rates = {name: torch.tensor([run.learning_rates[name] for run in runs], device=backbone.device) for name in groups}
    optimiser = PackedAdam(groups, rates, settings.clip_norm)
    results = [RunResult() for _ in runs]
    alive = torch.ones(len(runs), dtype=torch.bool, device=backbone.device)
    seconds = 0.0
    for step in range(steps):
        started = time.perf_counter()
        batch_rows = order.batch(step)
        losses = accumulate_gradients(backbone, prompts, train, batch_rows)
        alive &= losses.isfinite()
        optimiser.step(linear_schedule(step, settings.warmup_steps, steps), alive)
        living = alive.tolist()
        seconds += time.perf_counter() - started
        for result, lives in zip(results, living, strict=True):
            if lives:
                result.steps = step + 1
            else:
                result.status = "diverged"
        if (step + 1) % settings.evaluate_every == 0 or step + 1 == steps:
            _keep_best(results, prompts, validate(prompts), step + 1)
            progress.validated(max(result.best_score for result in results))
        progress.step(step + 1, batch_rows.size, sum(living), len(runs))
        if not any(living):
            break
    progress.close()
    return results, seconds


def accumulate_gradients(
    backbone: EncoderDecoder, prompts: PromptPack, train: TokenizedSplit, rows: np.ndarray
) -> Tensor:
    """Add the gradients of one step to the prompts' parameters and return the loss of each run, [runs].

    `rows` [runs, batch]. The prompts are computed once; the backbone sees as many runs at a time as fit its forward
    budget (on a CPU a batch that leaves the cache is slower than several that do not), which changes no gradient.
    """
    runs, batch_size = rows.shape
    batch = train.collate(rows.reshape(-1)).to(backbone.device)
    output = prompts()
    leaves = type(output)(*(None if part is None else part.detach().requires_grad_() for part in output))
    losses = []
    positions = batch_size * (output.prompt.shape[1] + batch.input_ids.shape[1])
    for chunk in torch.arange(runs).split(max(1, backbone.forward_positions // positions)):
        first, last = int(chunk[0]), int(chunk[-1]) + 1
        part = batch.slice(first * batch_size, last * batch_size)
        run_losses = pack_losses(backbone, leaves.slice(first, last), part, last - first)
        run_losses.sum().backward()
        losses.append(run_losses.detach())
    made = [(part, leaf.grad) for part, leaf in zip(output, leaves, strict=True) if part is not None]
    torch.autograd.backward([part for part, _ in made], [gradient for _, gradient in made])
    return torch.cat(losses)


def pack_losses(backbone: EncoderDecoder, output: PromptOutput, batch, runs: int) -> Tensor:
    """The loss of each run, [runs]: the mean over the label pieces (with `</s>`) of the run's rows.

    `batch` holds runs * batch rows, run by run.
    """
    embeddings = backbone.embed(batch.input_ids)
    embeddings = embeddings.view(runs, -1, *embeddings.shape[1:])
    mask = batch.attention_mask.view(runs, -1, batch.attention_mask.shape[-1])
    embeddings, mask = combine(output, embeddings, mask)
    losses = backbone.token_losses(embeddings, mask, batch.target_ids).view(runs, -1)
    pieces = (batch.target_ids != -100).view(runs, -1).sum(1)
    return losses.sum(1) / pieces


def _keep_best(results: list[RunResult], prompts: PromptPack, scores: np.ndarray, step: int) -> None:
    for index, (result, score) in enumerate(zip(results, scores, strict=True)):
        if result.status == "diverged":
            continue
        result.validation_curve.append((step, float(score)))
        result.diagnostics.append({"step": step, **prompts.diagnostics(index)})
        if score > result.best_score:
            result.best_score, result.best_step = float(score), step
            result.best_tensors = {name: tensor.clone() for name, tensor in prompts.tensors(index).items()}
