"""95 % intervals and tests over seeds and test examples. Why these, and how well they hold: docs/statistics.md."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ept.evaluation import metrics
from ept.results.records import PackResult
from ept.tasks.plugins import METRIC
from ept.tasks.record import Task
from ept.tasks.registry import TASKS, suite_of, task_sets

RESAMPLES = 400
# A difference with a smaller corrected p value counts as real.
LEVEL = 0.05
# With fewer seeds in common two methods are not tested: what differs between seeds cannot be estimated.
LEAST_SEEDS = 3
# Printed instead of a p value that is too small for a float: no test proves a difference for certain.
SMALLEST_P = 1e-300
# The ends of what a metric can be in percent where they are not 0 and 100.
RANGES = {
    "matthews": (-100.0, 100.0),
    "pearson": (-100.0, 100.0),
    "spearman": (-100.0, 100.0),
    "cider": (0.0, 1000.0),
}


@dataclass(frozen=True)
class Sample:
    """A metric of the runs that one row reports on one task, in percent; or the difference of two such samples.

    Samples of one test split are resampled alike, which makes the difference of two samples a paired one.
    """

    scores: np.ndarray
    """[seeds], on the whole test split."""
    resampled: np.ndarray
    """[resamples, seeds], on bootstrap samples of the test examples."""
    units: int
    """The number of examples, or of groups of rows that are resampled together."""
    seeds: tuple[int, ...] = ()
    """The seed of each score. Empty: 0, 1, ..."""
    share: bool = False
    """Whether the score is a percentage of right examples."""
    lowest: float = 0.0
    """The lowest score, or the smallest difference, that there can be."""
    highest: float = 100.0
    """The highest score, or the largest difference."""
    difference: bool = False
    """Whether this is the difference of two samples."""

    def __post_init__(self) -> None:
        if not self.seeds:
            object.__setattr__(self, "seeds", tuple(range(len(self.scores))))

    def __sub__(self, other: "Sample") -> "Sample":
        """The difference on the seeds that both have. Raises ValueError where they have none in common."""
        shared = [seed for seed in self.seeds if seed in other.seeds]
        if not shared:
            raise ValueError(f"the seeds {self.seeds} and {other.seeds} have none in common")
        mine, theirs = ([sample.seeds.index(seed) for seed in shared] for sample in (self, other))
        return Sample(
            scores=self.scores[mine] - other.scores[theirs],
            resampled=self.resampled[:, mine] - other.resampled[:, theirs],
            units=self.units,
            seeds=tuple(shared),
            share=self.share,
            lowest=self.lowest - other.highest,
            highest=self.highest - other.lowest,
            difference=True,
        )

    @property
    def covariance(self) -> np.ndarray:
        """[seeds, seeds] over the bootstrap samples."""
        return np.atleast_2d(np.cov(self.resampled, rowvar=False))


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds (and tasks) with its uncertainty."""

    mean: float
    std: float
    """The standard deviation over seeds; NaN with one seed."""
    error: float
    """The standard error of the mean."""
    freedom: float
    """The degrees of freedom of its t distribution."""
    seeds: int = 1
    lowest: float = -np.inf
    highest: float = np.inf
    """The ends of the range that the mean can lie in."""

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % interval around the mean, before it is cut to the range of the score."""
        return float(stats.t.ppf(0.975, self.freedom)) * self.error

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the 95 % interval; they stay within the range of the score."""
        return max(self.mean - self.half_width, self.lowest), min(self.mean + self.half_width, self.highest)

    @property
    def p(self) -> float:
        """The two-sided p value of the hypothesis that the mean is 0; never 0."""
        return float(p_values(np.asarray(self.mean), np.asarray(self.error), np.asarray(self.freedom)))


