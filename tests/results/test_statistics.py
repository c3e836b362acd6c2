"""Intervals against SciPy where it has one, and against simulation where the truth is known."""

import numpy as np
import pytest
from scipy import stats

from ept.evaluation import metrics
from ept.results.statistics import Sample, estimate, resample
from results.simulation import (
    METRICS,
    draw_classes,
    draw_right,
    draw_scores,
    samples_of,
    samples_of_metric,
    true_accuracy,
    true_metric,
)


def _accuracy(right):
    return lambda seed, rows: 100 * float(right[seed][rows].mean())


def _single(n):
    return [np.array([row]) for row in range(n)]


def test_without_variance_over_examples_it_is_scipys_t_interval_over_seeds():
    values = [np.full(50, value) for value in (0.5, 0.6, 0.73)]
    found = estimate([resample(_accuracy(values), 3, _single(50))])
    scores = np.array([50, 60, 73])
    low, high = stats.t.interval(0.95, 2, loc=scores.mean(), scale=stats.sem(scores))
    assert found.mean == pytest.approx(scores.mean())
    assert found.std == pytest.approx(scores.std(ddof=1))
    assert found.interval == pytest.approx((low, high))


def test_one_seed_gives_scipys_interval_of_a_share():
    right = np.arange(400) % 4 != 0
    found = estimate([resample(_accuracy([right]), 1, _single(400), share=True)])
    low, high = stats.t.interval(0.95, 399, loc=75, scale=100 * stats.sem(right.astype(float)))
    assert np.isnan(found.std)
    # 400 bootstrap samples know a standard deviation to 3.5 %.
    assert found.half_width == pytest.approx((high - low) / 2, rel=0.1)


def test_seeds_that_agree_on_every_example_count_once():
    right = np.arange(200) % 4 != 0
    one = estimate([resample(_accuracy([right]), 1, _single(200))])
    three = estimate([resample(_accuracy([right] * 3), 3, _single(200))])
    assert three.half_width == pytest.approx(one.half_width)


def test_examples_part_is_the_covariance_between_seeds():
    right = draw_right(np.random.default_rng(3), 1, 3, 300, 1.0, 0.5, 1.5)[0].astype(float)
    sample = resample(_accuracy(right), 3, _single(300))
    exact = 100**2 * np.cov(right, ddof=0) / 300
    expected = exact[np.triu_indices(3, 1)].mean()
    assert sample.example_variance == pytest.approx(expected, rel=0.25)
    assert sample.seed_variance == pytest.approx(np.var(sample.scores, ddof=1) / 3)


def test_clusters_widen_the_interval():
    right = np.repeat(np.arange(40) % 2, 10).astype(float)
    alone = estimate([resample(_accuracy([right]), 1, _single(400))]).half_width
    clusters = [np.arange(10 * i, 10 * i + 10) for i in range(40)]
    together = estimate([resample(_accuracy([right]), 1, clusters)]).half_width
    assert together == pytest.approx(alone * np.sqrt(10), rel=0.2)


def test_a_few_examples_all_right_do_not_prove_perfection():
    right = np.ones((3, 28))
    found = estimate([resample(_accuracy(right), 3, _single(28), share=True)])
    # Half a right and half a wrong answer more: sqrt(28.5 * 0.5) / 29 of 29 answers.
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, 27) * 100 * np.sqrt(28.5 * 0.5 / 29**3))
    assert estimate([resample(_accuracy(right), 3, _single(28))]).half_width == 0


def test_average_of_independent_tasks_adds_their_variances():
    generator = np.random.default_rng(0)
    tasks = [
        Sample(np.array([49.0, 51.0, 53.0]), generator.normal(50, 2, (400, 3)), 100),
        Sample(np.array([70.0, 70.0, 72.0]), generator.normal(70, 1, (400, 1)) * np.ones((1, 3)), 1000),
    ]
    found = estimate(tasks)
    alone = [estimate([task]) for task in tasks]
    assert found.mean == pytest.approx(np.mean([part.mean for part in alone]))
    assert found.error == pytest.approx(np.hypot(*(part.error for part in alone)) / 2)
    assert found.std == pytest.approx(np.std([59.5, 60.5, 62.5], ddof=1))


