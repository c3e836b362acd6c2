"""Intervals against SciPy where it has one, and against simulation where the truth is known."""

import numpy as np
import pytest
from scipy import stats

from ept.evaluation import metrics
from ept.results.statistics import (
    Sample,
    averaged_tasks,
    distinct_averages,
    estimate,
    estimates,
    resample,
    score_range,
)
from results.simulation import (
    METRICS,
    draw_averages,
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
    found = estimate([resample(_accuracy(values), range(3), _single(50))])
    scores = np.array([50, 60, 73])
    low, high = stats.t.interval(0.95, 2, loc=scores.mean(), scale=stats.sem(scores))
    assert found.mean == pytest.approx(scores.mean())
    assert found.std == pytest.approx(scores.std(ddof=1))
    assert found.interval == pytest.approx((low, high))


def test_one_seed_gives_scipys_interval_of_a_share():
    right = np.arange(400) % 4 != 0
    found = estimate([resample(_accuracy([right]), range(1), _single(400), share=True)])
    low, high = stats.t.interval(0.95, 399, loc=75, scale=100 * stats.sem(right.astype(float)))
    assert np.isnan(found.std)
    # 400 bootstrap samples know a standard deviation to 3.5 %.
    assert found.half_width == pytest.approx((high - low) / 2, rel=0.1)


def test_seeds_that_agree_on_every_example_count_once():
    right = np.arange(200) % 4 != 0
    one = estimate([resample(_accuracy([right]), range(1), _single(200))])
    three = estimate([resample(_accuracy([right] * 3), range(3), _single(200))])
    assert three.half_width == pytest.approx(one.half_width)


def test_examples_part_is_the_covariance_between_seeds():
    right = draw_right(np.random.default_rng(3), 1, 3, 300, 1.0, 0.5, 1.5)[0].astype(float)
    sample = resample(_accuracy(right), range(3), _single(300))
    of_examples = (100**2 * np.cov(right, ddof=0) / 300)[np.triu_indices(3, 1)].mean()
    of_seeds = np.var(sample.scores, ddof=1) / 3
    assert estimate([sample]).error == pytest.approx(np.sqrt(of_seeds + of_examples), rel=0.08)


def test_clusters_widen_the_interval():
    right = np.repeat(np.arange(40) % 2, 10).astype(float)
    alone = estimate([resample(_accuracy([right]), range(1), _single(400))]).half_width
    clusters = [np.arange(10 * i, 10 * i + 10) for i in range(40)]
    together = estimate([resample(_accuracy([right]), range(1), clusters)]).half_width
    assert together == pytest.approx(alone * np.sqrt(10), rel=0.2)


def test_a_few_examples_all_right_do_not_prove_perfection():
    right = np.ones((3, 28))
    found = estimate([resample(_accuracy(right), range(3), _single(28), share=True)])
    # Half a right and half a wrong answer more: sqrt(28.5 * 0.5) / 29 of 29 answers.
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, 27) * 100 * np.sqrt(28.5 * 0.5 / 29**3))
    # Another metric, of which no resample shows that it could be less than 100, is as uncertain.
    assert estimate([resample(_accuracy(right), range(3), _single(28))]).half_width == found.half_width


def _tasks(second):
    """Two tasks, of which the first has the scores 49, 51, 53; seeds differ, examples are shared by all seeds."""
    generator = np.random.default_rng(0)
    return [
        Sample(np.array([49.0, 51.0, 53.0]), generator.normal(50, 2, (400, 1)) * np.ones((1, 3)), 100),
        Sample(np.array(second), generator.normal(70, 1, (400, 1)) * np.ones((1, 3)), 1000),
    ]


def test_average_of_tasks_on_which_seeds_err_apart_adds_their_variances():
    tasks = _tasks([70.0, 72.0, 70.0])
    found = estimate(tasks)
    alone = [estimate([task]) for task in tasks]
    assert found.mean == pytest.approx(np.mean([part.mean for part in alone]))
    assert found.error == pytest.approx(np.hypot(*(part.error for part in alone)) / 2)
    assert found.std == pytest.approx(np.std([59.5, 61.5, 61.5], ddof=1))


