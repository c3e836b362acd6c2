"""The demonstration benchmark as tables: every shipped task in the column layout of its data set."""

import zlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from ept.demo import pairs, passages, reading, sentences, swaps
from ept.demo.identity import GENERATOR_VERSION
from ept.demo.shapes import IMAGE_TASKS, image_table
from ept.demo.world import World
from ept.errors import InputError

__all__ = ["GENERATOR_VERSION", "SCHEMAS", "SIZES", "SPLITS", "generate", "splits"]

LABEL = ("label", pa.int64())
IDX = ("idx", pa.int32())


def _columns(text: str, *others: tuple[str, pa.DataType]) -> pa.Schema:
    """A schema of string columns (blank-separated names) and the others."""
    return pa.schema([(column, pa.string()) for column in text.split()] + list(others))


_STARTS = [(name, pa.int32()) for name in ("start1", "start2", "end1", "end2")]
_ANSWERS = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])
_PLACES = pa.struct([("end", pa.list_(pa.int64())), ("start", pa.list_(pa.int64()))])
_MRQA = _columns(
    "context question", ("answers", pa.list_(pa.string())), ("key", pa.string()), ("labels", pa.list_(_PLACES))
)

SCHEMAS: dict[str, pa.Schema] = {
    "cola": _columns("sentence", LABEL, IDX),
    "sst2": _columns("sentence", LABEL, IDX),
    "mrpc": _columns("sentence1 sentence2", LABEL, IDX),
    "qqp": _columns("question1 question2", LABEL, IDX),
    "stsb": _columns("sentence1 sentence2", ("label", pa.float32()), IDX),
    "mnli": _columns("premise hypothesis", LABEL, IDX),
    "qnli": _columns("question sentence", LABEL, IDX),
    "rte": _columns("sentence1 sentence2", LABEL, IDX),
    "boolq": _columns("question passage", IDX, LABEL),
    "cb": _columns("premise hypothesis", IDX, LABEL),
    "multirc": _columns(
        "paragraph question answer",
        ("idx", pa.struct([(part, pa.int32()) for part in ("paragraph", "question", "answer")])),
        LABEL,
    ),
    "wic": _columns("word sentence1 sentence2", *_STARTS, IDX, LABEL),
    "wsc": pa.schema(
        [
            ("text", pa.string()),
            ("span1_index", pa.int32()),
            ("span2_index", pa.int32()),
            ("span1_text", pa.string()),
            ("span2_text", pa.string()),
            IDX,
            LABEL,
        ]
    ),
    "record": _columns(
        "passage query",
        ("entities", pa.list_(pa.string())),
        ("answers", pa.list_(pa.string())),
        ("idx", pa.struct([("passage", pa.int32()), ("query", pa.int32())])),
    ),
    "squad": _columns("id title context question", ("answers", _ANSWERS)),
    "scitail": _columns("premise hypothesis label"),
    "paws": pa.schema([("id", pa.int32()), ("sentence1", pa.string()), ("sentence2", pa.string()), LABEL]),
    "winogrande": _columns("sentence option1 option2 answer"),
    "yelp": _columns("text", LABEL),
    **dict.fromkeys(("nq", "hotpotqa", "searchqa", "newsqa"), _MRQA),
}

PUBLISHED = {"scitail": ("label", ("entails", "neutral")), "winogrande": ("answer", ("1", "2"))}
"""Task -> the column of its class and how the classes are written there; the others have their index in `label`."""

MAKERS: dict[str, Callable[[World], dict | list[dict]]] = {
    "cola": sentences.cola,
    "sst2": sentences.sst2,
    "mrpc": pairs.mrpc,
    "qqp": pairs.qqp,
    "stsb": pairs.stsb,
    "mnli": pairs.mnli,
    "qnli": pairs.qnli,
    "rte": pairs.rte,
    "boolq": passages.boolq,
    "cb": pairs.cb,
    "multirc": passages.multirc,
    "wic": sentences.wic,
    "wsc": sentences.wsc,
    "record": passages.record,
    "squad": passages.squad,
    "scitail": swaps.scitail,
    "paws": swaps.paws,
    "winogrande": swaps.winogrande,
    "yelp": reading.yelp,
    "nq": reading.nq,
    "hotpotqa": reading.hotpotqa,
    "searchqa": reading.searchqa,
    "newsqa": reading.newsqa,
}

