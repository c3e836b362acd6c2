"""Paired tests between rows of a table, over seeds and test examples, with correction for many comparisons."""

from collections.abc import Sequence

import numpy as np

from ept.results.intervals import Estimate, Sample, estimate

# A difference with a smaller corrected p value is taken as real.
LEVEL = 0.05


def paired_difference(first: Sequence[Sample], second: Sequence[Sample]) -> Estimate:
    """First minus second in the mean over tasks, paired by task, seed and test example; `.p` is the test's."""
    return estimate([a - b for a, b in zip(first, second, strict=True)])


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's (1979) corrected p values [tests]: the chance of any false positive among all tests stays at the level."""
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty_like(p_values)
    corrected[order] = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    return np.minimum(corrected, 1.0)


def mark_not_separated(rows: list[dict]) -> None:
    """Set `not_separated` in every row: whether a paired test does not tell it from the best of its column.

    A column is a task and a metric; every other training's `samples` are compared with those of the row with the best
    mean, with Holm's correction within the column. Rows of the same `trainings` (EPT and N = 4) are one test.
    """
    columns: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        columns.setdefault((row["task"], row["metric"]), []).append(row)
    for column in columns.values():
        trainings = {row["trainings"]: row for row in column}
        best = max(trainings.values(), key=lambda row: row["mean"])
        others = {name: row for name, row in trainings.items() if row is not best}
        corrected = holm([paired_difference(best["samples"], row["samples"]).p for row in others.values()])
        not_separated = dict(zip(others, corrected >= LEVEL, strict=True))
        for row in column:
            row["not_separated"] = bool(not_separated.get(row["trainings"], False))