def test_average_of_tasks_on_which_seeds_err_alike_varies_as_the_seeds_averages_do():
    tasks = _tasks([70.0, 72.0, 74.0])
    of_examples = sum(np.var(task.resampled[:, 0], ddof=1) for task in tasks) / 2**2
    of_seeds = np.var([59.5, 61.5, 63.5], ddof=1) / 3
    found = estimate(tasks)
    assert found.error == pytest.approx(np.sqrt(of_seeds + of_examples))
    # Two degrees of freedom for the seeds' part; the examples' part has a hundred and more.
    assert 1 / found.freedom == pytest.approx(of_seeds / (of_seeds + of_examples) / 2, abs=0.01)


def test_intervals_stay_inside_the_range_of_the_score():
    high = Sample(np.array([90.0, 99.0, 99.0]), np.full((400, 3), 96.0), 28, share=True)
    low = Sample(np.array([-95.0, -99.0, -80.0]), np.full((400, 3), -91.0), 28, lowest=-100.0)
    assert estimate([high]).mean + estimate([high]).half_width > 100 == estimate([high]).interval[1]
    assert estimate([low]).mean - estimate([low]).half_width < -100 == estimate([low]).interval[0]
    # An average lies between the averages of the ends, a difference within twice the range.
    assert (estimate([high, low]).lowest, estimate([high, low]).highest) == (-50, 100)
    assert (estimate([high - high]).lowest, estimate([high - high]).highest) == (-100, 100)
    assert ((low - low).lowest, (low - low).highest) == (-200, 200)


def test_cider_may_exceed_100_and_is_not_averaged_with_percentages():
    assert score_range("cider") == (0, 1000)
    spread = Sample(np.array([300.0, 340.0, 420.0]), np.full((400, 3), 350.0), 28, highest=1000.0)
    low, high = estimate([spread]).interval
    assert low < np.mean(spread.scores) < high
    assert ((spread - spread).lowest, (spread - spread).highest) == (-1000, 1000)
    both = ["shapes_vqa", "shapes_captioning", "digits"]
    assert averaged_tasks(both)["average"] == ["shapes_vqa", "digits"]
    assert all("shapes_captioning" not in members for members in distinct_averages(both).values())
    assert averaged_tasks(["shapes_captioning", "coco"])["average"] == ["shapes_captioning", "coco"]


def test_the_simulation_draws_as_the_product_does():
    right = draw_right(np.random.default_rng(5), 1, 3, 60, 1.0, 0.3, 1.0)
    ours, theirs = resample(_accuracy(right[0]), range(3), _single(60), share=True), samples_of(right)[0]
    np.testing.assert_allclose(ours.scores, theirs.scores)
    np.testing.assert_allclose(ours.resampled, theirs.resampled)
    assert estimate([ours]).error == pytest.approx(estimate([theirs]).error)


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


# One seed may be good or bad on all tasks: its effects on two tasks are correlated.
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("sizes", [(52, 140, 300, 500), (28, 52, 139, 204, 319) * 2 + (139, 204, 319)], ids=len)
def test_coverage_of_averages_of_seeds_that_err_alike(seeds, correlation, sizes):
    scores, covariance = draw_averages(np.random.default_rng(3), 1000, sizes, seeds, 0.3, correlation)
    mean, error, freedom = estimates(scores, covariance, np.array(sizes), np.ones(len(sizes), bool), difference=False)
    covered = np.abs(mean - true_accuracy(1.0, 0.3, 1.5)) <= stats.t.ppf(0.975, freedom) * error
    assert 0.92 <= np.mean(covered) <= 0.985


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

    ours, theirs = resample(score, range(3), _single(40)), samples_of_metric(METRICS[name], gold, predictions)[0]
    np.testing.assert_allclose(ours.scores, theirs.scores)
    np.testing.assert_allclose(ours.resampled, theirs.resampled, atol=1e-9)


@pytest.mark.parametrize("name", DRAWS)
def test_coverage_of_other_metrics(name):
    generator = np.random.default_rng(4)
    truth = true_metric(METRICS[name], lambda *size: DRAWS[name](generator, *size))
    found = [estimate([part]) for part in samples_of_metric(METRICS[name], *DRAWS[name](generator, 400, 3, 150))]
    # 400 draws know a coverage of 95 % to 1.1 points.
    assert 0.92 <= np.mean([abs(part.mean - truth) <= part.half_width for part in found]) <= 0.985
