"""User-defined tasks: what a configuration's `tasks.define` may say of one, and the record that it makes."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ept.errors import shortened
from ept.tasks.plugins import METRIC, metric_code
from ept.tasks.record import FORMATS, OwnData, Task, template_columns

SUITE = "own"
# By kind, the metrics that can be asked for; the first two are the default.
METRICS = {
    "classification": ("accuracy", "macro_f1", "f1", "matthews"),
    "regression": ("pearson", "spearman"),
    "extraction": ("f1", "exact_match"),
}
# Strings of scores that are compared at every prediction: one each 0.2, as for STS-B.
_PER_UNIT, _MOST_SCORES = 5, 201
_MOST_LABELS = 200

Kind = Literal["classification", "regression", "extraction"]
Score = Annotated[float, Field(ge=-1e6, le=1e6)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=40)]


class _Part(BaseModel):
    """A part of a definition. Unknown keys are refused; the text under a field explains it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class TaskFiles(_Part):
    """The files of a user-defined task: csv, tsv, jsonl or Parquet, by their endings."""

    train: str
    """Rows to train on."""
    validation: str = ""
    """Rows that select checkpoints; left out, they are taken from train."""
    test: str = ""
    """Rows to report on; left out, they are taken from train."""

    @model_validator(mode="after")
    def _formats_are_known(self) -> "TaskFiles":
        for split, path in self.given:
            if Path(path).suffix.lower().removeprefix(".") not in FORMATS:
                found = shortened(ascii(path), 100)
                raise ValueError(f"{split} is {found}; its ending must be one of {', '.join(FORMATS)}")
        paths = [path for _, path in self.given]
        if len(set(paths)) < len(paths):
            raise ValueError(f"{shortened(paths[-1], 100)} is named for two splits; give each its own rows")
        return self

    @property
    def given(self) -> tuple[tuple[str, str], ...]:
        """(split, path) of the files that are named."""
        return tuple((split, path) for split, path in self if path)


class TaskHub(_Part):
    """A data set of the Hugging Face Hub, read with the library `datasets` (extra `data`)."""

    id: str = Field(pattern=r"^[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}$")
    """Repository, as owner/name."""
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    """Commit of the repository (40 hexadecimal digits), because a branch moves."""
    config: str = Field("default", pattern=r"^[\w.-]+$", max_length=100)
    """Configuration of the data set."""
    train: str = Field("train", pattern=r"^[\w.-]+$", max_length=100)
    """Name of the split to train on."""
    validation: str = Field("", pattern=r"^[\w.-]*$", max_length=100)
    """Name of a labeled split that selects checkpoints; left out, rows of train are taken."""
    test: str = Field("", pattern=r"^[\w.-]*$", max_length=100)
    """Name of a labeled split to report on; left out, rows of train are taken."""

    @property
    def given(self) -> tuple[tuple[str, str], ...]:
        """(split here, split there) of the splits that are named."""
        named = (("train", self.train), ("validation", self.validation), ("test", self.test))
        return tuple((split, there) for split, there in named if there)


def _labels(values: Any) -> Any:
    """Labels as a mapping from what the column holds to what is written; whatever else is left to pydantic."""
    if isinstance(values, list | tuple):
        if len({str(value) for value in values}) < len(values):
            raise ValueError("a label is listed twice")
        values = {value: value for value in values}
    if not isinstance(values, dict):
        return values
    if any(isinstance(part, bool) for pair in values.items() for part in pair):
        raise ValueError("found true or false; put labels such as yes, no, true and false in quotes")
    return {_text(key): _text(value) for key, value in values.items()}


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) else value


def _kind(value: Any) -> Any:
    return "extraction" if value == "generation" else value


