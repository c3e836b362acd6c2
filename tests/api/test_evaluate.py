"""Scores of a prompt on labeled rows: against scikit-learn, in groups, and what a label column may hold."""

import numpy as np
import pytest
from scipy.stats import t
from sklearn.metrics import accuracy_score, f1_score

import ept
from ept.errors import InputError
from ept.methods.prompt_file import read_prompt, save_prompt
from ept.tasks.registry import TASKS


@pytest.fixture
def prompt(prompt_files):
    """A random prompt with the labels 0 and 1."""
    return ept.Prompt.from_pretrained(prompt_files["ept"])


@pytest.fixture
def as_task(prompt_files, tmp_path):
    """A function name -> a random prompt for that task of the package, or with these facts."""

    def make(name, **facts):
        saved, task = read_prompt(prompt_files["pt"]), TASKS.get(name)
        if task:
            facts = {key: getattr(task, key) for key in ("template", "labels", "kind", "cue")} | facts
        metadata = {**saved.metadata, "task": name, "metrics": task.metrics if task else None, **facts}
        save_prompt(tmp_path / "task.safetensors", saved.tensors, saved.collapsed, metadata)
        return ept.Prompt.from_pretrained(tmp_path / "task.safetensors")

    return make


def test_scores_and_intervals_of_a_classification(model, prompt, texts):
    labels = [str(place % 2) for place in range(len(texts))]
    rows = [{"sentence": text, "mood": label} for text, label in zip(texts, labels, strict=True)]
    found = ept.evaluate(iter(rows), label="mood", prompt=prompt, model=model)
    # What is no label counts as wrong.
    answers = [str(answer) for answer in model.predict(texts, prompt, decoding="open")]
    right = np.array([answer == label for answer, label in zip(answers, labels, strict=True)])
    assert found["accuracy"].value == pytest.approx(100 * accuracy_score(labels, answers))
    assert found["macro_f1"].value == pytest.approx(
        100 * f1_score(labels, answers, labels=sorted({*labels, *answers} - {"None"}), average="macro", zero_division=0)
    )
    # The t interval of a share over 24 rows with half a right and half a wrong one more, where that is wider.
    share, more = right.mean(), (right.sum() + 0.5) / 25
    half = t.ppf(0.975, 23) * 100 * np.sqrt(max(share * (1 - share) / 24, more * (1 - more) / 25))
    assert found["accuracy"].low == pytest.approx(max(100 * share - half, 0), abs=0.15 * half)
    assert found["accuracy"].high == pytest.approx(min(100 * share + half, 100), abs=0.15 * half)
    numbers = [{**row, "mood": int(row["mood"])} for row in rows]
    assert ept.evaluate(numbers, label="mood", prompt=prompt, model=model) == found


def test_rows_of_one_question_are_resampled_together(model, as_task, texts):
    """Twelve copies of one row are one observation: the interval is that of two rows, not of 24."""
    (grouped,) = {name for name, task in TASKS.items() if "exact_match" in task.metrics and task.groups}
    prompt = as_task(grouped)
    idx = TASKS[grouped].groups
    columns = dict.fromkeys(TASKS[grouped].columns, "a word")
    rows = [
        {**columns, "idx": dict.fromkeys(idx, place % 2) | {"answer": place}, "label": place % 2} for place in range(24)
    ]
    found = ept.evaluate(rows, label="label", prompt=prompt, model=model)
    answers = model.predict(rows, prompt, decoding="open")
    # Equal texts have one answer: it is right for the rows of one question at most.
    right = [answer == prompt.labels[row["label"]] for answer, row in zip(answers, rows, strict=True)]
    assert found["exact_match"].value == pytest.approx(100 * np.mean(right))
    if any(right):
        assert (found["exact_match"].low, found["exact_match"].high) == (0, 100)
    with pytest.raises(InputError) as error:
        ept.evaluate([{**columns, "label": 1}], label="label", prompt=prompt, model=model)
    assert "idx" in str(error.value) and "row 0" in str(error.value)


def test_any_of_several_texts_is_right(model, as_task, texts):
    prompt = as_task("free", kind="extraction", labels=[])
    written = model.predict(texts, prompt)
    for label in ([*written], [["x y z", text] for text in written], [{"text": [text]} for text in written]):
        rows = [{"sentence": text, "answer": one} for text, one in zip(texts, label, strict=True)]
        found = ept.evaluate(rows, label="answer", prompt=prompt, model=model)
        # 24 of 24: half a wrong answer more leaves the score uncertain, in the mean of F1 too.
        more = 24.5 / 25
        low = 100 - t.ppf(0.975, 23) * 100 * np.sqrt(more * (1 - more) / 25)
        for score in found.values():
            assert (score.value, score.high) == (100, 100)
            assert score.low == pytest.approx(low)


def test_scores_of_a_regression(model, as_task, texts):
    from scipy.stats import pearsonr, spearmanr

    prompt = as_task("score", kind="regression", labels=["0.0", "1.0", "2.0", "3.0"])
    truth = np.arange(len(texts)) % 5 / 2
    rows = [{"sentence": text, "score": str(value)} for text, value in zip(texts, truth, strict=True)]
    found = ept.evaluate(rows, label="score", prompt=prompt, model=model)
    answers = model.predict(texts, prompt)
    varied = len(set(answers)) > 1
    assert found["pearson"].value == pytest.approx(100 * pearsonr(answers, truth)[0] if varied else 0)
    assert found["spearman"].value == pytest.approx(100 * spearmanr(answers, truth)[0] if varied else 0)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], ["no rows"]),
        ([{"sentence": "a", "mood": "0"}, {"sentence": "b"}], ["row 1", "mood"]),
        ([{"sentence": "a", "mood": "good"}], ["row 0", "good", "0, 1"]),
        ([{"sentence": "a", "mood": 2}], ["row 0", "2"]),
        ([{"text": "a", "mood": "0"}], ["sentence"]),
    ],
    ids=["none", "no label", "no word", "no number", "no text"],
)
def test_mistakes_are_one_sentence(model, prompt, rows, words):
    with pytest.raises(InputError) as error:
        ept.evaluate(rows, label="mood", prompt=prompt, model=model)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)
