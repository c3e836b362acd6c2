"""95 % intervals and tests over seeds and test examples. Why these and how well they cover: docs/statistics.md."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ept.evaluation import metrics
from ept.results.records import PackResult
from ept.tasks.registry import get_task

RESAMPLES = 400


@dataclass(frozen=True)
class Sample:
    """A metric of the runs that one row reports on one task, in percent.

    `scores` [seeds] are those on the whole test split, `resampled` [resamples, seeds] those on bootstrap samples of its
    `units` (single rows, or groups of rows that are judged together). Samples of one test split were drawn alike, so
    that their difference is the sample of a paired comparison. The variance of a seed's score over examples is taken
    as at least `least_variance`.
    """

    scores: np.ndarray
    resampled: np.ndarray
    units: int
    least_variance: float = 0.0

    def __sub__(self, other: "Sample") -> "Sample":
        return Sample(self.scores - other.scores, self.resampled - other.resampled, self.units)

    @property
    def seed_variance(self) -> float:
        """Of the mean, from what differs between seeds, on the same examples; 0 with one seed (unknown)."""
        seeds = len(self.scores)
        return float(self.scores.var(ddof=1)) / seeds if seeds > 1 else 0.0

    @property
    def example_variance(self) -> float:
        """Of the mean, from what all seeds have in common on the test examples drawn.

        The covariance over bootstrap samples between two seeds; what differs between seeds on an example is in
        `seed_variance` already. With one seed it is the variance.
        """
        covariance = np.atleast_2d(np.cov(self.resampled, rowvar=False))
        own, seeds = float(np.trace(covariance)), len(covariance)
        shared = own if seeds == 1 else (float(covariance.sum()) - own) / (seeds * (seeds - 1))
        return max(shared, 0.0) + max(self.least_variance - own / seeds, 0.0)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds (and tasks), its standard deviation over seeds (NaN with one), its standard error, and the
    degrees of freedom of its t distribution.
    """

    mean: float
    std: float
    error: float
    freedom: float

    @property
    def half_width(self) -> float:
        """Of the 95 % interval around the mean."""
        return float(stats.t.ppf(0.975, self.freedom)) * self.error

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the 95 % interval."""
        return self.mean - self.half_width, self.mean + self.half_width

    @property
    def p(self) -> float:
        """Two-sided p value of the hypothesis that the mean is 0."""
        if self.error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.freedom))


def resample(
    score: Callable[[int, np.ndarray], float],
    seeds: int,
    clusters: Sequence[np.ndarray],
    share: bool = False,
    random_seed: int = 0,
) -> Sample:
    """The sample of a score that depends on the seed and on the test examples.

    `score(seed_index, rows)` is the metric of one seed's predictions on the given rows (with repeats) in percent,
    `clusters` the rows that are resampled together. A `share` is a percentage of clusters; its variance is taken as at
    least that with half a right and half a wrong cluster more (Jeffreys' prior): a few clusters that are all right do
    not show that every one would be.
    """
    generator = np.random.default_rng(random_seed)
    everything, units = np.concatenate(clusters), len(clusters)
    resampled = np.empty((RESAMPLES, seeds))
    for number in range(RESAMPLES):
        drawn = generator.integers(units, size=units)
        alone = len(everything) == units
        rows = everything[drawn] if alone else np.concatenate([clusters[index] for index in drawn])
        resampled[number] = [score(seed, rows) for seed in range(seeds)]
    scores = np.array([score(seed, everything) for seed in range(seeds)])
    right = (scores.mean() / 100 * units + 0.5) / (units + 1)
    return Sample(scores, resampled, units, 100**2 * right * (1 - right) / (units + 1) if share else 0.0)


def estimate(samples: Sequence[Sample]) -> Estimate:
    """The estimate of the mean over the samples' tasks, whose errors are taken as independent.

    Standard error: the seeds' and the examples' variances of all tasks, added. Degrees of freedom: those of either part
    by Satterthwaite, weighted by the share of the variance that it has.
    """
    by_seed = np.mean([sample.scores for sample in samples], 0)
    seeds, tasks = len(by_seed), len(samples)
    parts = [
        (np.array([sample.seed_variance for sample in samples]), np.full(tasks, seeds - 1)),
        (np.array([sample.example_variance for sample in samples]), np.array([max(s.units - 1, 1) for s in samples])),
    ]
    variance = sum(float(values.sum()) for values, _ in parts)
    # 1 / freedom = sum of share / freedom of the part, with freedom of the part = total² / sum(value² / freedom).
    inverse = sum(
        float((values**2 / freedom).sum() / values.sum()) / variance for values, freedom in parts if values.sum() > 0
    )
    return Estimate(
        mean=float(by_seed.mean()),
        std=float(by_seed.std(ddof=1)) if seeds > 1 else float("nan"),
        error=variance**0.5 / tasks,
        freedom=1 / inverse if inverse else float("inf"),
    )


# A difference with a smaller corrected p value is taken as real.
LEVEL = 0.05


def paired_difference(first: Sequence[Sample], second: Sequence[Sample]) -> Estimate:
    """First minus second in the mean over tasks, paired by task, seed and test example; `.p` is the test's."""
    return estimate([a - b for a, b in zip(first, second, strict=True)])


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's (1979) corrected p values [tests]: the chance of any false positive among all tests stays at the level."""
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty_like(p_values)
    corrected[order] = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    return np.minimum(corrected, 1.0)


def mark_not_separated(rows: list[dict]) -> None:
    """Set `not_separated` in every row: whether a paired test does not tell it from the best of its column.

    A column is a task and a metric; every other training's `samples` are compared with those of the row with the best
    mean, with Holm's correction within the column. Rows of the same `trainings` (EPT and N = 4) are one test.
    """
    columns: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        columns.setdefault((row["task"], row["metric"]), []).append(row)
    for column in columns.values():
        trainings = {row["trainings"]: row for row in column}
        best = max(trainings.values(), key=lambda row: row["mean"])
        others = {name: row for name, row in trainings.items() if row is not best}
        corrected = holm([paired_difference(best["samples"], row["samples"]).p for row in others.values()])
        not_separated = dict(zip(others, corrected >= LEVEL, strict=True))
        for row in column:
            row["not_separated"] = bool(not_separated.get(row["trainings"], False))


# The averages that papers print, over the first metric of each task: suites by name, None for all tasks.
AVERAGES = {"average_glue": "glue", "average_super_glue": "super_glue", "average": None}


def group(results: list[PackResult]) -> list[list[PackResult]]:
    """The packs of one regime, method, variant and start together, in their order: the tasks of a row for readers."""
    found: dict[tuple, list[PackResult]] = {}
    for result in results:
        pack = result.pack
        found.setdefault((pack.regime, pack.method, pack.variant.name, result.start), []).append(result)
    return list(found.values())


def metric_sample(result: PackResult, metric: str) -> Sample:
    """The sample of one metric of a pack."""
    predictions = list(result.predictions.values())
    return resample(
        metrics.scorer(metric, predictions, result.truth, get_task(result.pack.task)),
        len(predictions),
        metrics.clusters(result.truth),
        share=metric in metrics.SHARES,
    )


def averaged_tasks(tasks: Iterable[str]) -> dict[str, list[str]]:
    """The tasks behind each average; an average without tasks is left out."""
    tasks = list(tasks)
    found = {
        name: [task for task in tasks if suite in (None, get_task(task).suite)] for name, suite in AVERAGES.items()
    }
    return {name: members for name, members in found.items() if members}
