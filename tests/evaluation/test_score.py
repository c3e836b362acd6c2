"""Predictions of a whole split for all runs: whatever the batches, also where memory ends."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.data.dataset import TokenizedSplit
from ept.data.prepare import SCHEMA, write_tokens
from ept.evaluation.predict import generate, predict_labels, score_candidates
from ept.evaluation.score import (
    MAX_ANSWER_PIECES,
    Answers,
    constant_predictions,
    majority_answer,
    noteworthy,
    predict_split,
    predict_split_both,
    references,
    score,
)
from ept.methods.prompt import PromptOutput
from ept.tasks.registry import TASKS, get_task
from tiny_models import make_t5

ROWS, HIDDEN, PROMPT_LENGTH, RUNS = 30, 16, 3, 2

FULL = torch.OutOfMemoryError("out of memory")


class Limited(EncoderDecoder):
    """A backbone that has memory for so many rows."""

    def __init__(self, model, most_rows=10**6, error=FULL):
        super().__init__(model)
        self.most_rows, self.error, self.passes = most_rows, error, []

    def encode(self, embeddings, attention_mask):
        self.passes.append(len(embeddings))
        if len(embeddings) > self.most_rows:
            raise self.error
        return super().encode(embeddings, attention_mask)


class Pieces(Answers):
    """Labels of two pieces, without a tokenizer."""

    def label_ids(self):
        return [[2 + number // 6, 2 + number % 6, 1] for number in range(len(self.task.labels))]


class Numbers:
    """Texts as numbers, without a tokenizer."""

    def text(self, pieces):
        return " ".join(map(str, pieces))


@pytest.fixture(scope="module")
def t5():
    # Weights large enough that rows differ in their answers.
    return make_t5(std=0.6, vocab_size=12, d_model=HIDDEN, num_layers=1)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Thirty rows of 1 to 12 pieces."""
    generator = np.random.default_rng(0)
    columns = {
        "id": [str(row) for row in range(ROWS)],
        "group": [""] * ROWS,
        "input_ids": [[*generator.integers(2, 12, length), 1] for length in generator.integers(0, 12, ROWS)],
        "target_ids": [[4, 1]] * ROWS,
        "label": [0.0] * ROWS,
        "answers": [["4"]] * ROWS,
    }
    (batch,) = pa.table(columns, schema=SCHEMA).to_batches()
    path = tmp_path_factory.mktemp("tokens") / "test.arrow"
    write_tokens(path, batch, {"pad_id": 0, "split": "test"})
    return TokenizedSplit(path)


@pytest.fixture(scope="module")
def output():
    generator = torch.Generator().manual_seed(1)
    return PromptOutput(3 * torch.randn(RUNS, PROMPT_LENGTH, HIDDEN, generator=generator), None)


def _alone(t5, split, output, answer):
    """`answer` of a backbone, embeddings and mask for each row of each run alone, [runs][rows]."""
    backbone = EncoderDecoder(t5)
    found = []
    for prompt in output.prompt:
        found.append([])
        for row in range(ROWS):
            text = backbone.embed(split.collate(np.array([row])).input_ids)
            embeddings = torch.cat([prompt[None], text], 1)
            found[-1] += answer(backbone, embeddings, torch.ones(embeddings.shape[:2]))
    return found


@pytest.fixture(scope="module")
def scores(t5, split, output):
    """The likeliest of STS-B's scores for each row alone, [runs][rows]."""
    answers = Pieces(get_task("stsb"), None)

    def likeliest(*inputs):
        return [float(answers.task.labels[i]) for i in score_candidates(*inputs, answers.label_ids()).argmax(1)]

    return _alone(t5, split, output, likeliest)


@settings(deadline=None, max_examples=25)
@given(most_positions=st.integers(1, 400), most_rows=st.sampled_from([2, 3, 7, 10, 31, 10**6]), reverse=st.booleans())
def test_predictions_are_those_of_each_row_alone(t5, split, output, scores, most_positions, most_rows, reverse):
    backbone = Limited(t5, most_rows)
    rows = np.arange(ROWS)[::-1] if reverse else np.arange(5, ROWS)
    found = predict_split(backbone, output, split, rows, Pieces(get_task("stsb"), None), most_positions)
    assert found.tolist() == [[run_scores[row] for row in rows] for run_scores in scores]
    assert len(np.unique(found)) > 3
    done = [size for size in backbone.passes if size <= most_rows]
    assert sum(done) == RUNS * len(rows)
    # A failed pass is not tried again at its size.
    failed = [size for size in backbone.passes if size > most_rows]
    assert failed == sorted(set(failed), reverse=True)
    if most_rows == 10**6:
        longest = PROMPT_LENGTH + int(split.lengths.max())
        assert all(size == RUNS or size * (PROMPT_LENGTH + 1) <= 4 * most_positions for size in done)
        assert len(done) == 1 or max(done) * longest * 2 > 4 * most_positions


def test_texts_are_those_of_each_row_alone(t5, split, output):
    found = predict_split(Limited(t5, 9), output, split, np.arange(ROWS), Pieces(get_task("squad"), Numbers()), 10**6)
    alone = _alone(t5, split, output, lambda *inputs: generate(*inputs, MAX_ANSWER_PIECES))
    assert found.tolist() == [[" ".join(map(str, text)) for text in texts] for texts in alone]
    assert len(np.unique(found.astype(str))) > 3


