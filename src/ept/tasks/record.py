"""What a task is: one declarative record, and the text-to-text example that it makes of a row."""

import math
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ept.errors import InputError, shortened

Row = dict[str, Any]
# Endings of files with a user's own rows.
FORMATS = ("csv", "tsv", "jsonl", "parquet")
Column = Literal["text", "whole numbers", "lists of text", "records"]


@dataclass(frozen=True)
class Example:
    """A row as the model meets it.

    `label` is the class index, the raw score (regression) or NaN (extraction); `answers` are all gold answers
    (extraction), of which the first is the `target` of training.
    """

    source: str
    target: str
    label: float
    answers: tuple[str, ...]
    group: str


@dataclass(frozen=True)
class OwnData:
    """Where the rows of a user-defined task are, and what its label column holds (ept.tasks.define)."""

    label: str
    """The column with the label, the score or the answer."""
    values: tuple[str, ...] = ()
    """What that column holds for each class, in the order of `Task.labels`; empty for scores and free text."""
    files: tuple[tuple[str, str], ...] = ()
    """(split, path) of the files, training first; empty for a data set of the Hub."""
    hub: tuple[str, str, str] = ("", "", "")
    """Repository, revision and configuration of a data set of the Hub."""
    hub_splits: tuple[tuple[str, str], ...] = ()
    """(split here, split there) of that data set, training first."""
    metric_codes: tuple[str, ...] = ()
    """What its metrics of the library `evaluate` are known by; it enters the hashes."""


@dataclass(frozen=True)
class Task:
    """A data set, how its rows are written as text, and how it is split and scored (protocol: Tasks)."""

    name: str
    """Name in configurations, paths and tables."""
    suite: str
    """Data set (`glue`, `super_glue`, `squad`, `scitail`): folder of a local copy, and key of the repository on the
    Hub (ept.data.source.REPOSITORIES)."""
    config: str
    """Configuration of the data set: the folder below it."""
    title: str
    """Name in tables made for reading."""
    kind: Literal["classification", "regression", "extraction"]
    """What is predicted: one of the labels, a score, or free text."""
    columns: Mapping[str, Column] = field(hash=False)
    """The required columns besides the label or the answers, and what each holds."""
    template: str
    """Source text, a format string over the row's columns."""
    metrics: tuple[str, ...]
    """Names of ept.evaluation.metrics; the first one selects checkpoints."""
    split: Literal["halve", "carve", "mismatched", "published", "own"]
    """Rule that makes validation and test out of the published splits (ept.data.prepare)."""
    test_split: str = "validation"
    """With the rules halve and carve: the published split that validation and test, or test alone, come from."""
    most_train: int = 0
    """With the rule carve: the most training rows that are kept, taken in permuted order; 0 keeps all."""
    sets: tuple[str, ...] = ()
    """Names under which `tasks.target` and `tasks.source` can ask for it together with others, for example `glue`.
    The first one is the suite that the task is averaged with in tables."""
    labels: tuple[str, ...] = ()
    """What is written for each class; for regression the strings of the grid; empty for extraction."""
    label: str = "label"
    """Published column with the class or the score."""
    classes: tuple[str, ...] = ()
    """What that column holds for each class, in the order of `labels`; empty where it holds the class numbers."""
    cue: str = "Answer:"
    """The line between text and label that a decoder-only model reads [ours]; an encoder-decoder reads none."""
    source_length: int = 256
    """Longest source text in pieces, `</s>` included."""
    groups: tuple[str, ...] = ()
    """Fields of the column idx, outermost first: halves keep rows that share the first one together, and rows
    that share all of them are scored as one question."""
    passage: str = ""
    """Column with the passage that several rows are about: where validation is carved from training, rows that share
    it stay together."""
    image: str | None = None
    """Column with the image in the layout of Hugging Face's Image: a struct of `bytes` and `path`."""
    note: str = ""
    """What readers of a table must know of the task's column."""
    prepare: Callable[[Row], Row] | None = None
    """Makes the columns of the template (and `answers`) out of a published row."""
    own: OwnData | None = None
    """The rows of a task that a configuration defines; None for a task that the package knows."""
    code: str = ""
    """Digest of the plugin that defines the task, set when it is registered; it enters the hashes."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The published splits with labels."""
        if self.own:
            return tuple(split for split, _ in self.own.files or self.own.hub_splits)
        if self.split == "mismatched":
            return ("train", "validation_matched", "validation_mismatched")
        return ("train", "validation", "test") if self.split == "published" else ("train", self.test_split)

    def example(self, row: Row) -> Example:
        """The example that a published row makes. Raises InputError for a row that `prepare` refuses."""
        if self.prepare:
            row = self.prepare(row)
        answers = row["answers"] if self.kind == "extraction" else ()
        # SQuAD's answers are texts with their places, ReCoRD's are texts.
        answers = tuple(answers["text"] if isinstance(answers, dict) else answers)
        return Example(
            source=self.template.format_map(row),
            target=answers[0] if answers else self.written(row["label"]),
            label=float("nan") if answers else float(row["label"]),
            answers=answers,
            group="/".join(str(row["idx"][field]) for field in self.groups),
        )

    def written(self, label: float) -> str:
        """What the model is taught to write for a class index or a score.

        Scores are rounded to the 0.2 grid, halves to even (T5, arXiv 1910.10683, section 2.4): 2.5 is "2.4".
        """
        return f"{round(label * 5) / 5:.1f}" if self.kind == "regression" else self.labels[int(label)]


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, or NaN as tables of pandas say it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def template_columns(template: str) -> list[str]:
    """The columns that a template names, as `named_columns`. Raises InputError also for a template without any."""
    if not (columns := named_columns(template)):
        raise InputError(f"template {shortened(ascii(template), 100)} names no column; write one as {{name}}")
    return columns


def named_columns(template: str) -> list[str]:
    """The columns that a template names, in their order, each once; that of a question about an image may name none.

    Raises InputError for a malformed template.
    """
    shown = shortened(ascii(template), 100)
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise InputError(
            f"template {shown} is not valid: {error}; write columns as {{name}}, and braces twice"
        ) from error
    columns = [column for _, column, _, _ in parts if column is not None]
    for _, column, spec, conversion in parts:
        if column is not None and (spec or conversion or not column or any(sign in column for sign in ".[]")):
            raise InputError(f"template {shown} contains {{{column}}}; write a column's name alone in braces")
    return list(dict.fromkeys(columns))
