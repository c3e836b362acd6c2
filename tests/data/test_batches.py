"""Laws of the order of training examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from ept.data.sampling import BatchOrder


def _lengths(rows, seed=0):
    """Skewed like real texts: most short, few very long."""
    return (10 + np.random.default_rng(seed).lognormal(3, 0.8, rows)).astype(np.int32)


@st.composite
def orders(draw):
    """An order over 1-4 runs of 1-60 rows of a split of 80, and the arguments it was made with."""
    runs, count = draw(st.integers(1, 4)), draw(st.integers(1, 60))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    rows = np.stack([random.permutation(80)[:count] for _ in range(runs)])
    seeds = draw(st.lists(st.integers(0, 2**32), min_size=runs, max_size=runs))
    arguments = (_lengths(80), rows, seeds, draw(st.integers(1, 20)), draw(st.integers(1, 6)))
    return BatchOrder(*arguments), arguments


@settings(max_examples=60, deadline=None)
@given(orders())
def test_an_epoch_has_distinct_rows_of_its_run(made):
    order, (_, rows, _, batch_size, _) = made
    count = rows.shape[1]
    size = min(batch_size, count)
    assert order.batches_per_epoch == count // size
    for epoch in range(2):
        steps = range(epoch * order.batches_per_epoch, (epoch + 1) * order.batches_per_epoch)
        batches = [order.batch(step) for step in steps]
        assert {batch.shape for batch in batches} == {(len(rows), size)}
        assert {batch.dtype for batch in batches} == {np.dtype(np.int64)}
        for run in range(len(rows)):
            taken = np.concatenate([batch[run] for batch in batches]).tolist()
            assert len(taken) == len(set(taken)) == size * order.batches_per_epoch
            assert set(taken) <= set(rows[run].tolist())


@settings(max_examples=40, deadline=None)
@given(orders(), st.integers(0, 200))
def test_a_batch_is_a_function_of_seed_and_step_alone(made, step):
    order, arguments = made
    for other in (step + 7, 0, step // 2):
        order.batch(other)
    assert np.array_equal(order.batch(step), BatchOrder(*arguments).batch(step))


@settings(max_examples=40, deadline=None)
@given(orders(), st.integers(0, 200))
def test_a_run_meets_the_same_batches_alone_and_in_a_pack(made, step):
    order, (lengths, rows, seeds, batch_size, window) = made
    for run, seed in enumerate(seeds):
        alone = BatchOrder(lengths, rows[run : run + 1], [seed], batch_size, window)
        assert np.array_equal(order.batch(step)[run], alone.batch(step)[0])


def test_padding_falls_by_half_and_more():
    lengths = _lengths(4000)
    rows = np.arange(4000)[None]
    order = BatchOrder(lengths, rows, [0], 16)
    bucketed = sum(lengths[order.batch(step)].max() * 16 for step in range(250))
    shuffled = np.random.default_rng(0).permutation(4000).reshape(250, 16)
    padded_anyhow = int((lengths[shuffled].max(1) * 16).sum())
    text = int(lengths.sum())
    assert bucketed - text < 0.1 * (padded_anyhow - text)


def test_runs_of_a_pack_meet_like_lengths_at_the_same_step():
    lengths = _lengths(4000)
    order = BatchOrder(lengths, np.tile(np.arange(4000), (3, 1)), [5, 6, 7], 16)
    means = np.array([lengths[order.batch(step)].mean(1) for step in range(250)])
    assert np.corrcoef(means.T).min() > 0.95
    assert not np.array_equal(order.batch(0)[0], order.batch(0)[1])


def test_steps_do_not_go_by_length():
    lengths = _lengths(4000)
    order = BatchOrder(lengths, np.arange(4000)[None], [0], 16)
    means = [lengths[order.batch(step)].mean() for step in range(250)]
    assert abs(np.corrcoef(means, np.arange(250))[0, 1]) < 0.2


def test_every_row_is_equally_likely_at_every_step():
    """Over many seeds, rows short and long, at a fixed step."""
    lengths, rows, seeds = np.arange(20), 20, 6000
    order = BatchOrder(lengths, np.tile(np.arange(rows), (seeds, 1)), list(range(seeds)), 2, window=2)
    # Windows of two batches. At a step all runs take the same rank: both steps of a window are one sample.
    for step in (0, 4, 10 * 3 + 2):
        taken = np.concatenate([order.batch(step).ravel(), order.batch(step + 1).ravel()])
        counts = np.bincount(taken, minlength=rows)
        # 1,200 expected, standard deviation below 35.
        assert abs(counts - 1200).max() < 170
    # And over windows' shared orders: the first step of an epoch, one run, many epochs.
    order = BatchOrder(lengths, np.arange(rows)[None], [3], 2, window=2)
    counts = np.bincount(np.concatenate([order.batch(10 * e)[0] for e in range(6000)]), minlength=rows)
    # 600 expected, standard deviation 24.
    assert abs(counts - 600).max() < 120


@pytest.mark.parametrize(
    ("count", "batch_size", "window"),
    # Windows of two batches; with a last window of one; with a remainder that is dropped; of one batch each.
    [(24, 3, 2), (27, 3, 2), (29, 3, 2), (9, 3, 50)],
)
@pytest.mark.parametrize("lengths", ["distinct", "tied"])
def test_rows_land_on_steps_as_in_a_uniform_shuffle(count, batch_size, window, lengths):
    """Chi-square over the epochs of one run, which are independent draws: at each step every row is equally likely."""
    epochs = 3000
    every_length = np.arange(count) if lengths == "distinct" else np.arange(count) // 5
    order = BatchOrder(every_length, np.arange(count)[None], [11], batch_size, window)
    steps = order.batches_per_epoch
    landed, taken = np.zeros((steps, count)), np.zeros(count)
    # One row of each batch: the rows of a batch are of like length and so no independent draws.
    member = np.random.default_rng(1).integers(0, batch_size, epochs * steps)
    for step, place in enumerate(member):
        batch = order.batch(step)[0]
        landed[step % steps, batch[place]] += 1
        taken[batch] += 1
    statistics = ((landed - epochs / count) ** 2).sum(1) / (epochs / count)
    assert chi2.sf(statistics, count - 1).min() > 1e-3
    # The remainder that an epoch leaves out: so many rows drawn without putting back, which narrows the statistic.
    left_out = epochs - taken
    if remainder := count % batch_size:
        wanted = epochs * remainder / count
        statistic = ((left_out - wanted) ** 2).sum() / wanted / (1 - remainder / count) * (count - 1) / count
        assert chi2.sf(statistic, count - 1) > 1e-3
    else:
        assert not left_out.any()


def test_windows_hold_any_rows_and_steps_of_a_window_any_of_its_lengths():
    """Two rows meet in a window as in a uniform shuffle, and the shorter comes first as often as not."""
    count, batch_size, window, epochs = 24, 2, 3, 4000
    order = BatchOrder(np.arange(count), np.arange(count)[None], [5], batch_size, window)
    assert order.window == window and order.batches_per_epoch == 12
    together = first = 0
    for epoch in range(epochs):
        place = np.empty(count, np.int64)
        for step in range(12):
            place[order.batch(epoch * 12 + step)[0]] = step
        shortest, longest = place[0], place[-1]
        if shortest // window == longest // window:
            together += 1
            first += int(shortest < longest)
    # 5 of the other 23 places are in the same window; row 0 and row 23 are never in one batch of three.
    assert abs(together - epochs * 5 / 23) < 4 * np.sqrt(epochs * 5 / 23 * 18 / 23)
    assert abs(first - together / 2) < 4 * np.sqrt(together / 4)


def test_small_sets_do_not_get_the_same_batches_every_epoch():
    for count, batch_size in ((250, 16), (32, 16), (64, 8)):
        order = BatchOrder(np.arange(count), np.arange(count)[None], [0], batch_size)
        per_epoch = order.batches_per_epoch
        seen = [frozenset(order.batch(step)[0].tolist()) for step in range(20 * per_epoch)]
        assert len(set(seen)) == len(seen)


def test_fewer_rows_than_a_batch_are_one_batch_each_step():
    order = BatchOrder(np.arange(9), np.array([[1, 4, 8]]), [0], 16)
    assert order.batches_per_epoch == 1
    assert all(set(order.batch(step)[0].tolist()) == {1, 4, 8} for step in range(4))


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match=r"\b1\b.*\(1, 0\)"):
        BatchOrder(np.arange(9), np.empty((1, 0), np.int64), [0], 16)