def resample(
    score: Callable[[int, np.ndarray], float],
    seeds: Sequence[int],
    clusters: Sequence[np.ndarray],
    share: bool = False,
    lowest: float = 0.0,
    highest: float = 100.0,
    random_seed: int = 0,
) -> Sample:
    """Draw bootstrap samples of the test examples and score every seed on each.

    Args:
        score: `score(seed_index, rows)` is the metric of one seed's predictions on the given rows (with repeats), in
            percent.
        seeds: The seed of each run.
        clusters: The rows that are resampled together.
        share: Whether the score is a percentage of right examples.
        lowest: The lowest score that there can be.
        highest: The highest.
        random_seed: Determines the samples; samples with the same one and as many clusters are paired.

    Returns:
        The scores on all rows and on the bootstrap samples.
    """
    generator = np.random.default_rng(random_seed)
    everything, units = np.concatenate(clusters), len(clusters)
    places = range(len(seeds))
    resampled = np.empty((RESAMPLES, len(seeds)))
    for number in range(RESAMPLES):
        drawn = generator.integers(units, size=units)
        alone = len(everything) == units
        rows = everything[drawn] if alone else np.concatenate([clusters[index] for index in drawn])
        resampled[number] = [score(place, rows) for place in places]
    scores = np.array([score(place, everything) for place in places])
    return Sample(scores, resampled, units, tuple(seeds), share, lowest, highest)


def estimate(samples: Sequence[Sample], examples_alone: bool = False) -> Estimate:
    """Estimate the mean over seeds and tasks.

    Args:
        samples: One a task, all scores or all differences, with the same seeds.
        examples_alone: Whether only the test examples count as drawn at random: the claim is then about these trained
            prompts and not about the method.

    Returns:
        The estimate, whose `interval` and `p` allow for seeds and examples (or for examples alone).
    """
    by_seed = np.mean([sample.scores for sample in samples], 0)
    seeds = len(by_seed)
    mean, error, freedom = estimates(
        np.stack([sample.scores for sample in samples]),
        np.stack([sample.covariance for sample in samples]),
        np.array([sample.units for sample in samples]),
        share=np.array([sample.share for sample in samples]),
        difference=samples[0].difference,
        examples_alone=examples_alone,
    )
    return Estimate(
        mean=float(mean),
        std=float(by_seed.std(ddof=1)) if seeds > 1 else float("nan"),
        error=float(error),
        freedom=float(freedom),
        seeds=seeds,
        lowest=float(np.mean([sample.lowest for sample in samples])),
        highest=float(np.mean([sample.highest for sample in samples])),
    )


def paired_difference(first: Sequence[Sample], second: Sequence[Sample], examples_alone: bool = False) -> Estimate:
    """First minus second in the mean over tasks, paired by task, seed and test example; `.p` is the test's.

    The seeds that both have are compared.
    """
    return estimate([a - b for a, b in zip(first, second, strict=True)], examples_alone)


