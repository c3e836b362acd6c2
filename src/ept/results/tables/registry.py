"""The kinds of tables. A new one is a module with `make_table`, and one line here."""

import importlib
from dataclasses import dataclass

from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.plan.tables import ABLATION, COMPARISON, EFFICIENCY, LEARNING_RATES, SIGNIFICANCE, TRANSFER, TRANSFER_GAINS
from ept.results.render import Layout

SCORES_COLUMNS = (
    "backbone",
    "method",
    "task",
    "regime",
    "source",
    "metric",
    "mean",
    "std",
    "seeds",
    "ci_low",
    "ci_high",
    "trained_parameters",
    "stored_parameters",
    "majority_baseline",
)
ABLATION_COLUMNS = ("backbone", "method", "variant", *SCORES_COLUMNS[2:])
# Scores from a source prompt, then what it brought over a start from scratch, and how the source was chosen.
TRANSFER_COLUMNS = (
    *SCORES_COLUMNS,
    "scratch_mean",
    "gain",
    "gain_low",
    "gain_high",
    "effect",
    "chosen_by",
    "selection_score",
    "choice",
)
# Our scores, then published ones beside them.
COMPARISON_COLUMNS = (
    *(name for name in SCORES_COLUMNS if name not in ("stored_parameters", "majority_baseline")),
    "published_method",
    "published_backbone",
    "published_parameters",
    "published",
    "published_source",
    "comparable",
    "gap",
    "difference",
)
SIGNIFICANCE_COLUMNS = (
    "backbone",
    "regime",
    "task",
    "metric",
    "method_a",
    "start_a",
    "method_b",
    "start_b",
    "mean_a",
    "mean_b",
    "difference",
    "ci_low",
    "ci_high",
    "p",
    "p_corrected",
    "seeds",
)
EFFICIENCY_COLUMNS = (
    "backbone",
    "method",
    "regime",
    "tasks",
    "runs",
    "runs_together",
    "train_seconds",
    "train_seconds_per_run",
    "examples_per_second",
    "peak_memory_bytes",
    "trained_parameters",
    "stored_parameters",
    "train_device",
    "train_threads",
    "inference_seconds",
    "inference_ratio",
    "inference_task",
    "inference_rows",
    "inference_length",
    "inference_device",
    "inference_threads",
)
LEARNING_RATES_COLUMNS = (
    "backbone",
    "method",
    "task",
    "regime",
    "source",
    "learning_rates",
    "metric",
    "validation_mean",
    "validation_std",
    "seeds",
    "diverged",
    "reported",
)


@dataclass(frozen=True)
class Kind:
    """How tables of one kind are made: `maker` is "module:function" below ept.results.tables.

    It is imported when a table is made, because `efficiency` needs torch. A row may hold more than the CSV's `columns`.
    """

    columns: tuple[str, ...]
    maker: str

    def make(self, experiment: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
        """The rows, and the form in which people read them. Raises InputError where a record is missing or not of this
        configuration.
        """
        module, function = self.maker.split(":")
        return getattr(importlib.import_module(f"ept.results.tables.{module}"), function)(experiment, packs)


SCORES = Kind(SCORES_COLUMNS, "scores:make_table")
KINDS = {
    ABLATION: Kind(ABLATION_COLUMNS, "scores:make_table"),
    COMPARISON: Kind(COMPARISON_COLUMNS, "comparison:make_table"),
    SIGNIFICANCE: Kind(SIGNIFICANCE_COLUMNS, "significance:make_table"),
    EFFICIENCY: Kind(EFFICIENCY_COLUMNS, "efficiency:make_table"),
    LEARNING_RATES: Kind(LEARNING_RATES_COLUMNS, "learning_rates:make_table"),
    TRANSFER: Kind(TRANSFER_COLUMNS, "transfer:make_table"),
    TRANSFER_GAINS: Kind(TRANSFER_COLUMNS, "transfer:make_gains_table"),
}


def kind_of(table: str) -> Kind:
    """What a table is; one without a kind of its own (the main table and the few-shot ones) has scores of methods."""
    return KINDS.get(table, SCORES)
