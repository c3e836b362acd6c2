"""Answers drawn from models whose true scores are known."""

import numpy as np

from ept.results.statistics import RESAMPLES, Sample


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
    values = 100 * right.reshape(-1, rows).astype(float)
    resampled = (_drawn(rows) @ values.T / rows).reshape(RESAMPLES, runs, seeds)
    scores = values.mean(1).reshape(runs, seeds)
    return [Sample(scores[run], resampled[:, run], rows, share=share) for run in range(runs)]


def _drawn(rows):
    """How often each row is in each bootstrap sample, [resamples, rows]."""
    generator = np.random.default_rng(0)
    return np.array([np.bincount(generator.integers(rows, size=rows), minlength=rows) for _ in range(RESAMPLES)])


def draw_table(generator, draws, sizes, methods, seeds, seed_spread=0.0, row_spread=1.5, own_rows=0.0, gain=0.0):
    """Tables of a method and its rivals, which find the same rows hard: right answers by task.

    Args:
        generator: Draws everything.
        draws: The number of tables.
        sizes: [tasks], the number of test rows.
        methods: The number of rows of the table; all but the first have log odds lower by `gain`.
        seeds: The number of seeds, the same for every method.
        seed_spread: Standard deviation of what a seed does to the log odds, for each method and task anew.
        row_spread: Standard deviation of how hard a row is, the same for every method.
        own_rows: Standard deviation of how hard a row is for one method alone.
        gain: The advantage of the first method in log odds.

    Yields:
        [draws, methods, seeds, rows] of True and False, one a task.
    """

    def normal(*shape):
        return generator.standard_normal(shape, dtype=np.float32)

    for rows in sizes:
        odds = 1 + row_spread * normal(draws, 1, 1, rows) + own_rows * normal(draws, methods, 1, rows)
        odds = odds + seed_spread * normal(draws, methods, seeds, 1)
        odds[:, 1:] -= gain
        yield generator.random(odds.shape, dtype=np.float32) < 1 / (1 + np.exp(-odds))


def differences(right):
    """The first method minus each other: scores [draws, rivals, seeds] and their covariance over examples.

    The covariance is what bootstrap samples without number would give.
    """
    values = 100 * right.astype(np.float32)
    values = values[:, :1] - values[:, 1:]
    scores = values.mean(-1)
    centered = values - scores[..., None]
    return scores, centered @ centered.swapaxes(-1, -2) / right.shape[-1] ** 2


def draw_averages(generator, runs, sizes, seeds, seed_spread, correlation):
    """Scores [runs, tasks, seeds] and covariances of a method whose seeds err alike on all tasks.

    `correlation` is that of a seed's effect on two tasks; the log odds are 1, rows are unequally hard.
    """
    alike = generator.normal(size=(runs, seeds, 1))
    scores, covariances = [], []
    for rows in sizes:
        effect = np.sqrt(correlation) * alike + np.sqrt(1 - correlation) * generator.normal(size=(runs, seeds, 1))
        odds = 1 + seed_spread * effect + 1.5 * generator.normal(size=(runs, 1, rows))
        values = 100.0 * (generator.random(odds.shape) < 1 / (1 + np.exp(-odds)))
        scores.append(values.mean(-1))
        centered = values - scores[-1][..., None]
        covariances.append(centered @ centered.swapaxes(-1, -2) / rows**2)
    return np.stack(scores, -2), np.stack(covariances, -3)


def draw_classes(generator, runs, seeds, rows, shares, mean, seed_spread, row_spread):
    """Gold classes [runs, 1, rows] in these shares, and predictions [runs, seeds, rows].

    They are right as `draw_right` has it, else another class by its share.
    """
    shares = np.array(shares)
    gold = generator.choice(len(shares), size=(runs, 1, rows), p=shares)
    right = draw_right(generator, runs, seeds, rows, mean, seed_spread, row_spread)
    # A wrong answer is another class: drawn until it is not the gold one.
    wrong = np.broadcast_to(gold, right.shape).copy()
    while (same := wrong == gold).any():
        wrong[same] = generator.choice(len(shares), size=int(same.sum()), p=shares)
    return gold, np.where(right, gold, wrong)


def draw_scores(generator, runs, seeds, rows, noise, seed_spread, row_share):
    """Normal scores [runs, 1, rows] and predictions [runs, seeds, rows] that have them with noise.

    `row_share` of the variance of the noise is of the example, which all seeds get alike; its size differs between
    seeds by the factor exp(`seed_spread` times a normal number).
    """
    gold = generator.normal(size=(runs, 1, rows))
    shared, own = generator.normal(size=(runs, 1, rows)), generator.normal(size=(runs, seeds, rows))
    size = noise * np.exp(seed_spread * generator.normal(size=(runs, seeds, 1)))
    return gold, gold + size * (np.sqrt(row_share) * shared + np.sqrt(1 - row_share) * own)


def samples_of_metric(metric, gold, predictions):
    """As `samples_of`, of `metric` (a function of METRICS)."""
    runs, _, rows = predictions.shape
    scores = 100 * metric(np.ones((1, rows)), gold, predictions)[0]
    resampled = 100 * metric(_drawn(rows), gold, predictions)
    return [Sample(scores[run], resampled[:, run], rows) for run in range(runs)]


def true_metric(metric, draw):
    """In percent, the mean over many seeds of the metric on many rows; `draw(runs, seeds, rows)` draws them."""
    return 100 * float(np.mean([metric(np.ones((1, 20_000)), *draw(1, 25, 20_000)) for _ in range(20)]))


def _sums(weights, values):
    """Weighted sums over rows: weights [resamples, rows], values [runs, seeds, rows] -> [resamples, runs, seeds]."""
    return np.tensordot(weights, values.astype(float), axes=(1, 2))


def _macro_f1(weights, gold, predictions):
    total, number = 0, 0
    for class_ in np.unique(gold):
        mine, theirs = predictions == class_, np.broadcast_to(gold == class_, predictions.shape)
        either = _sums(weights, mine) + _sums(weights, theirs)
        total = total + 2 * _sums(weights, mine & theirs) / np.maximum(either, 1)
        number = number + (either > 0)
    return total / number


def _f1(weights, gold, predictions):
    either = _sums(weights, predictions == 1) + _sums(weights, np.broadcast_to(gold == 1, predictions.shape))
    return 2 * _sums(weights, (predictions == 1) & (gold == 1)) / np.maximum(either, 1)


def _correlation(weights, gold, predictions):
    """Pearson's; of two classes 0 and 1 Matthews'."""
    gold = np.broadcast_to(gold, predictions.shape)
    rows = weights.sum(1)[:, None, None]
    a, b, aa, bb, ab = (
        _sums(weights, values) / rows for values in (gold, predictions, gold**2, predictions**2, gold * predictions)
    )
    spread = np.sqrt(np.maximum(aa - a**2, 0) * np.maximum(bb - b**2, 0))
    return np.where(spread > 1e-9, (ab - a * b) / np.maximum(spread, 1e-9), 0)


METRICS = {"macro_f1": _macro_f1, "f1": _f1, "matthews": _correlation, "pearson": _correlation}
