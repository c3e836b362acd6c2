"""Intervals against formulas that hold exactly or in the limit."""

import numpy as np
import pytest
from scipy import stats

from ept.results.intervals import Estimate, estimate, estimate_average


def _accuracy(right):
    return lambda seed, rows: 100 * float(right[seed][rows].mean())


def _single(n):
    return [np.array([row]) for row in range(n)]


def test_one_seed_gives_the_binomial_interval():
    right = np.arange(400) % 4 != 0
    found = estimate(_accuracy([right]), 1, _single(400))
    assert found.mean == 75.0
    assert np.isnan(found.std)
    binomial = 1.959964 * 100 * np.sqrt(0.75 * 0.25 / 400)
    assert found.half_width == pytest.approx(binomial, rel=0.12)


def test_seeds_add_a_t_interval():
    # Every example has the same value within a seed, so only the seeds' part is left.
    values = [np.full(50, value) for value in (0.5, 0.6, 0.7)]
    found = estimate(_accuracy(values), 3, _single(50))
    assert found.mean == pytest.approx(60.0)
    assert found.std == pytest.approx(10.0)
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, 2) * 10 / np.sqrt(3), rel=1e-6)


def test_clusters_widen_the_interval():
    right = np.repeat(np.arange(40) % 2, 10).astype(float)
    alone = estimate(_accuracy([right]), 1, _single(400)).half_width
    together = estimate(_accuracy([right]), 1, [np.arange(10 * i, 10 * i + 10) for i in range(40)]).half_width
    assert together == pytest.approx(alone * np.sqrt(10), rel=0.2)


def test_average_of_independent_tasks():
    found = estimate_average([Estimate(50, 1, 3.0), Estimate(70, 1, 4.0)], np.array([[49.0, 51.0], [70.0, 70.0]]))
    assert found.mean == 60.0
    assert found.half_width == pytest.approx(2.5)
    assert found.std == pytest.approx(np.std([59.5, 60.5], ddof=1))
