"""Labeled rows of Python: the task that they make, their checks, and their tokenized files for a training."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from ept.api.prompt import Prompt
from ept.data.dataset import TokenizedSplit
from ept.data.own import cell_text, label_text
from ept.data.prepare import CARVED_ROWS, Rows, permutation, tokenize_table, write_tokens
from ept.data.tokenizer import Pieces
from ept.errors import InputError, listed
from ept.tasks.define import METRICS
from ept.tasks.record import Row, Task, template_columns

LOG = logging.getLogger("ept")
Kind = Literal["classification", "regression", "extraction"]
Labeled = Mapping[str, Any]
# What messages call a row by its number from 0.
Place = Callable[[int], str]


def own_task(
    rows: Sequence[Labeled], template: str, label: str, labels: Sequence[str] | None, kind: Kind, length: int
) -> Task:
    """The task that `ept.train` is asked for; its arguments are explained there.

    Raises:
        InputError: There are no rows, one lacks a column, or the labels of the rows are no labels.
    """
    if kind not in METRICS:
        raise InputError(f"kind is {kind!r}; use {', '.join(METRICS)}")
    columns = template_columns(template)
    if not rows:
        raise InputError("there are no rows to train on")
    answers = [cell(row, label, f"row {number}") for number, row in enumerate(rows)]
    if kind == "classification":
        labels = [str(one) for one in labels] if labels is not None else _labels(answers, label)
        if len(set(labels)) < max(2, len(labels)):
            raise InputError(f"the labels of {label!r} are {listed(labels)}; two or more different ones are needed")
    elif kind == "regression" and not labels:
        # Strings on a grid between the extremes, as the protocol does for STS-B.
        values = [score(value, _place(number, label)) for number, value in enumerate(answers)]
        labels = [f"{value:.1f}" for value in np.unique(np.round(np.linspace(min(values), max(values), 26), 1))]
    return Task(
        name="own",
        suite="own",
        config="",
        title="own",
        kind=kind,
        columns=dict.fromkeys(columns, "text"),
        template=template,
        labels=tuple(map(str, labels or ())),
        metrics=METRICS[kind][:2],
        split="carve",
        source_length=length,
    )


def _labels(answers: list[Any], label: str) -> list[str]:
    """The distinct labels, sorted."""
    found = sorted({label_text(value, _place(number, label)) for number, value in enumerate(answers)})
    if len(found) > max(20, len(answers) // 2):
        raise InputError(
            f"the column {label!r} has {len(found):,} different values in {len(answers):,} rows, too many for labels; "
            "name another column, or pass kind='regression' or kind='extraction' (free text)"
        )
    return found


def tokenized_rows(
    task: Task,
    rows: Sequence[Labeled],
    validation: Sequence[Labeled] | None,
    label: str,
    pieces: Pieces,
    folder: Path,
) -> dict[str, TokenizedSplit]:
    """Training and validation rows as tokenized files below `folder`; missing validation rows are carved.

    Raises:
        InputError: A row lacks a column, a text is empty, a label is unknown, or there are too few rows.
    """
    tables = {"train": _table(task, rows, label, "row")}
    if validation is not None:
        tables["validation"] = _table(task, validation, label, "validation row")
    else:
        carved = min(CARVED_ROWS, len(rows) // 4)
        if not carved:
            raise InputError(f"{len(rows)} rows are too few to set some aside; pass validation rows")
        order, whole = permutation(len(rows)), tables["train"]
        tables = {"train": whole.take(order[carved:]), "validation": whole.take(order[:carved])}
    splits = {}
    for name, table in tables.items():
        numbers = Rows(name, np.arange(len(table)))
        batch, counts = tokenize_table(task, table, numbers, pieces, task.source_length)
        metadata = {
            "task": task.name,
            "split": name,
            "split_rule": "own",
            "source": "own",
            "source_length": task.source_length,
            "rows_published_train": len(tables["train"]),
            "pad_id": pieces.pad_id,
            **counts,
        }
        path = folder / "tokens" / f"{name}.arrow"
        write_tokens(path, batch, metadata)
        splits[name] = TokenizedSplit(path)
        if counts["truncated"]:
            LOG.warning(
                "%d of %d %s texts are longer than %d tokens and were cut",
                counts["truncated"],
                len(table),
                name,
                task.source_length,
            )
    return splits


def _table(task: Task, rows: Sequence[Labeled], label: str, what: str) -> pa.Table:
    """The columns that the task reads, and the label as its number (or the answers)."""
    if not rows:
        raise InputError(f"there are no rows for {what.removesuffix('row').strip() or 'training'}; pass some")
    columns: dict[str, list[Any]] = {name: [] for name in task.columns}
    truth: list[Any] = []
    for number, row in enumerate(rows):
        place = f"{what} {number}"
        for name, texts in columns.items():
            texts.append(cell_text(cell(row, name, place), f"{place}: column {name!r}"))
        truth.append(right_answer(task, cell(row, label, place), f"{place}: column {label!r}"))
    return pa.table({**columns, "answers" if task.kind == "extraction" else "label": truth})


def right_answer(task: Task, value: Any, place: str) -> Any:
    """What a label cell holds: the class number, the score, or the list of right texts.

    Args:
        task: Its labels and kind.
        value: The cell: a label word; a number (regression); a text or a list of texts, also as SQuAD's records hold
            them (extraction).
        place: Row and column, for the message.

    Raises:
        InputError: The cell is empty, or holds none of the labels or no number.
    """
    if task.kind == "extraction":
        found = value.get("text") if isinstance(value, Mapping) else value
        texts = found if isinstance(found, list) else [found]
        if not texts:
            raise InputError(f"{place} holds no answer; give one or remove the row")
        return [cell_text(text, place) for text in texts]
    if task.kind == "regression":
        return score(value, place)
    word = label_text(value, place)
    if word not in task.labels:
        raise InputError(f"{place} is {word!r}; the labels are {listed(task.labels)}")
    return task.labels.index(word)


def check_texts(rows: Sequence[Row], prompts: Sequence[Prompt], place: Place) -> None:
    """Raise InputError for the first row that its prompt's template does not fit; `place` says what to call it."""
    for number, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        try:
            prompt.text(row)
        except InputError as error:
            raise InputError(f"{place(number)}: {error}") from error


def cell(row: Labeled, name: str, place: str) -> Any:
    """A cell of a row. Raises InputError for a column that is not there; `place` names the row."""
    if not isinstance(row, Mapping):
        raise InputError(
            f"{place} is {type(row).__name__}, not a dictionary; pass rows, for example table.to_dict('records')"
        )
    if name not in row:
        raise InputError(f"{place} lacks the column {name!r}; it has {listed(ascii(one)[1:-1] for one in row)}")
    return row[name]


def score(value: Any, place: str) -> float:
    """A cell as a finite number. Raises InputError for any other; `place` names row and column."""
    try:
        found = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{place} is {value!r}, which is not a number; correct it or remove the row") from error
    if not np.isfinite(found):
        raise InputError(f"{place} is {value!r}; a finite number is needed")
    return found


def _place(number: int, label: str) -> str:
    return f"row {number}: column {label!r}"