class TaskDefinition(_Part):
    """A user-defined task: where its rows are, how they are written as text, what is predicted."""

    files: TaskFiles | None = None
    """Files with the rows; this or `hub`."""
    hub: TaskHub | None = None
    """A data set of the Hub; this or `files`."""
    template: str = Field(min_length=3, max_length=2000)
    """Source text, with the columns in braces: `text: {text}`."""
    label: str = Field(min_length=1, max_length=200)
    """Column with the label, the score or the answer."""
    labels: Annotated[dict[str, str], BeforeValidator(_labels, json_schema_input_type=list[str] | dict[str, str])] = {}
    """Classification: the words of the label column in the order of the classes, which the model writes too; or a
    mapping from what the column holds to what the model writes, such as `{0: no complaint, 1: complaint}`."""
    kind: Annotated[Kind, BeforeValidator(_kind, json_schema_input_type=Kind | Literal["generation"])] = (
        "classification"
    )
    """Classes, scores, or free text (`generation`, also called `extraction`)."""
    range: tuple[Score, Score] | None = None
    """Regression: lowest and highest score. The model writes them in steps of 0.2."""
    metrics: list[Annotated[str, Field(max_length=500)]] = Field([], max_length=4)
    """Classification: accuracy, macro_f1, f1 (of the second of two classes), matthews; regression: pearson, spearman;
    generation: f1, exact_match; or a metric of the library `evaluate` whose values lie between -1 and 1, more is
    better: `evaluate:path/to/metric.py` or `evaluate:name@revision` (needs `--allow-code`). The first one selects
    checkpoints; left out, the first two."""
    source_length: int = Field(256, ge=1, le=100_000)
    """Longest source text in pieces."""
    cue: str = Field("Answer:", max_length=200)
    """The line between text and label that a decoder-only model reads."""

    @model_validator(mode="after")
    def _parts_fit(self) -> "TaskDefinition":
        if (self.files is None) == (self.hub is None):
            raise ValueError("name either files or hub")
        columns = template_columns(self.template)
        if self.label in columns:
            raise ValueError(f"template contains {{{self.label}}}, the column with the answer; leave it out")
        if self.kind == "classification":
            written = list(self.labels.values())
            if not 2 <= len(written) <= _MOST_LABELS:
                raise ValueError(f"labels has {len(written)} labels; name 2 to {_MOST_LABELS}")
            if not all(label.strip() for pair in self.labels.items() for label in pair):
                raise ValueError("labels contains an empty label; write a word")
            if len(set(written)) < len(written):
                raise ValueError("labels has one word for two classes; choose two")
        elif self.labels:
            raise ValueError(f"labels are for kind classification, found kind {self.kind}; leave them out")
        if (self.kind == "regression") != (self.range is not None):
            raise ValueError("range [lowest, highest] is needed with kind regression and allowed only there")
        if self.range and not 0 < (self.range[1] - self.range[0]) * _PER_UNIT <= _MOST_SCORES - 1:
            most = (_MOST_SCORES - 1) // _PER_UNIT
            raise ValueError(f"range is {list(self.range)}; the second must exceed the first by {most} or less")
        for metric in self.metrics:
            if metric.startswith(METRIC):
                metric_code(metric)
            elif metric not in METRICS[self.kind]:
                raise ValueError(
                    f"metrics contains {shortened(ascii(metric), 60)}; {self.kind} has {', '.join(METRICS[self.kind])}"
                )
            if metric == "f1" and self.kind == "classification" and len(self.labels) != 2:
                raise ValueError(f"metrics contains f1, which needs 2 labels, found {len(self.labels)}; use macro_f1")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("metrics lists one metric twice")
        return self

    def task(self, name: str) -> Task:
        """The record of this task under a name."""
        files, hub = self.files, self.hub
        return Task(
            name=name,
            suite=SUITE,
            config=name,
            title=name,
            kind=self.kind,
            columns=dict.fromkeys(template_columns(self.template), "text"),
            template=self.template,
            labels=tuple(self.labels.values()) if self.range is None else score_strings(*self.range),
            metrics=tuple(self.metrics) or METRICS[self.kind][:2],
            split="own",
            source_length=self.source_length,
            cue=self.cue,
            own=OwnData(
                label=self.label,
                values=tuple(self.labels),
                files=files.given if files else (),
                hub=(hub.id, hub.revision, hub.config) if hub else ("", "", ""),
                hub_splits=hub.given if hub else (),
                metric_codes=tuple(metric_code(metric) for metric in self.metrics if metric.startswith(METRIC)),
            ),
        )


def score_strings(low: float, high: float) -> tuple[str, ...]:
    """The scores from `low` to `high` in steps of 0.2, as they are written; both ends are rounded to such a step."""
    first, last = round(low * _PER_UNIT), round(high * _PER_UNIT)
    return tuple(f"{number / _PER_UNIT:.1f}" for number in range(first, last + 1))


def shared(values: Any, file: Path) -> Any:
    """The definition that `file` holds: relative paths in it start from that file's folder, and it runs no code.

    Raises ValueError for a metric of the library `evaluate`.
    """
    if not isinstance(values, dict):
        return values
    metrics = values.get("metrics")
    for metric in metrics if isinstance(metrics, list) else []:
        if isinstance(metric, str) and metric.startswith(METRIC):
            raise ValueError(
                f"{file}: metrics contains {shortened(ascii(metric), 100)}, which is Python code; a shared definition "
                "runs none: define the task in the configuration itself"
            )
    files = values.get("files")
    if not isinstance(files, dict):
        return values
    joined = {
        split: str(file.parent / path) if isinstance(path, str) and path else path for split, path in files.items()
    }
    return {**values, "files": joined}
