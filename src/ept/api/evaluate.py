"""Scores of a prompt on labeled rows, with intervals over the rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ept.api.prompt import Prompt
from ept.api.prompted import Prompted
from ept.errors import InputError
from ept.evaluation import metrics

DRAWS = 2000


@dataclass(frozen=True)
class Score:
    """A metric in percent with its 95 % interval."""

    value: float
    low: float
    high: float


def evaluate_rows(
    model: Prompted, prompt: Prompt, rows: Sequence[Mapping[str, Any]], label: str, batch_size: int = 32
) -> dict[str, Score]:
    """The metrics of the prompt's task on labeled rows, scored as the result tables score (open decoding).

    Args:
        model: The backbone.
        prompt: The prompt.
        rows: Dictionaries with the template's columns and the label.
        label: The column with the right answer: a label word, its number, a number (regression) or a text.
        batch_size: Rows in one pass.

    Returns:
        Every metric with a 95 % percentile interval from 2,000 seeded resamples of the rows.

    Raises:
        InputError: There are no rows, or a label is missing or unknown.
    """
    if not rows:
        raise InputError("there are no rows to score")
    task = prompt.task
    truth = [_truth(prompt, row, number, label) for number, row in enumerate(rows)]
    answers = model.predict([dict(row) for row in rows], prompt, decoding="open", batch_size=batch_size)
    if task.kind == "extraction":
        predictions: np.ndarray = np.array(answers, dtype=object)
        labels = np.full(len(rows), np.nan)
    else:
        numbers = {word: number for number, word in enumerate(prompt.labels)}
        found = [numbers.get(answer, -1) if task.kind == "classification" else answer for answer in answers]
        predictions = np.array(found, dtype=np.int64 if task.kind == "classification" else np.float64)
        labels = np.array(truth, dtype=np.float64)
    texts = [[str(answer)] for answer in truth] if task.kind == "extraction" else []
    groups = [str(number) for number in range(len(rows))]

    def scored(places: np.ndarray) -> dict[str, float]:
        references = metrics.References(
            labels=labels[places],
            groups=[groups[place] for place in places],
            answers=[texts[place] for place in places] if texts else [],
        )
        return {name: metrics.compute(name, predictions[places], references, task) for name in task.metrics}

    generator = np.random.default_rng(0)
    whole = scored(np.arange(len(rows)))
    draws = [scored(generator.integers(0, len(rows), len(rows))) for _ in range(DRAWS)]
    result = {}
    for name, value in whole.items():
        low, high = np.nanpercentile([draw[name] for draw in draws], [2.5, 97.5])
        result[name] = Score(value, float(low), float(high))
    return result


def _truth(prompt: Prompt, row: Mapping[str, Any], number: int, label: str) -> Any:
    if row.get(label) is None:
        raise InputError(f"row {number} lacks the label column {label!r}; name it with --label")
    value, kind = row[label], prompt.task.kind
    if kind == "extraction":
        return value
    if kind == "regression":
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise InputError(f"row {number}: {label} is {value!r}, which is not a number") from error
    if str(value) in prompt.labels:
        return prompt.labels.index(str(value))
    raise InputError(f"row {number}: {label} is {value!r}; the prompt's labels are {', '.join(prompt.labels)}")
