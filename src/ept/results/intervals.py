"""95 % intervals over seeds and test examples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 400


@dataclass(frozen=True)
class Estimate:
    """Mean and standard deviation over seeds, and the half-width of the 95 % interval around the mean."""

    mean: float
    std: float
    half_width: float


def estimate(
    score: Callable[[int, np.ndarray], float], seeds: int, clusters: Sequence[np.ndarray], random_seed: int = 0
) -> Estimate:
    """The estimate of a score that depends on the seed and on the test examples.

    `score(seed_index, rows)` is the metric of one seed's predictions on the given rows (with repeats), `clusters` the
    rows that are resampled together (single rows, or the answers of one question). The two parts of the variance are
    estimated apart and added: a t-interval over the seeds' scores on the whole test split, and the bootstrap variance
    over examples of the mean over seeds. With three seeds a plain hierarchical bootstrap is too narrow, because it
    resamples three values. With one seed only the examples' part is known, and `std` is NaN.
    """
    rows = np.concatenate(clusters)
    scores = np.array([score(seed, rows) for seed in range(seeds)])
    std = float(scores.std(ddof=1)) if seeds > 1 else float("nan")
    seed_part = 0.0 if seeds == 1 else float(stats.t.ppf(0.975, seeds - 1)) * std / seeds**0.5
    generator = np.random.default_rng(random_seed)
    means = []
    for _ in range(RESAMPLES):
        drawn = generator.integers(len(clusters), size=len(clusters))
        resampled = np.concatenate([clusters[index] for index in drawn])
        means.append(np.mean([score(seed, resampled) for seed in range(seeds)]))
    example_part = float(stats.norm.ppf(0.975)) * float(np.std(means, ddof=1))
    return Estimate(float(scores.mean()), std, float(np.hypot(seed_part, example_part)))


def estimate_average(estimates: Sequence[Estimate], scores: np.ndarray) -> Estimate:
    """The estimate of the mean over tasks. `scores` [tasks, seeds]; the tasks' errors are taken as independent."""
    by_seed = scores.mean(0)
    std = float(by_seed.std(ddof=1)) if scores.shape[1] > 1 else float("nan")
    half_width = float(np.sqrt(sum(part.half_width**2 for part in estimates)) / len(estimates))
    return Estimate(float(by_seed.mean()), std, half_width)
