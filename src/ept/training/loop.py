"""The training loop of a pack: one forward and backward for all runs, everything else run by run."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

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
from ept.training.step import ForwardSize, Piece, StepInput, StepInputs, accumulate_gradients

# Steps between looks at which runs have diverged: each look makes a GPU wait for the host.
LOOK_EVERY = 10
# Keeps the random numbers of dropout apart from all others.
_DROPOUT = 0x64726F706F7574

Validate = Callable[[list[int]], np.ndarray]
"""The validation scores [alive] of the runs with these numbers, as their prompts stand now."""


class Passes(Protocol):
    """The input of one step as the loop sees it: `pieces` go through the backbone one by one."""

    @property
    def pieces(self) -> Sequence[Piece]:
        """Rows that go through the backbone together."""

    @property
    def positions(self) -> int:
        """Positions of the longest row, prompt and text."""

    @property
    def examples(self) -> int:
        """Rows of all runs."""


Input = TypeVar("Input", bound=Passes)


class Objective(Protocol[Input]):
    """What the runs of a pack minimize: the inputs of every step and the gradients that they give."""

    def take(self, step: int, alive: list[int], size: ForwardSize) -> Input:
        """The input of a step (counted from 0) for the living runs."""

    def accumulate(self, alive: list[int], found: Input) -> Tensor:
        """Add the gradients of one step to the pack's parameters and return the loss of each living run, [alive]."""

    def close(self) -> None:
        """Release what is open; no step follows."""


@dataclass(frozen=True)
class LabelLoss:
    """Cross-entropy of the labels: the mean over the label pieces of a run's batch.

    `dropout` is the probability inside the backbone's blocks. Its masks depend on `seed` and the step alone, so a
    resumed training draws those of an undisturbed one.
    """

    backbone: Backbone
    prompts: MethodModule
    inputs: StepInputs
    dropout: float = 0.0
    seed: int = 0

    def take(self, step: int, alive: list[int], size: ForwardSize) -> StepInput:
        """The input of a step (counted from 0) for the living runs."""
        return self.inputs.take(step, alive, size)

    def accumulate(self, alive: list[int], found: StepInput) -> Tensor:
        """Add the gradients of one step to the pack's parameters and return the loss of each living run, [alive]."""
        with self._dropout(found.step):
            return accumulate_gradients(self.backbone, self.prompts, alive, found.pieces, found.label_pieces)

    def close(self) -> None:
        """End the thread that prepares batches."""
        self.inputs.close()

    @contextlib.contextmanager
    def _dropout(self, step: int) -> Iterator[None]:
        """Dropout inside the backbone's blocks, which are without it again afterwards."""
        if not self.dropout:
            yield
            return
        state = np.random.SeedSequence((_DROPOUT, self.seed, step)).generate_state(1, np.uint64)
        devices = [self.backbone.device] if self.backbone.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(int(state[0]))
            self.backbone.set_dropout(self.dropout)
            try:
                yield
            finally:
                self.backbone.set_dropout(0.0)


def label_loss(
    backbone: Backbone,
    prompts: MethodModule,
    runs: list[Run],
    train: TokenizedSplit,
    rows: np.ndarray,
    batch_size: int,
    dropout: float = 0.0,
) -> LabelLoss:
    """The loss on labels, with the order of each run's batches.

    Args:
        backbone: The frozen backbone.
        prompts: The pack of runs.
        runs: Their seeds, from which the order of batches follows.
        train: The training split.
        rows: [runs, rows], each run's training examples.
        batch_size: Examples that a run sees in one step.
        dropout: Probability inside the backbone's blocks; only for methods that train one run at a time.
    """
    order = BatchOrder(train.lengths, rows, [run.seed for run in runs], batch_size)
    with torch.no_grad():
        inputs = StepInputs(train, order, prompt_length=prompts().prompt.shape[1])
    return LabelLoss(backbone, prompts, inputs, dropout, runs[0].seed)


