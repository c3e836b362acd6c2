"""What a run is and what it leaves."""

import math
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from ept.config.settings import TrainingSettings
from ept.plan.pack import DIVERGED as DIVERGED
from ept.plan.pack import FINISHED as FINISHED
from ept.plan.pack import HALVED as HALVED
from ept.plan.pack import STOPPED_EARLY as STOPPED_EARLY


@dataclass(frozen=True)
class Run:
    """One training: its seed and the learning rate of each parameter group."""

    seed: int
    learning_rates: dict[str, float]


@dataclass
class RunResult:
    """What a run leaves: its best checkpoint and how it got there.

    `status`: finished (also while it still runs), diverged, stopped early (patience) or halved (successive halving).
    `validation_curve` holds (step, score), `diagnostics` what the method watches, from step 0 on.
    """

    best_step: int = 0
    best_score: float = float("-inf")
    best_tensors: dict[str, Tensor] = field(default_factory=dict)
    validation_curve: list[tuple[int, float]] = field(default_factory=list)
    diagnostics: list[dict] = field(default_factory=list)
    status: str = FINISHED
    steps: int = 0

    @property
    def alive(self) -> bool:
        """Whether the run still trains or has trained to its end."""
        return self.status == FINISHED


def stop_runs(runs: list[Run], results: list[RunResult], step: int, steps: int, settings: TrainingSettings) -> None:
    """After the validation at `step`: mark the runs that end here. Runs that have ended give their rows back."""
    if step == steps:
        return
    if settings.patience:
        for result in results:
            if result.alive and validations_since_best(result) >= settings.patience:
                result.status = STOPPED_EARLY
    for rung in halving_steps(steps, settings):
        if rung == step:
            halve(runs, results)


def validations_since_best(result: RunResult) -> int:
    """How many validations in a row have brought no better score."""
    return sum(step > result.best_step for step, _ in result.validation_curve)


def halving_steps(steps: int, settings: TrainingSettings) -> list[int]:
    """After which steps half of the grid is dropped: 1/2, 1/4, ... of all steps, as many as `halving` says.

    [known: successive halving, Jamieson & Talwalkar 2016, with a factor of 2] Moved up to the next validation.
    """
    every = settings.evaluate_every
    rungs = {math.ceil(steps / 2**rung / every) * every for rung in range(1, settings.halving + 1)}
    return sorted(rung for rung in rungs if rung < steps)


def halve(runs: list[Run], results: list[RunResult]) -> None:
    """Drop the worse half of the learning-rate combinations, by the mean of their best scores over seeds.

    A combination stays or goes with all of its seeds. One that is alive with any seed is ranked; a diverged seed counts
    as the worst score there is.
    """
    combinations: dict[tuple, list[RunResult]] = {}
    for run, result in zip(runs, results, strict=True):
        combinations.setdefault(tuple(run.learning_rates.items()), []).append(result)
    living = [members for members in combinations.values() if any(result.alive for result in members)]
    ranked = sorted(living, key=_mean_score, reverse=True)
    for members in ranked[math.ceil(len(ranked) / 2) :]:
        for result in members:
            if result.alive:
                result.status = HALVED


def choose_rates(runs: list[Run], results: list[RunResult], majority: float) -> dict[str, float]:
    """The learning rates with the best mean validation score over seeds; of equal ones not those that halving dropped.

    Args:
        runs: Every combination of learning rates with every seed.
        results: Their results.
        majority: The validation score that a diverged run counts as.
    """
    scores: dict[tuple[tuple[str, float], ...], list[float]] = {}
    dropped: set[tuple[tuple[str, float], ...]] = set()
    for run, result in zip(runs, results, strict=True):
        counted = majority if result.status == DIVERGED else result.best_score
        rates = tuple(run.learning_rates.items())
        scores.setdefault(rates, []).append(counted)
        if result.status == HALVED:
            dropped.add(rates)
    best = max(scores, key=lambda each: (float(np.mean(scores[each])), each not in dropped))
    return dict(best)


def _mean_score(members: list[RunResult]) -> float:
    return float(
        np.mean(
            [result.best_score if result.alive or result.status == STOPPED_EARLY else -np.inf for result in members]
        )
    )
