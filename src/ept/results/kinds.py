"""The kinds of tables. A new one is a module that makes its rows and its layout, and one line here."""

from collections.abc import Callable
from dataclasses import dataclass

from ept.experiment import Experiment
from ept.pack import Pack
from ept.results import columns, comparison, scores
from ept.results.layout import Layout
from ept.table_plan import ABLATION, COMPARISON


@dataclass(frozen=True)
class Kind:
    """`make` reads the records behind a table and gives its rows and the form in which people read them.

    A row may hold more than the `columns` of the CSV file. `make` raises InputError where a record is missing or not of
    this configuration.
    """

    columns: tuple[str, ...]
    make: Callable[[Experiment, list[Pack]], tuple[list[dict], Layout]]


SCORES = Kind(columns.SCORES, scores.make_table)
KINDS = {
    ABLATION: Kind(columns.ABLATION, scores.make_table),
    COMPARISON: Kind(columns.COMPARISON, comparison.make_table),
}


def kind_of(table: str) -> Kind:
    """What a table is; one without a kind of its own (the main table and the few-shot ones) has scores of methods."""
    return KINDS.get(table, SCORES)
