"""Two configurations, or two tables, side by side: scores, paired differences, and the settings that differ."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ept.config.configuration import load_configuration
from ept.errors import InputError
from ept.evaluation.metrics import References
from ept.methods.registry import METHODS
from ept.plan.experiment import Experiment
from ept.results.records import PackResult, collect, read_table
from ept.results.render import Cell, Layout, p_text, signed
from ept.results.statistics import (
    LEAST_SEEDS,
    LEVEL,
    Sample,
    distinct_averages,
    estimate,
    group,
    holm,
    metric_sample,
    paired_difference,
    tested_p,
)
from ept.results.tables.scores import FROM_SOURCE, column_order, column_title

SAME_RUNS, OTHER_DATA = "same runs", "other test data"
NOTES = (
    "Scores in percent. B − A: difference in points with its 95 % interval, paired by seed and test example, on the "
    "seeds that both have.",
    f"p: Holm-corrected over all lines; not given with fewer than {LEAST_SEEDS} seeds in common. * p < {LEVEL}.",
)
# Keys of a configuration that change no result.
NAMES_ONLY = ("output",)
# Method, variant, and start: what a row of A and one of B have in common.
RowKey = tuple[str, str, str]


@dataclass(frozen=True)
class Side:
    """One of the two: an experiment and the table of it that is compared."""

    path: Path
    experiment: Experiment
    table: str

    @staticmethod
    def of(path: Path, table: str | None) -> "Side":
        """A configuration (YAML) with its table `table`, or a table's CSV file.

        Raises InputError for a file that is neither.
        """
        if path.suffix != ".csv":
            return Side(path, Experiment(load_configuration(path)), table or "main")
        if table:
            raise InputError(f"{path} is a table already; leave out --table")
        configuration = Path(read_table(path).configuration)
        return Side(path, Experiment(load_configuration(configuration)), path.stem)

    def rows(self) -> dict[RowKey, dict[str, PackResult]]:
        """The results by row and task."""
        packs = self.experiment.table_packs(self.table)
        return {
            (members[0].pack.method, members[0].pack.variant.name, members[0].start): {
                member.pack.task: member for member in members
            }
            for members in group(collect(packs))
        }


def compare(first: Path, second: Path, table: str | None = None) -> tuple[Layout, list[str]]:
    """Compare two configurations or tables.

    Args:
        first: A configuration, or a table's CSV file: A.
        second: The other one: B.
        table: The table of configurations, for example fewshot_k16; main if None.

    Returns:
        The comparison, and one line for each setting that differs.

    Raises:
        InputError: A file is neither, runs are missing or damaged, or the two have no row and task in common.
    """
    a, b = Side.of(first, table), Side.of(second, table)
    lines = list(_lines(a.rows(), b.rows()))
    if not lines:
        raise InputError(f"{first} and {second} have no method and task in common in the table {a.table}")
    corrected = holm([line.p for line in lines])
    head = ["method", "task", "A", "B", "B − A", "interval", "p"]
    cells = [line.cells(float(p)) for line, p in zip(lines, corrected, strict=True)]
    return Layout(head, cells, [f"A: {first}, B: {second}.", *NOTES]), differences(a, b)


def differences(a: Side, b: Side) -> list[str]:
    """The settings that differ: key, value in A, value in B."""
    mine, theirs = (flat(side.experiment.config.model_dump(mode="json")) for side in (a, b))
    if a.table != b.table:
        mine, theirs = {"table": a.table, **mine}, {"table": b.table, **theirs}
    keys = [key for key in {**mine, **theirs} if key not in NAMES_ONLY and mine.get(key) != theirs.get(key)]
    return [f"{key}: {json.dumps(mine.get(key))} | {json.dumps(theirs.get(key))}" for key in keys]


def flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested keys as one name with dots: {"training": {"steps": 3}} is {"training.steps": 3}."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return found


@dataclass(frozen=True)
class _Line:
    method: str
    column: str
    a: list[Sample]
    b: list[Sample]
    why_not: str

    @property
    def p(self) -> float:
        return math.nan if self.why_not else tested_p(paired_difference(self.b, self.a))

    def cells(self, p: float) -> list[Cell]:
        scores = [Cell(self.method), Cell(self.column), *(Cell(f"{estimate(s).mean:.1f}") for s in (self.a, self.b))]
        if self.why_not:
            return [*scores, Cell(), Cell(), Cell(self.why_not)]
        difference = paired_difference(self.b, self.a)
        low, high = difference.interval
        interval = "" if math.isnan(low) else f"{signed(low)} to {signed(high)}"
        return [*scores, Cell(signed(difference.mean), bold=p < LEVEL), Cell(interval), Cell(p_text(p))]


def _lines(first: dict[RowKey, dict[str, PackResult]], second: dict[RowKey, dict[str, PackResult]]) -> Iterator[_Line]:
    """A line for each row and average or task that both have."""
    for key in [key for key in first if key in second]:
        mine, theirs = first[key], second[key]
        tasks = [task for task in mine if task in theirs]
        metrics = {task: mine[task].pack.record.metrics[0] for task in tasks}
        columns = [(task, metrics[task], [task]) for task in tasks]
        columns += [(name, "average", members) for name, members in distinct_averages(tasks).items()]
        samples = [{task: metric_sample(side[task], metrics[task]) for task in tasks} for side in (mine, theirs)]
        for task, metric, members in sorted(columns, key=lambda column: column_order(column[:2])):
            a, b = ([side[member] for member in members] for side in samples)
            pairs = [(mine[member], theirs[member]) for member in members]
            yield _Line(_title(key), column_title(task, metric), a, b, _why_not_tested(pairs))


def _why_not_tested(pairs: list[tuple[PackResult, PackResult]]) -> str:
    if all(a.pack.hash == b.pack.hash for a, b in pairs):
        return SAME_RUNS
    if not all(_same(a.truth, b.truth) for a, b in pairs):
        return OTHER_DATA
    seeds = [set(a.predictions) & set(b.predictions) for a, b in pairs]
    return "" if all(seeds) else "no seed in common"


def _same(a: References, b: References) -> bool:
    """Whether two runs were tested on the same examples, by their gold answers."""
    return (
        np.array_equal(a.labels, b.labels)
        and list(a.groups) == list(b.groups)
        and [list(answers) for answers in a.answers] == [list(answers) for answers in b.answers]
    )


def _title(key: RowKey) -> str:
    method, variant, start = key
    from_source = start != "scratch" and METHODS[method].start == "optional"
    return variant or METHODS[method].title + FROM_SOURCE * from_source
