"""Metrics against scikit-learn, SciPy, `evaluate` and SQuAD's official rules."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from ept.evaluation import metrics
from ept.evaluation.metrics import References, clusters, compute, scorer
from ept.tasks.registry import get_task

RTE, COLA, CB, MULTIRC, STSB, SQUAD = (get_task(name) for name in ("rte", "cola", "cb", "multirc", "stsb", "squad"))


def _pairs(labels, predictions):
    return st.lists(st.tuples(st.sampled_from(labels), st.sampled_from(predictions)), min_size=1, max_size=40).map(
        lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True))
    )


@given(_pairs([0, 1], [0, 1]))
def test_binary_metrics_are_those_of_scikit_learn(rows):
    labels, predictions = rows
    truth = References(labels.astype(float))
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(labels, predictions),
        "f1": sklearn_metrics.f1_score(labels, predictions, zero_division=0),
        "macro_f1": sklearn_metrics.f1_score(labels, predictions, average="macro", zero_division=0),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected["matthews"] = sklearn_metrics.matthews_corrcoef(labels, predictions)
    for name, value in expected.items():
        assert compute(name, predictions, truth, RTE) == pytest.approx(100 * value, abs=1e-9), name


@given(_pairs([0, 1, 2], [-1, 0, 1, 2]))
def test_three_classes_with_invalid_predictions(rows):
    labels, predictions = rows
    truth = References(labels.astype(float))
    classes = sorted({*labels.tolist(), *predictions.tolist()} - {-1})
    expected = sklearn_metrics.f1_score(labels, predictions, labels=classes, average="macro", zero_division=0)
    assert compute("macro_f1", predictions, truth, CB) == pytest.approx(100 * expected, abs=1e-9)
    assert compute("accuracy", predictions, truth, CB) == pytest.approx(100 * np.mean(labels == predictions))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = sklearn_metrics.matthews_corrcoef(labels, predictions)
    assert compute("matthews", predictions, truth, CB) == pytest.approx(100 * expected, abs=1e-9)


@given(_pairs([0, 1], [-1, 0, 1]))
def test_an_invalid_answer_never_beats_a_wrong_or_right_one(rows):
    labels, predictions = rows
    truth = References(labels.astype(float))
    wrong = np.where(predictions == -1, 1 - labels, predictions)
    right = np.where(predictions == -1, labels, predictions)
    for name in ("accuracy", "f1"):
        assert compute(name, predictions, truth, RTE) == compute(name, wrong, truth, RTE)
        assert compute(name, predictions, truth, RTE) <= compute(name, right, truth, RTE) + 1e-9


def test_known_cases_with_invalid_predictions():
    truth = References(np.array([1.0, 1.0, 0.0, 0.0]))
    # 1 hit, 1 false negative (invalid), 1 false positive (invalid): F1 = 2 / (2 + 1 + 1).
    assert compute("f1", np.array([1, -1, -1, 0]), truth, RTE) == pytest.approx(50.0)
    assert compute("accuracy", np.array([1, -1, -1, 0]), truth, RTE) == 50.0
    assert compute("matthews", np.full(4, -1), truth, COLA) == 0.0
    assert compute("f1", np.full(4, -1), truth, RTE) == 0.0


_scores = st.lists(
    st.tuples(st.integers(0, 25), st.floats(0, 5, width=16)).map(lambda pair: (pair[0] / 5, pair[1])),
    min_size=3,
    max_size=40,
)


@given(_scores)
def test_correlations_are_those_of_scipy(rows):
    predictions, scores = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    constant = np.ptp(predictions) == 0 or np.ptp(scores) == 0
    for name, function in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = 0.0 if constant else 100 * function(predictions, scores).statistic
        assert compute(name, predictions, References(scores), STSB) == pytest.approx(expected, abs=1e-6), name


def test_constant_predictions_correlate_with_nothing():
    truth = References(np.array([0.1, 2.0, 4.4]))
    # The mean of equal numbers can be off by rounding, which must not make a correlation of noise.
    for value in (0.0, 1.3, 0.1):
        assert compute("pearson", np.full(3, value), truth, STSB) == 0.0
        assert compute("spearman", np.full(3, value), truth, STSB) == 0.0


def test_multirc_counts_whole_questions():
    truth = References(np.array([1.0, 0.0, 1.0, 0.0, 1.0]), groups=["q1", "q2", "q1", "q2", "q3"])
    predictions = np.array([1, 0, 1, 1, -1])
    # q1 is right, q2 has one wrong answer, q3 is invalid.
    assert compute("exact_match", predictions, truth, MULTIRC) == pytest.approx(100 / 3)
    assert [part.tolist() for part in clusters(truth)] == [[0, 2], [1, 3], [4]]
    drawn = np.array([0, 2, 0, 2, 4])
    assert scorer("exact_match", [predictions], truth, MULTIRC)(0, drawn) == pytest.approx(200 / 3)


def test_rows_without_groups_are_resampled_alone():
    truth = References(np.arange(3.0), groups=["", "", ""])
    assert [part.tolist() for part in clusters(truth)] == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("The Eiffel Tower!", ["eiffel tower"], 100, 100),
        ("in  1,066", ["1066"], 0, 200 / 3),
        ("an apple a day", ["apple day"], 100, 100),
        ("theatre", ["atre"], 0, 0),
        ("Denver Broncos", ["Carolina Panthers", "The Denver Broncos", "Broncos"], 100, 100),
        ("the cat sat", ["cat sat down there"], 0, 100 * 2 * 1 * 0.5 / 1.5),
        ("to be to be", ["to be or not to be"], 0, 80),
        ("", ["something"], 0, 0),
        ("the", ["a"], 100, 0),
        ("well-known", ["wellknown"], 100, 100),
        ("café", ["cafe"], 0, 0),
    ],
)
def test_squad_rules(prediction, answers, exact, f1):
    predictions, truth = np.array([prediction], dtype=object), References(np.array([np.nan]), [""], [answers])
    assert compute("exact_match", predictions, truth, SQUAD) == exact
    assert compute("f1", predictions, truth, SQUAD) == pytest.approx(f1)


def test_scorer_of_repeated_rows_is_the_metric_of_those_rows():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 50).astype(float)
    predictions = [generator.integers(-1, 2, 50) for _ in range(2)]
    drawn = generator.integers(0, 50, 50)
    for name in ("accuracy", "f1", "macro_f1", "matthews"):
        score = scorer(name, predictions, References(labels), RTE)
        for seed in range(2):
            expected = compute(name, predictions[seed][drawn], References(labels[drawn]), RTE)
            assert score(seed, drawn) == pytest.approx(expected)


def test_every_metric_of_every_task_is_known():
    from ept.tasks.registry import TASKS

    for task in TASKS.values():
        extraction = task.kind == "extraction"
        truth = References(np.array([0.0, 1.0]), ["a", "b"], [["x"] * 10, ["y"] * 10] if extraction else [])
        predictions = np.array(["x", "y"], dtype=object) if extraction else np.array([0, 1])
        for name in task.metrics:
            if name in ("cider", "bleu4"):  # neither is 100 for texts of one word (test_caption_metrics.py)
                continue
            assert compute(name, predictions, truth, task) == pytest.approx(100.0), (task.name, name)


def test_needs_neither_torch_nor_scipy():
    code = """
