"""Right and wrong answers drawn from a model whose true accuracy is known."""

import numpy as np

from ept.results.intervals import RESAMPLES, Sample


def draw_right(generator, runs, seeds, rows, mean, seed_spread, row_spread):
    """[runs, seeds, rows] of 0 and 1: log odds are `mean` plus a normal effect of the seed and one of the row."""
    odds = mean + seed_spread * generator.normal(size=(runs, seeds, 1))
    odds = odds + row_spread * generator.normal(size=(runs, 1, rows))
    return generator.random(odds.shape) < 1 / (1 + np.exp(-odds))


def true_accuracy(mean, seed_spread, row_spread):
    """In percent, over all seeds and rows that there could be."""
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    shares = 1 / (1 + np.exp(-(mean + np.hypot(seed_spread, row_spread) * points)))
    return 100 * float((weights * shares).sum() / weights.sum())


def samples_of(right, share=True):
    """The sample that `resample` would give of each run's accuracy (tests compare one with it), all at once."""
    runs, seeds, rows = right.shape
    generator = np.random.default_rng(0)
    drawn = [np.bincount(generator.integers(rows, size=rows), minlength=rows) for _ in range(RESAMPLES)]
    values = 100 * right.reshape(-1, rows).astype(float)
    resampled = (np.array(drawn) @ values.T / rows).reshape(RESAMPLES, runs, seeds)
    scores = values.mean(1).reshape(runs, seeds)
    smoothed = (scores.mean(1) / 100 * rows + 0.5) / (rows + 1)
    least = 1e4 * smoothed * (1 - smoothed) / (rows + 1) * share
    return [Sample(scores[run], resampled[:, run], rows, least[run]) for run in range(runs)]
