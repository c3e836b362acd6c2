"""What figures are drawn from: the tables' rows and the records of the runs behind them."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ept.errors import InputError
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.results.records import check_table_file, read_record, read_rows, read_table_settings

# A row of a table: text, and numbers as floats.
Row = dict[str, Any]


@dataclass(frozen=True)
class PackRecord:
    """A pack and the content of its runs.json."""

    pack: Pack
    content: dict

    @property
    def runs(self) -> list[dict]:
        """All runs, those of learning rates that were not chosen included."""
        return self.content["runs"]

    @property
    def selected(self) -> list[dict]:
        """The runs that tables report, one a seed."""
        return [run for run in self.runs if run["selected"]]

    @property
    def metric(self) -> str:
        """The task's first metric, which selects checkpoints."""
        return self.pack.record.metrics[0]


class Results:
    """The tables and records of a finished experiment; each file is read once."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self._rows: dict[str, list[Row]] = {}

    def rows(self, table: str, **wanted: str) -> list[Row]:
        """The rows of a table that have these values: cells that are numbers as floats, empty cells as NaN.

        Raises InputError for a table that was not made yet, was changed since, or lacks a wanted column.
        """
        path = paths.table_file(self.experiment.config.output, table)
        if table not in self._rows:
            rows = read_rows(path)
            check_table_file(path, read_table_settings(paths.table_settings_file(self.experiment.config.output, table)))
            self._rows[table] = [{name: _cell(text) for name, text in row.items()} for row in rows]
        found = self._rows[table]
        if missing := [name for name in wanted if found and name not in found[0]]:
            raise InputError(f"{path} lacks the column {missing[0]!r}; make it again with `ept table --table {table}`")
        return [row for row in found if all(row[name] == value for name, value in wanted.items())]

    def averages(self, table: str) -> list[Row]:
        """The rows of a table with the averages over all tasks."""
        return self.rows(table, task="average")

    @cached_property
    def full_data(self) -> list[PackRecord]:
        """The records behind the main table."""
        return self.records("main")

    def records(self, table: str) -> list[PackRecord]:
        """The records behind a table."""
        return [PackRecord(pack, read_record(pack.folder, pack.hash)) for pack in self.experiment.table_packs(table)]

    def of_method(self, method: str) -> list[PackRecord]:
        """The full-data records of a method, one a task."""
        return [record for record in self.full_data if record.pack.method == method]


def _cell(text: str | None) -> str | float:
    if not text:
        return math.nan
    try:
        return float(text)
    except ValueError:
        return text


def intervals(rows: list[Row]) -> tuple[list[float], list[float]]:
    """How far the 95 % intervals of rows reach below and above their means, as matplotlib wants error bars."""
    return [row["mean"] - row["ci_low"] for row in rows], [row["ci_high"] - row["mean"] for row in rows]


def mean_curve(points: Iterable[tuple[int, float]]) -> tuple[list[int], list[float]]:
    """(steps, means) of (step, value) points of several runs; a run that ended early is missing from later means."""
    by_step: dict[int, list[float]] = {}
    for step, value in points:
        by_step.setdefault(step, []).append(value)
    steps = sorted(by_step)
    return steps, [statistics.mean(by_step[step]) for step in steps]
