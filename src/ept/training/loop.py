"""The training loop of a pack: one forward and backward for all runs, everything else run by run."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ept.backbones.backbone import Backbone, is_out_of_memory
from ept.config.settings import TrainingSettings
from ept.data.dataset import TokenizedSplit
from ept.data.sampling import BatchOrder
from ept.methods.base import MethodModule
from ept.training.checkpoint import Checkpoint, TrainingState
from ept.training.optimizer import PackedAdam, linear_schedule
from ept.training.progress import Progress
from ept.training.runs import DIVERGED, Run, RunResult, stop_runs
from ept.training.step import ForwardSize, StepInput, StepInputs, accumulate_gradients

# Steps between looks at which runs have diverged: each look makes a GPU wait for the host.
LOOK_EVERY = 10

Validate = Callable[[MethodModule, list[int]], np.ndarray]
"""The validation scores [alive] of the runs with these numbers."""


class Objective(Protocol):
    """What is minimized: the inputs of every step and the gradients that they give."""

    def take(self, step: int, alive: list[int], size: ForwardSize) -> StepInput:
        """The input of a step for the living runs."""

    def accumulate(self, prompts: MethodModule, alive: list[int], found: StepInput) -> Tensor:
        """Add its gradients to the prompts' parameters and return the loss of each living run, [alive]."""

    def close(self) -> None:
        """No step follows."""


@dataclass(frozen=True)
class LabelLoss:
    """The mean over the label pieces of a run's batch."""

    backbone: Backbone
    inputs: StepInputs

    def take(self, step: int, alive: list[int], size: ForwardSize) -> StepInput:
        """The input of a step for the living runs."""
        return self.inputs.take(step, alive, size)

    def accumulate(self, prompts: MethodModule, alive: list[int], found: StepInput) -> Tensor:
        """Add its gradients to the prompts' parameters and return the loss of each living run, [alive]."""
        return accumulate_gradients(self.backbone, prompts, alive, found.pieces, found.label_pieces)

    def close(self) -> None:
        """No step follows."""
        self.inputs.close()


def train_pack(
    backbone: Backbone,
    prompts: MethodModule,
    runs: list[Run],
    train: TokenizedSplit,
    rows: np.ndarray,
    steps: int,
    settings: TrainingSettings,
    size: ForwardSize,
    validate: Validate,
    progress: Progress,
    checkpoint: Checkpoint | None = None,
) -> tuple[list[RunResult], float]:
    """Train all runs on their labels, as `train_runs` does.

    `rows` [runs, rows] are each run's training examples.
    """
    order = BatchOrder(train.lengths, rows, [run.seed for run in runs], settings.batch_size)
    with torch.no_grad():
        inputs = StepInputs(train, order, prompt_length=prompts().prompt.shape[1])
    objective = LabelLoss(backbone, inputs)
    return train_runs(prompts, runs, objective, steps, settings, size, validate, progress, checkpoint)


def train_runs(
    prompts: MethodModule,
    runs: list[Run],
    objective: Objective,
    steps: int,
    settings: TrainingSettings,
    size: ForwardSize,
    validate: Validate,
    progress: Progress,
    checkpoint: Checkpoint | None = None,
) -> tuple[list[RunResult], float]:
    """Train all runs and return their results and the seconds spent in optimizer steps (without validation).

    The pack's loss is the sum over runs, so the gradients are those of separate runs. A run whose loss is not finite is
    `diverged`: it stops, the others go on. With a `checkpoint` that was written before, training goes on from there and
    ends bit for bit as if it had never stopped.
    """
    state = _begin(prompts, runs, settings, size, checkpoint)
    try:
        while state.step < steps and state.alive:
            started = time.perf_counter()
            examples = _step(state, objective, linear_schedule(state.step, settings.warmup_steps, steps))
            validates = state.step % settings.evaluate_every == 0 or state.step == steps
            if validates or state.step % LOOK_EVERY == 0:
                _look(state)
            state.seconds += time.perf_counter() - started
            if validates:
                _validate(state, validate)
                stop_runs(runs, state.results, state.step, steps, settings)
                progress.validated(max(result.best_score for result in state.results))
            progress.step(state.step, examples, len(state.alive), len(runs))
            if checkpoint is not None:
                checkpoint.after_step(state, last=state.step == steps or not state.alive)
    finally:
        objective.close()
        progress.close()
    return state.results, state.seconds


def _begin(
    prompts: MethodModule, runs: list[Run], settings: TrainingSettings, size: ForwardSize, checkpoint: Checkpoint | None
) -> TrainingState:
    groups = prompts.parameter_groups()
    device = next(prompts.parameters()).device
    rates = {name: torch.tensor([run.learning_rates[name] for run in runs], device=device) for name in groups}
    optimizer = PackedAdam(groups, rates, settings.clip_norm, prompts.packed)
    state = TrainingState(prompts, optimizer, [RunResult() for _ in runs], size)
    if checkpoint is not None and checkpoint.read_into(state):
        return state
    for run, result in enumerate(state.results):
        _watch(prompts, run, result, 0)
    if checkpoint is not None:
        # The forward size is chosen once: a training that goes on must cut its batches as before.
        checkpoint.write(state)
    return state


def _step(state: TrainingState, objective: Objective, factor: float) -> int:
    """One update of all living runs with the learning rates times `factor`; returns the number of examples."""
    alive = state.alive
    losses, examples = _gradients(state, objective)
    state.healthy[alive] &= losses.isfinite()
    updated = torch.zeros_like(state.healthy)
    updated[alive] = state.healthy[alive]
    state.optimizer.step(factor, updated)
    state.healthy_steps += updated
    state.step += 1
    return examples


def _gradients(state: TrainingState, objective: Objective) -> tuple[Tensor, int]:
    """The losses [alive] and examples of a step. Out of memory halves the forward size from here on."""
    while True:
        found = objective.take(state.step, state.alive, state.size)
        try:
            return objective.accumulate(state.prompts, state.alive, found), found.examples
        except RuntimeError as error:
            largest = max(len(piece.batch.input_ids) for piece in found.pieces)
            if not is_out_of_memory(error) or largest == 1:
                raise
        # Outside of the handler, which would keep the failed pass in memory.
        state.prompts.zero_grad(set_to_none=True)
        state.size = state.size.halved(largest, found.positions)


def _look(state: TrainingState) -> None:
    """Write down how far each living run came and which have diverged."""
    for run in state.alive:
        result = state.results[run]
        result.steps = int(state.healthy_steps[run])
        finite = all(bool(tensor.isfinite().all()) for tensor in state.prompts.tensors(run).values())
        if not (state.healthy[run] and finite):
            result.status = DIVERGED


def _validate(state: TrainingState, validate: Validate) -> None:
    if not (alive := state.alive):
        return
    for run, score in zip(alive, validate(state.prompts, alive), strict=True):
        result = state.results[run]
        result.validation_curve.append((state.step, float(score)))
        _watch(state.prompts, run, result, state.step)
        if score > result.best_score:
            result.best_score, result.best_step = float(score), state.step
            result.best_tensors = {name: tensor.clone() for name, tensor in state.prompts.tensors(run).items()}


def _watch(prompts: MethodModule, run: int, result: RunResult, step: int) -> None:
    if found := prompts.diagnostics(run):
        result.diagnostics.append({"step": step, **found})
