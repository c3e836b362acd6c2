"""Laws of k-shot samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ept.data.few_shot import sample_k_shot
from ept.errors import InputError


def _labels(classes, rows, seed=0):
    """Shuffled labels, unbalanced, with at least `rows` of each class."""
    counts = [rows + 3 * index for index in range(classes)]
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(classes), counts)).astype(np.float64)


@settings(max_examples=80, deadline=None)
@given(k=st.integers(1, 40), seed=st.integers(0, 2**40), classes=st.integers(2, 5))
def test_classes_are_balanced_exactly(k, seed, classes):
    labels = _labels(classes, 40)
    rows = sample_k_shot(labels, "classification", k, seed, classes)
    assert rows.dtype == np.int64
    assert len(rows) == k == len(set(rows.tolist()))
    counts = np.bincount(labels[rows].astype(int), minlength=classes)
    assert counts.max() - counts.min() <= 1
    assert np.array_equal(rows, sample_k_shot(labels, "classification", k, seed, classes))


@settings(max_examples=60, deadline=None)
@given(k=st.integers(1, 32), seed=st.integers(0, 2**40))
def test_scores_are_balanced_over_quartiles(k, seed):
    scores = np.random.default_rng(1).permutation(np.arange(128) / 25.6)
    rows = sample_k_shot(scores, "regression", k, seed, 26)
    assert len(set(rows.tolist())) == k
    counts = np.histogram(scores[rows], [0, 1.25, 2.5, 3.75, 5])[0]
    assert counts.max() - counts.min() <= 1


@settings(max_examples=40, deadline=None)
@given(k=st.integers(1, 30), seed=st.integers(0, 2**40))
def test_extraction_is_k_distinct_rows(k, seed):
    rows = sample_k_shot(np.full(30, np.nan), "extraction", k, seed, 0)
    assert len(set(rows.tolist())) == k
    assert rows.min() >= 0 and rows.max() < 30


def test_other_seeds_give_other_rows_and_another_class_with_one_more():
    labels = _labels(3, 50)
    samples = [sample_k_shot(labels, "classification", 16, seed, 3) for seed in range(30)]
    assert len({tuple(rows.tolist()) for rows in samples}) == 30
    assert {int(np.bincount(labels[rows].astype(int)).argmax()) for rows in samples} == {0, 1, 2}


def test_every_row_is_equally_likely():
    labels = np.tile([0.0, 1.0], 10)
    counts = np.bincount(
        np.concatenate([sample_k_shot(labels, "classification", 8, seed, 2) for seed in range(2000)]),
        minlength=20,
    )
    # 800 expected, standard deviation 22.
    assert abs(counts - 800).max() < 110


def test_bad_requests_are_refused():
    labels = np.array([0.0] * 20 + [1.0] * 3)
    with pytest.raises(InputError, match="few_shot.k is 0"):
        sample_k_shot(labels, "classification", 0, 0, 2)
    with pytest.raises(InputError, match="no example of class 2, so k = 4 cannot"):
        sample_k_shot(labels, "classification", 4, 0, 3)
    with pytest.raises(InputError, match="k = 8 needs 4 examples of class 1, but there are 3; choose a smaller k"):
        sample_k_shot(labels, "classification", 8, 0, 2)
    with pytest.raises(InputError, match="k = 24 needs 24 examples of the task, but there are 23"):
        sample_k_shot(labels, "extraction", 24, 0, 0)


@pytest.mark.parametrize("k", [4, 16, 32])
def test_real_cb_has_enough_of_its_rare_class(real_data, k):
    import pyarrow.parquet as pq

    labels = pq.read_table(real_data / "super_glue/cb/train.parquet").column("label").to_numpy()
    counts = np.bincount(labels[sample_k_shot(labels, "classification", k, 0, 3)])
    assert counts.sum() == k
    assert counts.max() - counts.min() <= 1
