"""Scores of a prompt on labeled rows, with intervals over the rows."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ept.api.prompt import Prompt
from ept.api.prompted import Prompted
from ept.api.rows import Place, cell, check_texts, right_answer
from ept.api.share import Score
from ept.errors import InputError
from ept.evaluation import metrics
from ept.results.statistics import estimate, sample_predictions
from ept.tasks.record import Task


def evaluate(
    rows: Iterable[Mapping[str, Any]], *, label: str, prompt: Prompt, model: Prompted, batch_size: int = 32
) -> dict[str, Score]:
    """The metrics of the prompt's task on labeled rows, scored as the result tables score (open decoding).

    Args:
        rows: Labeled rows as dictionaries with the template's columns.
        label: The column with the right answer: a label word, its number, a number (regression) or a text; for free
            text also a list of texts, any of which is right.
        prompt: The prompt.
        model: The backbone.
        batch_size: Rows in one pass.

    Returns:
        Every metric with its 95 % interval over the rows, computed as in the result tables (docs/statistics.md, "One
        seed"). Rows that the task scores together (the answers to one question) are resampled together.

    Raises:
        InputError: There are no rows, a label is missing or unknown, or the prompt does not fit the backbone.
    """
    return score_rows([dict(row) for row in rows], label, prompt, model, batch_size, "row {}".format)


def score_rows(
    given: list[dict[str, Any]], label: str, prompt: Prompt, model: Prompted, batch_size: int, place: Place
) -> dict[str, Score]:
    """What `evaluate` returns; `place` says what messages call a row by its number from 0."""
    if not given:
        raise InputError("there are no rows to score")
    task = prompt.task
    truth = _references(prompt, given, label, place)
    check_texts(given, [prompt] * len(given), place)
    answers = model.predict(given, prompt, decoding="open", batch_size=batch_size)
    if task.kind == "extraction":
        predictions: np.ndarray = np.array(answers, dtype=object)
    elif task.kind == "regression":
        predictions = np.array(answers, dtype=np.float64)
    else:
        numbers = {word: number for number, word in enumerate(prompt.labels)}
        predictions = np.array([numbers.get(answer, metrics.INVALID) for answer in answers], dtype=np.int64)
    result = {}
    for name in task.metrics:
        found = estimate([sample_predictions(name, {0: predictions}, truth, task)])
        result[name] = Score(found.mean, *found.interval)
    return result


def _references(prompt: Prompt, rows: list[dict[str, Any]], label: str, place: Place) -> metrics.References:
    """What was right for each row, and which rows are scored together."""
    task = prompt.task
    # A column of class numbers, where the labels are words.
    numbers = set(map(str, range(len(prompt.labels)))) - set(prompt.labels) if task.kind == "classification" else set()
    truth: list[Any] = []
    for number, row in enumerate(rows):
        value = cell(row, label, place(number))
        named = f"{place(number)}: column {label!r}"
        truth.append(int(value) if str(value) in numbers else right_answer(task, value, named))
    groups = [_group(task, row, place(number)) for number, row in enumerate(rows)]
    if task.kind == "extraction":
        return metrics.References(labels=np.full(len(rows), np.nan), groups=groups, answers=truth)
    return metrics.References(labels=np.array(truth, dtype=np.float64), groups=groups)


def _group(task: Task, row: Mapping[str, Any], place: str) -> str:
    """The group of a row of a task whose rows are scored in groups; empty for other tasks."""
    if not task.groups:
        return ""
    idx = row.get("idx")
    if not isinstance(idx, Mapping) or not all(field in idx for field in task.groups):
        raise InputError(
            f"{place} lacks the column 'idx' with {' and '.join(task.groups)}, by which {task.title} scores rows "
            "together; use jsonl or Parquet rows that hold it"
        )
    return "/".join(str(idx[field]) for field in task.groups)
