"""Paired tests and Holm's correction: SciPy in the limits, false positives and power by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ept.results.statistics import LEVEL, Sample, holm, mark_not_separated, paired_difference
from results.simulation import draw_right, samples_of


def _sample(scores, **fields):
    """A score of which examples say nothing: every bootstrap sample has the same scores."""
    return Sample(np.array(scores, dtype=float), np.tile(np.array(scores, dtype=float), (400, 1)), 100, **fields)


def test_without_variance_over_examples_it_is_scipys_paired_t_test_over_seeds():
    generator = np.random.default_rng(0)
    first, second = _sample([60, 72, 66]), _sample([50, 63, 60])
    # What varies is the same for every seed, and next to nothing.
    first.resampled[:] += 1e-6 * generator.normal(size=(400, 1))
    found = paired_difference([first], [second])
    expected = stats.ttest_rel([60, 72, 66], [50, 63, 60])
    assert found.p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval()
    assert found.interval == pytest.approx((low, high))


def test_seeds_that_happen_to_agree_are_no_proof():
    """Each of three seeds of A has one other example of 28 right that B has wrong."""
    second = np.zeros((3, 28), dtype=bool)
    second[:, :14] = True
    first = second.copy()
    first[range(3), [20, 21, 22]] = True
    a, b = (samples_of(part[None])[0] for part in (first, second))
    found = paired_difference([a], [b])
    assert found.mean == pytest.approx(100 / 28)
    # By hand: the variance of one seed's difference over examples, a third of it for the mean of three, and what half
    # an example more on either side of one that A alone has right adds; examples have nothing in common.
    own = 100**2 * (1 / 28) * (27 / 28) / 28
    more, less = 1.5 / 29, 0.5 / 29
    least = 100**2 * (more + less - (more - less) ** 2) / 29
    assert found.error == pytest.approx(np.sqrt(own / 3 + least - own), rel=0.1)
    assert 0.2 < found.p < 1
    assert found.interval[0] < 0 < found.interval[1]


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("share", [True, False])
def test_p_is_never_0_and_no_interval_has_width_0(seeds, share):
    first, second = _sample([100] * seeds, share=share), _sample([0] * seeds, share=share)
    found = paired_difference([first], [second])
    assert 0 < found.p < 0.05
    assert found.interval[0] < 100 == found.interval[1]


def test_the_seeds_that_both_have_are_compared():
    five, three = _sample([1, 2, 3, 4, 5], seeds=(0, 1, 2, 3, 4)), _sample([0, 0, 9], seeds=(4, 2, 7))
    difference = five - three
    assert difference.seeds == (2, 4)
    assert difference.scores.tolist() == [3, 5]
    with pytest.raises(ValueError, match=r"\(7,\)"):
        five - _sample([1], seeds=(7,))


def test_about_these_prompts_examples_alone_count():
    generator = np.random.default_rng(0)
    resampled = generator.normal(0, 1, (400, 1)) + generator.normal(0, 1, (400, 3))
    first = Sample(np.array([10.0, 30.0, 50.0]), resampled, 200)
    found = paired_difference([first], [_sample([0, 0, 0])], examples_alone=True)
    assert found.error == pytest.approx(np.std(resampled.mean(1), ddof=1))
    assert found.freedom == pytest.approx(199)
    # Seeds that differ by 20 points are no matter here, but they are for the method.
    assert found.p < 1e-9 < 0.05 < paired_difference([first], [_sample([0, 0, 0])]).p


@pytest.mark.parametrize("better", [40, 45, 60])
def test_one_seed_agrees_with_mcnemar_and_the_paired_t_test_over_examples(better):
    # 400 examples: `better` that only the first has right, 40 that only the second has.
    first = np.repeat([1, 1, 0, 0], [better, 200, 40, 160 - better])
    second = np.repeat([0, 1, 1, 0], [better, 200, 40, 160 - better])
    found = paired_difference([samples_of(first[None, None])[0]], [samples_of(second[None, None])[0]])
    assert found.mean == pytest.approx(100 * (better - 40) / 400)
    assert found.p == pytest.approx(stats.ttest_rel(first, second).pvalue if better > 40 else 1, abs=0.02)
    assert found.p == pytest.approx(stats.chi2.sf((better - 40) ** 2 / (better + 40), 1), abs=0.02)


def test_a_row_does_not_differ_from_itself():
    sample = samples_of(draw_right(np.random.default_rng(0), 1, 3, 50, 1, 1, 1))
    assert paired_difference(sample, sample).p == 1


def _p_values(seeds, seed_spread, gain=0.0, tests=1000, rows=150):
    """Of two methods that find the same examples hard; the second one's log odds are lower by `gain`."""
    generator = np.random.default_rng(seeds)
    hard = 1.5 * generator.normal(size=(tests, 1, rows))
    parts = []
    for mean in (1.0, 1.0 - gain):
        odds = mean + hard + seed_spread * generator.normal(size=(tests, seeds, 1))
        parts.append(samples_of(generator.random(odds.shape) < 1 / (1 + np.exp(-odds)), share=False))
    return np.array([paired_difference([a], [b]).p for a, b in zip(*parts, strict=True)])


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("seed_spread", [0.0, 0.3])
def test_false_positives_and_power(seeds, seed_spread):
    # 1000 tests know a rate of 5 % to 0.7 points.
    assert np.mean(_p_values(seeds, seed_spread) < LEVEL) < 0.065
    assert np.mean(_p_values(seeds, seed_spread, gain=1.0, tests=300) < LEVEL) > 0.4


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(deadline=None)
def test_holm_rejects_what_his_procedure_rejects(p_values):
    corrected = holm(p_values)
    for level in (0.01, 0.05, 0.3):
        rejected, remaining = set(), sorted(range(len(p_values)), key=lambda i: p_values[i])
        while remaining and p_values[remaining[0]] * len(remaining) <= level:
            rejected.add(remaining.pop(0))
        assert {i for i, p in enumerate(corrected) if p <= level} == rejected
    assert (corrected >= p_values).all()


def test_what_is_not_told_from_the_best_is_marked():
    generator = np.random.default_rng(1)
    rows = []
    for mean in (2.0, 1.9, -1.0):
        samples = samples_of(draw_right(generator, 1, 3, 200, mean, 0.1, 0.5))
        row = {"task": "rte", "metric": "accuracy", "mean": samples[0].scores.mean(), "samples": samples}
        rows.append(row | {"trainings": (str(mean),)})
    mark_not_separated(rows)
    best = max(rows, key=lambda row: row["mean"])
    assert [row["not_separated"] for row in rows] == [row is not best and row is not rows[2] for row in rows]


def test_a_training_that_stands_in_several_rows_is_tested_once():
    def row(name, right):
        samples = samples_of(np.array(right)[None, None])
        mean = samples[0].scores.mean()
        return {"task": "rte", "metric": "accuracy", "trainings": (name,), "mean": mean, "samples": samples}

    # Of 400 examples 62 that only the best has right and 40 that only the other has: p = 0.03 by McNemar.
    best = row("best", np.arange(400) < 302)
    other = row("other", (np.arange(400) < 240) | (np.arange(400) >= 360))
    assert LEVEL / 3 < paired_difference(best["samples"], other["samples"]).p < LEVEL
    rows = [best, dict(best), other, dict(other), dict(other)]
    mark_not_separated(rows)
    # Three tests of the same would not tell it from the best, and the best's second row would not be told from itself.
    assert [row["not_separated"] for row in rows] == [False] * 5