import sys
import ept.evaluation.metrics
assert not {"torch", "scipy", "sklearn", "evaluate", "transformers"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_evaluate_modules_work_offline(tmp_path):
    """As users of `evaluate` call them, without the hub and without a word on disk."""
    code = """
from ept.evaluation.evaluate_metrics import task_metric
from ept.tasks.registry import get_task
found = task_metric(get_task("mrpc")).compute(predictions=[1, -1, -1, 0], references=[1, 1, 0, 0])
assert found == {"accuracy": 50.0, "f1": 50.0}, found
found = task_metric(get_task("stsb")).compute(predictions=[1.0, 2.0, 3.0], references=[2.0, 4.0, 6.0])
assert {name: round(value, 6) for name, value in found.items()} == {"pearson": 100, "spearman": 100}, found
squad = task_metric(get_task("squad"))
squad.add_batch(predictions=["The cat", "dog"], references=[["cat", "a cat"], ["hound"]])
assert squad.compute() == {"exact_match": 50.0, "f1": 50.0}
multirc = task_metric(get_task("multirc"))
found = multirc.compute(predictions=[1, 0, 0], references=[1, 0, 1], groups=["q1", "q1", "q2"])
rounded = {name: round(value, 6) for name, value in found.items()}
assert rounded == {"f1": 66.666667, "exact_match": 50.0}, found
"""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_ranks_take_the_mean_of_ties():
    assert metrics._ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