def test_errors_that_smaller_batches_do_not_mend_are_raised(t5, split, output):
    answers, rows = Pieces(get_task("sst2"), None), np.arange(ROWS)
    with pytest.raises(torch.OutOfMemoryError):
        predict_split(Limited(t5, RUNS - 1), output, split, rows, answers, 10**6)
    other = Limited(t5, 4, RuntimeError("another"))
    with pytest.raises(RuntimeError, match="another"):
        predict_split(other, output, split, rows, answers, 10**6)
    assert other.passes == [RUNS * ROWS]


@pytest.mark.parametrize("name", ["rte", "cb", "stsb"])
def test_open_and_closed_predictions_are_those_of_each_row_alone(t5, split, output, name):
    task, answers = get_task(name), Pieces(get_task(name), None)
    labels, scores = answers.label_ids(), task.kind == "regression"
    found = predict_split_both(Limited(t5, 9), output, split, np.arange(ROWS), answers, 10**6)
    opened = _alone(t5, split, output, lambda *inputs: predict_labels(*inputs, labels).tolist())
    strings = labels if scores else [label[:-1] for label in labels]
    closed = _alone(t5, split, output, lambda *inputs: score_candidates(*inputs, strings).argmax(1).tolist())
    named = {-1: -1, **{number: float(label) for number, label in enumerate(task.labels)}}
    if scores:
        opened, closed = ([[named[answer] for answer in run] for run in runs] for runs in (opened, closed))
    assert found.open.tolist() == opened and found.closed.tolist() == closed
    assert found.reported(task).tolist() == (closed if scores else opened)
    assert found.invalid_shares() == [run.count(-1) / ROWS for run in opened]
    plain = predict_split(Limited(t5), output, split, np.arange(ROWS), answers, 10**6)
    np.testing.assert_array_equal(found.reported(task), plain)


def test_free_text_has_no_closed_rule(t5, split, output):
    answers = Pieces(get_task("squad"), Numbers())
    found = predict_split_both(Limited(t5), output, split, np.arange(ROWS), answers, 10**6)
    assert found.closed is None and found.invalid_shares() is None
    assert found.reported(answers.task) is found.open


class Labeled:
    """What the majority needs of a split."""

    def __init__(self, labels):
        self.labels, self.groups = np.array(labels, dtype=float), [""] * len(labels)

    def __len__(self):
        return len(self.labels)

    def answers(self, row):
        return ["yes"]


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.kind == "classification"])
@given(data=st.data())
@settings(deadline=None, max_examples=20)
def test_the_majority_is_the_constant_that_scores_best_on_validation(name, data):
    task = get_task(name)
    classes = range(len(task.labels))
    labels = st.lists(st.sampled_from(list(classes)), min_size=1, max_size=20)
    train, validation = Labeled(data.draw(labels)), Labeled(data.draw(labels))
    rows = np.arange(len(validation))
    found = majority_answer(task, train, validation, rows)
    truth = references(validation, rows, task)
    scores = [score(task, constant_predictions(each, len(rows)), truth)[task.metrics[0]] for each in classes]
    assert scores[found] == max(scores)
    ties = [each for each in classes if scores[each] == max(scores)]
    counts = train.labels.tolist()
    assert counts.count(found) == max(counts.count(each) for each in ties)


def test_the_majority_of_multirc_answers_yes():
    """F1 of class 1 is 0 for the constant 0, however common."""
    task, split = get_task("multirc"), Labeled([0] * 14 + [1] * 11)
    assert majority_answer(task, split, split, np.arange(25)) == 1
    truth = references(split, np.arange(25), task)
    assert score(task, constant_predictions(1, 25), truth)["f1"] == pytest.approx(100 * 2 * 11 / (11 + 25))


def test_the_majority_of_scores_and_texts():
    split = Labeled([1.0, 2.0, 4.5])
    assert majority_answer(get_task("stsb"), split, split, np.arange(3)) == 2.5
    assert constant_predictions(majority_answer(get_task("squad"), split, split, np.arange(3)), 2).tolist() == ["", ""]


def test_what_is_noteworthy_about_predictions():
    rte, cola, stsb = get_task("rte"), get_task("cola"), get_task("stsb")
    assert noteworthy(rte, np.array([0, 1, 1]), 0.0) == []
    (note,) = noteworthy(rte, np.array([0, 1, -1, 1]), 0.25)
    assert "25.0 %" in note
    (note,) = noteworthy(rte, np.array([-1, -1]), 1.0)
    assert "100.0 %" in note
    for task, metric in ((cola, "matthews"), (stsb, "pearson")):
        (note,) = noteworthy(task, np.array([1.0, 1.0]), 0.0)
        assert metric in note and " 1;" in note
    assert "every" in noteworthy(rte, np.array([1, 1]), 0.0)[0]
    assert noteworthy(get_task("squad"), np.array(["a", "a"], dtype=object), None) == []


def test_logits_of_one_pass_are_bounded(t5, split, output, monkeypatch):
    """Score strings have many prefixes, each with logits of the whole vocabulary."""
    backbone, answers = Limited(t5), Pieces(get_task("stsb"), None)
    rows, prefixes = np.arange(ROWS), 1 + len({label[:1] for label in map(tuple, answers.label_ids())}) + 26
    assert answers.prefixes == prefixes
    whole = predict_split(backbone, output, split, rows, answers, 10**6)
    assert backbone.passes == [RUNS * ROWS]
    monkeypatch.setattr("ept.evaluation.score.MOST_LOGITS", 7 * RUNS * prefixes * 12)
    backbone.passes.clear()
    np.testing.assert_array_equal(predict_split(backbone, output, split, rows, answers, 10**6), whole)
    assert backbone.passes == [RUNS * 7] * 4 + [RUNS * 2]