def estimates(
    scores: np.ndarray,
    covariance: np.ndarray,
    units: np.ndarray,
    share: np.ndarray,
    difference: bool,
    examples_alone: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean, its standard error and its degrees of freedom, of any number of rows at once.

    The variance of the mean is that of its seeds and that of the test examples. The variance of a seed's score over
    examples that seeds do not share is part of what differs between seeds. In a difference of two methods the seeds'
    part is therefore at least this, however little the seeds' scores happen to differ, and has S - 1 degrees of
    freedom; in an average over tasks it is at least what the seeds' averages show (a seed may err alike on all tasks).

    Args:
        scores: [..., tasks, seeds] in percent.
        covariance: [..., tasks, seeds, seeds] of the scores over bootstrap samples of the examples.
        units: [tasks], how many examples (or groups of rows) were resampled.
        share: [tasks], whether the score is a percentage of right examples.
        difference: Whether scores are differences of two methods.
        examples_alone: Whether only the examples count as drawn at random.

    Returns:
        mean, error, freedom: [...] each.
    """
    tasks, seeds = scores.shape[-2:]
    own = np.trace(covariance, axis1=-2, axis2=-1) / seeds
    least = _least_variance(scores.mean(-1), units, difference)
    # F1 of answers that are all right is the same on every resample, but no more certain than their accuracy.
    at_an_end = (scores.mean(-1) <= 0) | (scores.mean(-1) >= 100)
    floored = share | ((own == 0) & (difference | at_an_end))
    missing = np.where(floored, np.maximum(least - own, 0), 0)
    of_examples = np.maximum(units - 1, 1)
    if examples_alone or seeds == 1:
        variances = covariance.sum((-2, -1)) / seeds**2 + missing
        parts = [(variances.sum(-1), _share_over_freedom(variances, of_examples))]
    else:
        shared = np.maximum((covariance.sum((-2, -1)) / seeds - own) / (seeds - 1), 0)
        by_seed = scores.var(-1, ddof=1) / seeds
        if difference:
            by_seed = np.maximum(by_seed, (own - shared) / seeds)
        together = scores.mean(-2).var(-1, ddof=1) / seeds * tasks**2
        seed_part = np.maximum(by_seed.sum(-1), together)
        apart = _share_over_freedom(by_seed, np.full(tasks, seeds - 1))
        alone = seed_part / (seeds - 1)
        example_part = shared + missing
        parts = [
            (seed_part, alone if difference else np.where(together > by_seed.sum(-1), alone, apart)),
            (example_part.sum(-1), _share_over_freedom(example_part, of_examples)),
        ]
    variance = sum(part for part, _ in parts)
    # 1 / freedom is the mean of the parts' 1 / freedom, weighted by the share of the variance that each part has.
    inverse = np.divide(sum(over for _, over in parts), variance, out=np.zeros_like(variance), where=variance > 0)
    freedom = np.divide(1.0, inverse, out=np.full_like(inverse, np.inf), where=inverse > 0)
    return scores.mean((-2, -1)), np.sqrt(variance) / tasks, freedom


def _least_variance(mean: np.ndarray, units: np.ndarray, difference: bool) -> np.ndarray:
    """The variance over examples of a share with half a right and half a wrong example more (Jeffreys' prior).

    Few examples that are all right do not show that every example would be. A difference of d has at least d examples
    that one method alone has right; half an example more on either side.
    """
    if difference:
        more, less = (np.abs(mean) / 100 * units + 0.5) / (units + 1), 0.5 / (units + 1)
        return 100**2 * (more + less - (more - less) ** 2) / (units + 1)
    right = (np.clip(mean, 0, 100) / 100 * units + 0.5) / (units + 1)
    return 100**2 * right * (1 - right) / (units + 1)


def _share_over_freedom(variances: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """The sum of variances over its degrees of freedom by Satterthwaite, sum² / sum(variance² / freedom)."""
    total = variances.sum(-1)
    squares = (variances**2 / freedom).sum(-1)
    return np.divide(squares, total, out=np.zeros_like(total), where=total > 0)


def p_values(mean: np.ndarray, error: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Two-sided p values of the hypothesis that the mean is 0. Where nothing varies: 1, or the smallest there is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(mean == 0, 0.0, np.abs(mean) / error)
    return np.maximum(2 * stats.t.sf(t, freedom), SMALLEST_P)


def holm(p: Sequence[float], tests: int | None = None) -> np.ndarray:
    """Holm's (1979) corrected p values: the chance of any false positive among all tests stays at the level.

    Args:
        p: [tests]; one that was not made (NaN) is not counted and stays NaN.
        tests: How many tests could have been made, where these were selected by their results.

    Returns:
        [tests], at most 1.
    """
    given = np.asarray(p, dtype=float)
    made = np.flatnonzero(~np.isnan(given))
    order = made[np.argsort(given[made], kind="stable")]
    corrected = np.full_like(given, np.nan)
    corrected[order] = np.maximum.accumulate(given[order] * ((tests or len(order)) - np.arange(len(order))))
    return np.minimum(corrected, 1.0)


def tested_p(difference: Estimate) -> float:
    """The p value that a correction takes; NaN below `LEAST_SEEDS` seeds."""
    return difference.p if difference.seeds >= LEAST_SEEDS else float("nan")


def mark_not_separated(rows: list[dict]) -> None:
    """Set `not_separated` in every row: whether a paired test does not tell it from the best of its column.

    A column is a task and a metric. Every other training is compared with the row of the best mean. Since that one was
    chosen by looking at the results, Holm's correction counts every pair of trainings in the column. Rows of the same
    `trainings` (EPT and N = 4) are one training. Rows that have fewer than `LEAST_SEEDS` seeds in common with the best
    are not tested and not marked.
    """
    columns: dict[tuple[str, str], dict[tuple, dict]] = {}
    for row in rows:
        columns.setdefault((row["task"], row["metric"]), {}).setdefault(row["trainings"], row)
    not_separated = set()
    for column, trainings in columns.items():
        best = max(trainings.values(), key=lambda row: row["mean"])
        others = {name: row for name, row in trainings.items() if row is not best}
        p = [tested_p(paired_difference(best["samples"], row["samples"])) for row in others.values()]
        corrected = holm(p, tests=math.comb(len(trainings), 2))
        not_separated |= {(column, name) for name, each in zip(others, corrected, strict=True) if each >= LEVEL}
    for row in rows:
        row["not_separated"] = ((row["task"], row["metric"]), row["trainings"]) in not_separated


# The average over the first metrics of all tasks; that of a suite has the suite's name behind it.
AVERAGE = "average"
# Names of suites in tables where they differ from those in configurations.
_IN_TABLES = {"superglue": "super_glue"}


def average_of(suite: str) -> str:
    """The name of a suite's average in tables: average_glue."""
    return f"{AVERAGE}_{_IN_TABLES.get(suite, suite)}"


def group(results: list[PackResult]) -> list[list[PackResult]]:
    """The packs of one regime, method, variant and start together, in their order: the tasks of a row for readers."""
    found: dict[tuple, list[PackResult]] = {}
    for result in results:
        pack = result.pack
        found.setdefault((pack.regime, pack.method, pack.variant.name, result.start), []).append(result)
    return list(found.values())


def metric_sample(result: PackResult, metric: str) -> Sample:
    """The sample of one metric of a pack."""
    return sample_predictions(metric, result.predictions, result.truth, result.pack.record)


def sample_predictions(metric: str, by_seed: Mapping[int, np.ndarray], truth: metrics.References, task: Task) -> Sample:
    """The sample of one metric of test predictions, which stand under the seeds of their runs."""
    return resample(
        metrics.scorer(metric, list(by_seed.values()), truth, task),
        list(by_seed),
        metrics.clusters(truth),
        metric in metrics.SHARES,
        *score_range(metric),
    )


def score_range(metric: str) -> tuple[float, float]:
    """The lowest and the highest value of a metric in percent; those of the library `evaluate` lie between -1 and 1."""
    return (-100.0, 100.0) if metric.startswith(METRIC) else RANGES.get(metric, (0.0, 100.0))


def not_averaged(tasks: Iterable[str]) -> list[str]:
    """The tasks that averages leave out: their first metric exceeds 100 (CIDEr), while that of others does not."""
    tasks = list(tasks)
    beyond = [task for task in tasks if task in TASKS and score_range(TASKS[task].metrics[0])[1] > 100]
    return beyond if len(beyond) < len(tasks) else []


def averaged_tasks(tasks: Iterable[str]) -> dict[str, list[str]]:
    """The tasks behind each average: that of each suite which has some of the tasks, then that of all.

    Those of `not_averaged` are in none.
    """
    tasks = list(tasks)
    left_out = not_averaged(tasks)
    tasks = [task for task in tasks if task not in left_out]
    found = {average_of(suite): [task for task in tasks if suite_of(task) == suite] for suite in task_sets()}
    return {name: members for name, members in (found | {AVERAGE: tasks}).items() if members}


def distinct_averages(tasks: Iterable[str]) -> dict[str, list[str]]:
    """The averages over several tasks, without that of a suite which has all tasks: none repeats another column."""
    found = averaged_tasks(tasks)
    return {
        name: members
        for name, members in found.items()
        if len(members) > 1 and (name == AVERAGE or len(members) < len(found[AVERAGE]))
    }
