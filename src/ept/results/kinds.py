"""The kinds of tables. A new one is a module with `make_table`, and one line here."""

import importlib
from dataclasses import dataclass

from ept.experiment import Experiment
from ept.pack import Pack
from ept.results import columns
from ept.results.layout import Layout
from ept.table_plan import ABLATION, COMPARISON, EFFICIENCY, LEARNING_RATES, SIGNIFICANCE, TRANSFER, TRANSFER_GAINS


@dataclass(frozen=True)
class Kind:
    """`module` is the one in ept.results whose `make_table(experiment, packs)` makes tables of this kind.

    It is imported when one is made: the table `efficiency` needs torch. A row may hold more than the CSV's `columns`.
    """

    columns: tuple[str, ...]
    module: str

    def make(self, experiment: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
        """The rows, and the form in which people read them. Raises InputError where a record is missing or not of this
        configuration.
        """
        return importlib.import_module(f"ept.results.{self.module}").make_table(experiment, packs)


SCORES = Kind(columns.SCORES, "scores")
KINDS = {
    ABLATION: Kind(columns.ABLATION, "scores"),
    COMPARISON: Kind(columns.COMPARISON, "comparison"),
    SIGNIFICANCE: Kind(columns.SIGNIFICANCE, "significance"),
    EFFICIENCY: Kind(columns.EFFICIENCY, "efficiency"),
    LEARNING_RATES: Kind(columns.LEARNING_RATES, "learning_rates"),
    TRANSFER: Kind(columns.TRANSFER, "transfer"),
    TRANSFER_GAINS: Kind(columns.TRANSFER, "transfer_gains"),
}


def kind_of(table: str) -> Kind:
    """What a table is; one without a kind of its own (the main table and the few-shot ones) has scores of methods."""
    return KINDS.get(table, SCORES)
