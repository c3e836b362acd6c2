"""The kinds of tables. A new one is a module with `make_table`, and one line here."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.plan.tables import (
    ABLATION,
    COMPARISON,
    EFFICIENCY,
    LEARNING_RATES,
    MAIN,
    SIGNIFICANCE,
    TRANSFER,
    TRANSFER_GAINS,
    ZERO_SHOT,
    few_shot_table,
)
from ept.results.render import Layout

_SCORE_COLUMNS = (
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
# What a row of scores rests on besides: combinations of learning rates tried; labeled validation examples that chose
# among checkpoints and rates; the mean score where the answer is free (the whole vocabulary) and where it is one of the
# labels; the percentage of free answers that are no label; the runs that started from a source prompt that diverged.
BASIS_COLUMNS = (
    "combinations",
    "validation_labels",
    "open_mean",
    "closed_mean",
    "invalid_share",
    "diverged_sources",
)
SCORES_COLUMNS = (*_SCORE_COLUMNS, *BASIS_COLUMNS)
# Scores of EPT's variants, then what EPT has more than each.
ABLATION_COLUMNS = (
    "backbone",
    "method",
    "variant",
    *SCORES_COLUMNS[2:],
    "difference",
    "difference_low",
    "difference_high",
    "p_corrected",
)
# Scores from a source prompt, then what it brought over a start from scratch, and how the source was chosen.
TRANSFER_COLUMNS = (
    *_SCORE_COLUMNS,
    "scratch_mean",
    "gain",
    "gain_low",
    "gain_high",
    "effect",
    "chosen_by",
    "selection_score",
    "choice",
    *BASIS_COLUMNS,
)
# Our scores, then published ones beside them.
COMPARISON_COLUMNS = (
    *(name for name in _SCORE_COLUMNS if name not in ("stored_parameters", "majority_baseline")),
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
    "p_prompts",
    "p_prompts_corrected",
    "family",
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
    `title` and `caption` say what the report's reader sees.
    """

    columns: tuple[str, ...]
    maker: str
    caption: str
    title: str = ""

    def make(self, experiment: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
        """The rows, and the form in which people read them.

        Raises InputError where a record is missing or not of this configuration.
        """
        module, function = self.maker.split(":")
        return getattr(importlib.import_module(f"ept.results.tables.{module}"), function)(experiment, packs)


_SCORES = (
    "mean and standard deviation over seeds in percent, 95 % intervals over seeds and test examples, and the majority "
    "baseline"
)
SCORES = Kind(SCORES_COLUMNS, "scores:make_table", f"Test scores: {_SCORES}.")
KINDS = {
    ABLATION: Kind(
        ABLATION_COLUMNS,
        "significance:make_ablation_table",
        f"Test scores of variants of EPT trained on full data: {_SCORES}; paired tests between EPT and each variant.",
        "Variants of EPT",
    ),
    COMPARISON: Kind(
        COMPARISON_COLUMNS,
        "comparison:make_table",
        "Full-data test scores next to published ones, and how the runs differ.",
        "Next to published scores",
    ),
    SIGNIFICANCE: Kind(
        SIGNIFICANCE_COLUMNS,
        "significance:make_table",
        "Paired tests over seeds and test examples between EPT and each other method, with p-values corrected for many "
        "comparisons.",
        "Paired tests between methods",
    ),
    EFFICIENCY: Kind(
        EFFICIENCY_COLUMNS,
        "efficiency:make_table",
        "Training time, memory, parameters, and the time of one prediction at equal length, by method. Times depend on "
        "the machine and its other load.",
        "Time, memory and parameters",
    ),
    LEARNING_RATES: Kind(
        LEARNING_RATES_COLUMNS,
        "learning_rates:make_table",
        "Best validation score of every combination of learning rates that was tried on full data: mean and standard "
        "deviation over seeds in percent.",
        "Learning rates",
    ),
    TRANSFER: Kind(
        TRANSFER_COLUMNS,
        "transfer:make_table",
        "Gain of each source prompt over a start from scratch on each target task, in points with 95 % intervals.",
        "Gain of each source prompt",
    ),
    TRANSFER_GAINS: Kind(
        TRANSFER_COLUMNS,
        "transfer:make_gains_table",
        "Gain of a start from the selected source prompt over a start from scratch, in points with 95 % intervals, and "
        "where it hurts.",
        "Gain of the selected source prompts",
    ),
}


def kind_of(table: str) -> Kind:
    """What a table is; one without a kind of its own (the main table and the few-shot ones) has scores of methods."""
    return KINDS.get(table, SCORES)


def title_of(table: str) -> str:
    """What a table is called in the report."""
    k = table.removeprefix(few_shot_table(""))
    others = {MAIN: "All training data", ZERO_SHOT: "Backbone without a prompt"}
    return kind_of(table).title or others.get(table) or f"{k} training examples"


def numbered_title(tables: Sequence[str], table: str) -> str:
    """The title behind the table's number among the report's tables, which the report sorts by."""
    if table not in tables:
        return title_of(table)
    return f"{tables.index(table) + 1:0{len(str(len(tables)))}}. {title_of(table)}"


def caption_of(table: str) -> str:
    """The caption of a table in the report."""
    caption = kind_of(table).caption
    k = table.removeprefix(few_shot_table(""))
    if table == MAIN:
        caption = f"Full data. {caption}"
    elif k != table:
        caption = f"{k} training examples. {caption}"
    return f"{caption} The tasks are those of the configuration (docs/tasks.md)."
