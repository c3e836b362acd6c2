"""How often a whole table without any difference shows a significant one: at most in one of twenty tables."""

import math

import numpy as np
import pytest
from scipy import stats

from ept.methods.registry import METHODS
from ept.results.statistics import LEVEL, estimates, p_values
from results.simulation import differences, draw_table

# Thirteen tasks, as in the table of config/paper.yaml; GLUE's are the first eight.
SIZES = np.array([28, 52, 139, 204, 319, 28, 52, 139, 204, 319, 139, 204, 319])
AVERAGES = [slice(0, 8), slice(8, 13), slice(0, 13)]
# The first three rivals on the average over all tasks, the last column, are the primary family.
PRIMARY = 3
CHUNK = 50


def p_of_tables(generator, draws, seeds, methods, **difficulty):
    """The p values of the first method against every other, [draws, rivals, tasks and averages]."""
    found = [differences(right) for right in draw_table(generator, draws, SIZES, methods, seeds, **difficulty)]
    scores, covariance = np.stack([part[0] for part in found], -2), np.stack([part[1] for part in found], -3)
    columns = [slice(task, task + 1) for task in range(len(SIZES))] + AVERAGES
    return np.stack([_p(scores, covariance, column) for column in columns], -1)


def _p(scores, covariance, tasks):
    return _p_of(scores[..., tasks, :], covariance[..., tasks, :, :], SIZES[tasks])


def _p_of(scores, covariance, units):
    return p_values(*estimates(scores, covariance, units, np.ones(len(units), dtype=bool), difference=True))


def any_significant(p, tests=None):
    """Whether Holm's correction leaves a p value below the level, [draws]; p [draws, tests]."""
    return p.min(1) < LEVEL / (tests or p.shape[1])


def families(p):
    """The p values [draws, tests] of the primary family and of all other tests of the table."""
    rest = np.concatenate([p[:, :, :-1].reshape(len(p), -1), p[:, PRIMARY:, -1]], 1)
    return p[:, :PRIMARY, -1], rest


def upper_bound(hits):
    """The end of the 95 % interval (Clopper and Pearson) of a rate."""
    count, number = int(hits.sum()), len(hits)
    return 1.0 if count == number else stats.beta.ppf(0.975, count + 1, number - count)


# Seeds do not differ but by chance; they differ by about 5 points; methods find other rows hard as well.
NULLS = {
    "alike": {},
    "seeds": {"seed_spread": 0.3},
    "seeds and rows": {"seed_spread": 0.3, "own_rows": 1.5},
}


@pytest.mark.parametrize("draws", [500, pytest.param(20_000, marks=pytest.mark.long)], ids=["few draws", "many draws"])
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("null", NULLS)
def test_a_table_without_differences_shows_none(draws, seeds, null):
    generator = np.random.default_rng(1)
    hits = []
    for _ in range(draws // CHUNK):
        p = p_of_tables(generator, CHUNK, seeds, len(METHODS), **NULLS[null])
        assert p.min() > 0
        hits.append([any_significant(family) for family in families(p)])
    primary, rest = np.concatenate(hits, 1)
    assert upper_bound(primary) <= 0.07
    assert upper_bound(rest) <= 0.07


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("null", NULLS)
@pytest.mark.parametrize("size", [0, 4], ids=lambda task: f"{SIZES[task]} rows")
def test_what_is_not_the_best_of_a_column_is_rarely_told_from_it_where_all_are_alike(seeds, null, size):
    generator = np.random.default_rng(2)
    hits = []
    for _ in range(20):
        (right,) = draw_table(generator, CHUNK, SIZES[[size]], len(METHODS), seeds, **NULLS[null])
        best = right.mean((2, 3)).argmax(1)
        # The best row of each table takes the first place.
        order = np.argsort(np.arange(len(METHODS)) != best[:, None], axis=1, kind="stable")
        scores, covariance = differences(np.take_along_axis(right, order[..., None, None], 1))
        p = _p_of(scores[..., None, :], covariance[..., None, :, :], SIZES[[size]])
        hits.append(any_significant(p, math.comb(len(METHODS), 2)))
    assert upper_bound(np.concatenate(hits)) <= 0.07


# Log odds 0.25 are about 4 points, 0.5 about 8.
@pytest.mark.parametrize(("gain", "least"), [(0.25, 0.15), (0.5, 0.9)])
def test_power_of_the_primary_family_with_five_seeds(gain, least):
    p = p_of_tables(np.random.default_rng(3), 300, 5, methods=PRIMARY + 1, gain=gain, seed_spread=0.3)
    assert np.mean(any_significant(families(p)[0])) > least
