"""Laws of k-shot samples."""

import functools

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.task_rows import DEMO, REAL, kept
from ept.data.sampling import sample_k_shot
from ept.data.source import locate
from ept.demo.generator import generate
from ept.errors import InputError
from ept.tasks.registry import TASKS


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
    with pytest.raises(InputError, match=r"\b0\b"):
        sample_k_shot(labels, "classification", 0, 0, 2)
    with pytest.raises(InputError, match=r"class 2\b.*\b4\b"):
        sample_k_shot(labels, "classification", 4, 0, 3)
    with pytest.raises(InputError, match=r"\b8\b.*\b4\b.*class 1\b.*\b3\b"):
        sample_k_shot(labels, "classification", 8, 0, 2)
    with pytest.raises(InputError, match=r"\b24\b.*\b23\b"):
        sample_k_shot(labels, "extraction", 24, 0, 0)


def _assert_laws(task, labels, k, seed):
    """A sample is k distinct rows, the same for the same seed, and as even over classes or quartiles as k allows."""
    rows = sample_k_shot(labels, task.kind, k, seed, len(task.labels))
    assert len(rows) == len(set(rows.tolist())) == k
    assert rows.min() >= 0 and rows.max() < len(labels)
    assert np.array_equal(rows, sample_k_shot(labels, task.kind, k, seed, len(task.labels)))
    if task.kind == "classification":
        counts = np.bincount(labels[rows].astype(int), minlength=len(task.labels))
        assert len(counts) == len(task.labels) and counts.max() - counts.min() <= 1
    if task.kind == "regression":
        # Scores equal to a quartile's first one may lie on both sides of its border; the others may not.
        for number, quartile in enumerate(np.array_split(np.sort(labels), 4)[1:], start=1):
            below, equal = (labels[rows] < quartile[0]).sum(), (labels[rows] == quartile[0]).sum()
            assert below <= number * -(-k // 4) and below + equal >= number * (k // 4)


@pytest.fixture(scope="module")
def demo_labels():
    """A function that gives a task's training labels in the demonstration benchmark."""

    @functools.cache
    def labels(task):
        rows = kept(task, generate(task.name, "train", 0).slice(0, 600))
        return np.array([task.example(row).label for row in rows])

    return labels


@pytest.fixture(scope="module")
def real_labels(real_data):
    """A function that gives a task's training labels in the real data."""

    @functools.cache
    def labels(task):
        table = pq.read_table(locate(task, str(real_data))["train"])
        if task.kind == "extraction":
            return np.full(table.num_rows, np.nan)
        return table.column("label").to_numpy().astype(np.float64)

    return labels


@pytest.mark.parametrize("name", DEMO)
@settings(max_examples=40, deadline=None)
@given(k=st.integers(1, 32), seed=st.integers(0, 2**40))
def test_laws_hold_for_every_task(demo_labels, name, k, seed):
    _assert_laws(TASKS[name], demo_labels(TASKS[name]), k, seed)


@pytest.mark.parametrize("name", REAL)
@settings(max_examples=20, deadline=None)
@given(k=st.integers(1, 32), seed=st.integers(0, 2**40))
def test_laws_hold_for_every_task_of_the_real_data(real_labels, name, k, seed):
    _assert_laws(TASKS[name], real_labels(TASKS[name]), k, seed)