SPLITS: dict[str, tuple[str, ...]] = dict.fromkeys(MAKERS, ("train", "validation")) | {
    "mnli": ("train", "validation_matched", "validation_mismatched"),
    "paws": ("train", "validation", "test"),
    "yelp": ("train", "test"),
}
"""Task -> its published splits."""

SIZES = {task: {"train": 1200, "validation": 400} for task in MAKERS} | {
    # The tasks whose validation rows are carved from the training rows have more of those.
    **{
        task: {"train": 2000, "validation": 300}
        for task in (
            *("sst2", "qqp", "qnli", "squad", "record", "paws", "winogrande", "yelp"),
            *("nq", "hotpotqa", "searchqa", "newsqa"),
        )
    },
    "mnli": {"train": 1600, "validation": 300},
}
"""Task -> rows of a training and of a validation split (multirc: about as many, in whole paragraphs)."""


def splits(task_name: str) -> tuple[str, ...]:
    """The published splits of a task; InputError for an unknown one."""
    if task_name in IMAGE_TASKS:
        return ("train", "validation", "test")
    if task_name not in SPLITS:
        raise InputError(
            f"The demonstration benchmark has no task {task_name!r}; it has {', '.join((*SPLITS, *IMAGE_TASKS))}."
        )
    return SPLITS[task_name]


def draw_rows(task_name: str, world: World, size: int) -> list[Any]:
    """At least `size` different rows of a task, without their idx; multirc's rows by whole paragraphs."""
    rows: list[list[dict]] = []
    seen: set[tuple[str, ...]] = set()
    while len(rows) < size:
        made = MAKERS[task_name](world)
        made = made if isinstance(made, list) else [made]
        key = tuple(str(value) for name, value in made[0].items() if name != "label")
        if key not in seen:
            seen.add(key)
            rows.append(made)
    return rows if task_name == "multirc" else [row for group in rows for row in group]


def generate(task_name: str, split: str, seed: int = 0) -> pa.Table:
    """One published split of one task as a table in the layout of the Hugging Face data set.

    A pure function of its arguments and GENERATOR_VERSION. Training and validation splits tell disjoint
    facts; both are disjoint from the facts on which the shipped backbone was pretrained. InputError for an
    unknown task or split.
    """
    if split not in splits(task_name):
        raise InputError(
            f"Task {task_name!r} of the demonstration benchmark has no split {split!r}; "
            f"it has {', '.join(splits(task_name))}."
        )
    if task_name in IMAGE_TASKS:
        return image_table(task_name, split, seed)
    part = "train" if split == "train" else "validation"
    world = World(part, (seed, zlib.crc32(task_name.encode()), zlib.crc32(split.encode())))
    size = SIZES[task_name][part]
    if task_name == "multirc":
        rows = _number_paragraphs(draw_rows(task_name, world, size // 7))
    else:
        rows = draw_rows(task_name, world, size)
        for number, row in enumerate(rows):
            _number_row(task_name, split, row, number)
    if task_name in PUBLISHED:
        column, classes = PUBLISHED[task_name]
        rows = [row | {column: classes[row["label"]]} for row in rows]
    return pa.Table.from_pylist(rows, schema=SCHEMAS[task_name])


def _number_row(task_name: str, split: str, row: dict, number: int) -> None:
    """Add the row's number in place, in the column where its data set has one."""
    if "labels" in row:
        row["key"] = f"demo-{split}-{number:05d}"
    elif task_name == "paws":
        row["id"] = number + 1
    elif task_name == "squad":
        row["id"] = f"demo-{split}-{number:05d}"
    elif task_name == "record":
        row["idx"] = {"passage": number, "query": number}
    else:
        row["idx"] = number


def _number_paragraphs(paragraphs: list[list[dict]]) -> list[dict]:
    """MultiRC's rows with SuperGLUE's idx: paragraphs, questions, answers each counted through the split."""
    rows: list[dict] = []
    questions = -1
    for paragraph, group in enumerate(paragraphs):
        last = None
        for row in group:
            number = row.pop("question_number")
            questions += number != last
            last = number
            rows.append(row | {"idx": {"paragraph": paragraph, "question": questions, "answer": len(rows)}})
    return rows