def test_the_simulation_draws_as_the_product_does():
    right = draw_right(np.random.default_rng(5), 1, 3, 60, 1.0, 0.3, 1.0)
    ours, theirs = resample(_accuracy(right[0]), 3, _single(60), share=True), samples_of(right)[0]
    np.testing.assert_allclose(ours.scores, theirs.scores)
    np.testing.assert_allclose(ours.resampled, theirs.resampled)
    assert ours.least_variance == pytest.approx(theirs.least_variance)


# Log odds 1 are 73 %; without and with seeds that differ (by about 5 points), answers that seeds share or do not.
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("seed_spread", [0.0, 0.3])
@pytest.mark.parametrize("row_spread", [0.0, 1.5, 4.0])
def test_coverage(seeds, seed_spread, row_spread):
    right = draw_right(np.random.default_rng(1), 1000, seeds, 150, 1.0, seed_spread, row_spread)
    truth = true_accuracy(1.0, seed_spread, row_spread)
    found = [estimate([sample]) for sample in samples_of(right)]
    assert 0.92 <= np.mean([abs(part.mean - truth) <= part.half_width for part in found]) <= 0.98


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("seed_spread", [0.0, 0.3])
def test_coverage_of_averages(seeds, seed_spread):
    generator = np.random.default_rng(2)
    settings = [(52, 0.5, 1.5), (140, 1.0, 0.5), (300, 1.5, 3.0), (500, 0.0, 1.0)]
    tasks = [samples_of(draw_right(generator, 600, seeds, n, mu, seed_spread, rows)) for n, mu, rows in settings]
    truth = np.mean([true_accuracy(mu, seed_spread, rows) for _, mu, rows in settings])
    found = [estimate(list(samples)) for samples in zip(*tasks, strict=True)]
    assert 0.92 <= np.mean([abs(part.mean - truth) <= part.half_width for part in found]) <= 0.98


# Shares of classes like those of CB, of MRPC and of CoLA. Seeds differ, and examples are unequally hard.
DRAWS = {
    "macro_f1": lambda generator, *size: draw_classes(generator, *size, (0.42, 0.5, 0.08), 1.5, 0.3, 1.5),
    "f1": lambda generator, *size: draw_classes(generator, *size, (0.32, 0.68), 1.0, 0.3, 1.5),
    "matthews": lambda generator, *size: draw_classes(generator, *size, (0.3, 0.7), 1.0, 0.3, 1.5),
    "pearson": lambda generator, *size: draw_scores(generator, *size, 2.0, 0.3, 0.5),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_simulation_scores_as_the_product_does(name):
    gold, predictions = DRAWS[name](np.random.default_rng(5), 1, 3, 40)
    function, labels = getattr(metrics, name), gold[0, 0]

    def score(seed, rows):
        return 100 * function(predictions[0, seed][rows], labels[rows])

    ours, theirs = resample(score, 3, _single(40)), samples_of_metric(METRICS[name], gold, predictions)[0]
    np.testing.assert_allclose(ours.scores, theirs.scores)
    np.testing.assert_allclose(ours.resampled, theirs.resampled, atol=1e-9)


@pytest.mark.parametrize("name", DRAWS)
def test_coverage_of_other_metrics(name):
    generator = np.random.default_rng(4)
    truth = true_metric(METRICS[name], lambda *size: DRAWS[name](generator, *size))
    found = [estimate([part]) for part in samples_of_metric(METRICS[name], *DRAWS[name](generator, 400, 3, 150))]
    # 400 draws know a coverage of 95 % to 1.1 points.
    assert 0.92 <= np.mean([abs(part.mean - truth) <= part.half_width for part in found]) <= 0.985