def train_runs(
    prompts: MethodModule,
    runs: list[Run],
    objective: Objective[Input],
    steps: int,
    settings: TrainingSettings,
    size: ForwardSize,
    validate: Validate,
    progress: Progress,
    checkpoint: Checkpoint | None = None,
) -> tuple[list[RunResult], float]:
    """Train all runs of a pack.

    The pack's loss is the sum over runs, so the gradients are those of separate runs. A run whose loss is not finite is
    `diverged`: it stops, and the others continue.

    Args:
        prompts: The pack of runs at its start; afterwards as it stands after the last step.
        runs: Seed and learning rates of each run.
        objective: What is minimized. It is closed at the end.
        steps: Optimizer steps.
        settings: The schedule, validation and early stopping.
        size: How much goes through the backbone at once.
        validate: Scores the runs; the best score gives the checkpoint that is reported.
        progress: Where progress is shown.
        checkpoint: Where the state is kept. If it was written before, training resumes from it and ends bit for bit as
            if it had never stopped.

    Returns:
        The result of each run, and the seconds spent in optimizer steps (without validation).

    Raises:
        Interrupted: The process was asked to stop and has written its checkpoint.
    """
    try:
        with checkpoint.stop.deferred() if checkpoint else contextlib.nullcontext():
            state = _begin(prompts, runs, settings, size, validate, progress, checkpoint)
            while state.step < steps and state.alive:
                started = time.perf_counter()
                examples = _step(state, objective, linear_schedule(state.step, settings.warmup_steps, steps))
                validates = state.step % settings.evaluate_every == 0 or state.step == steps
                if validates or state.step % LOOK_EVERY == 0:
                    _look(state)
                state.seconds += time.perf_counter() - started
                if validates:
                    _validate(state, runs, validate, progress)
                    stop_runs(runs, state.results, state.step, steps, settings)
                progress.step(state.step, examples, len(state.alive), len(runs))
                if checkpoint is not None:
                    checkpoint.after_step(state, last=state.step == steps or not state.alive)
    finally:
        objective.close()
        progress.close()
    return state.results, state.seconds


def _begin(
    prompts: MethodModule,
    runs: list[Run],
    settings: TrainingSettings,
    size: ForwardSize,
    validate: Validate,
    progress: Progress,
    checkpoint: Checkpoint | None,
) -> TrainingState:
    groups = prompts.parameter_groups()
    device = next(prompts.parameters()).device
    rates = {name: torch.tensor([run.learning_rates[name] for run in runs], device=device) for name in groups}
    optimizer = PackedAdam(groups, rates, settings.clip_norm, prompts.packed)
    state = TrainingState(prompts, optimizer, [RunResult() for _ in runs], size)
    if checkpoint is not None and checkpoint.read_into(state):
        progress.validated(_best_score(state))
        return state
    if settings.include_start:
        _validate(state, runs, validate, progress)
    else:
        for run, result in enumerate(state.results):
            _watch(prompts, run, result, 0)
    if checkpoint is not None:
        # The forward size is chosen once: a resumed training must cut its batches as before.
        checkpoint.write(state)
    return state


def _step(state: TrainingState, objective: Objective[Input], factor: float) -> int:
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


def _gradients(state: TrainingState, objective: Objective[Input]) -> tuple[Tensor, int]:
    """The losses [alive] and examples of a step. Out of memory halves the forward size from here on."""
    while True:
        found = objective.take(state.step, state.alive, state.size)
        try:
            return objective.accumulate(state.alive, found), found.examples
        except RuntimeError as error:
            largest = max(len(piece.batch.input_ids) for piece in found.pieces)
            if not is_out_of_memory(error) or largest == 1:
                raise
        # Outside of the handler, which would keep the failed pass in memory.
        state.prompts.zero_grad(set_to_none=True)
        state.size = state.size.halved(largest, found.positions)


def _look(state: TrainingState) -> None:
    """Record how far each living run came and which have diverged."""
    for run in state.alive:
        result = state.results[run]
        result.steps = int(state.healthy_steps[run])
        finite = all(bool(tensor.isfinite().all()) for tensor in state.prompts.tensors(run).values())
        if not (state.healthy[run] and finite):
            result.status = DIVERGED


def _validate(state: TrainingState, runs: list[Run], validate: Validate, progress: Progress) -> None:
    if not (alive := state.alive):
        return
    for run, score in zip(alive, validate(alive), strict=True):
        result = state.results[run]
        result.validation_curve.append((state.step, float(score)))
        _watch(state.prompts, run, result, state.step)
        if np.isnan(score):
            progress.note(f"step {state.step}: the validation score of seed {runs[run].seed} is not a number")
        if score > result.best_score:
            result.best_score, result.best_step = float(score), state.step
            result.best_tensors = {name: tensor.clone() for name, tensor in state.prompts.tensors(run).items()}
    progress.validated(_best_score(state))


def _best_score(state: TrainingState) -> float:
    """The best validation score over all runs, minus infinity without one."""
    return max(result.best_score for result in state.results)


def _watch(prompts: MethodModule, run: int, result: RunResult, step: int) -> None:
    if found := prompts.diagnostics(run):
        result.diagnostics.append({"step": step, **found})
