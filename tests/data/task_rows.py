"""Rows written for the tests in the published column layouts, and the tables and files made of them.

No row is from a real data set: several of them may not be redistributed.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from ept.demo.shapes import png
from ept.tasks.registry import TASKS, Task

REAL = [name for name, task in TASKS.items() if task.suite in ("glue", "super_glue", "squad")]
"""The tasks with training rows in the folder of real data."""

PASSAGE = "The tide rose\n@highlight\nMayor Lund closed the pier.\n@highlight\nNobody was hurt"

DEMO = [name for name in TASKS if name not in ("vqa", "coco")]
"""The tasks that the demonstration has rows of."""

PICTURE = {"bytes": png(np.full((2, 3, 3), 90, np.uint8)), "path": "a.png"}

ROWS = {
    "cola": {"sentence": "Us seen it.", "label": 0, "idx": 0},
    "sst2": {"sentence": "a warm {and} funny film . ", "label": 1, "idx": 0},
    "mrpc": {"sentence1": "It rains .", "sentence2": "Rain falls .", "label": 1, "idx": 0},
    "qqp": {"question1": "Who are you?", "question2": "Who is she?", "label": 0, "idx": 0},
    "stsb": {"sentence1": "A dog runs.", "sentence2": "A dog sits.", "label": 2.5, "idx": 0},
    "mnli": {"premise": "It is late.", "hypothesis": "It is noon.", "label": 2, "idx": 0},
    "qnli": {"question": "When did it end?", "sentence": "It ended in May.", "label": 0, "idx": 0},
    "rte": {"sentence1": "Ann sleeps.", "sentence2": "Ann is awake.", "label": 1, "idx": 0},
    "boolq": {"question": "is ice cold", "passage": "Ice -- Ice is frozen water.", "idx": 0, "label": 1},
    "cb": {"premise": "A: Is it? B: I doubt it.", "hypothesis": "it is", "idx": 0, "label": 1},
    "multirc": {
        "paragraph": "<b>Sent 1: </b>Ann has 3 < 5 pens.<br>Ben has > 7.",
        "question": "Who has <b>more</b>?",
        "answer": "Ben<br/>",
        "idx": {"paragraph": 4, "question": 9, "answer": 21},
        "label": 1,
    },
    "wic": {
        "word": "bank",
        "sentence1": "A bank of sand.",
        "sentence2": "The bank lends.",
        "start1": 2,
        "start2": 4,
        "end1": 6,
        "end2": 8,
        "idx": 0,
        "label": 0,
    },
    "wsc": {
        "text": "Ann told Eve's aunt that she had won, and Eve laughed.",
        "span1_index": 0,
        "span2_index": 5,
        "span1_text": "Ann",
        "span2_text": "she",
        "idx": 0,
        "label": 1,
    },
    "record": {
        "passage": PASSAGE,
        "query": "Thanks to @placeholder all went home.",
        "entities": ["Mayor Lund", "Lund"],
        "answers": ["Lund", "Mayor Lund"],
        "idx": {"passage": 3, "query": 8},
    },
    "squad": {
        "id": "q1",
        "title": "Ice",
        "context": "Ice is frozen water.",
        "question": "What is ice?",
        "answers": {"text": ["frozen water", "water"], "answer_start": [7, 14]},
    },
    "scitail": {"premise": "Ice is cold.", "hypothesis": "Water freezes.", "label": "neutral"},
    "paws": {"id": 1, "sentence1": "Ann met Ben.", "sentence2": "Ben met Ann.", "label": 0},
    "winogrande": {"sentence": "Ann thanked Eve as _ helped.", "option1": "Ann", "option2": "Eve", "answer": "2"},
    "yelp": {"text": "Cold soup.\nNever again.", "label": 0},
    **{
        name: {
            "context": f"[{name}] The lake froze in May.",
            "question": "when did the lake freeze",
            "answers": ["May", "in May"],
            "key": "k1",
            "labels": [{"end": [25], "start": [23]}],
        }
        for name in ("nq", "hotpotqa", "searchqa", "newsqa")
    },
    "shapes_vqa": {"image": PICTURE, "question": "what was red?", "label": 5},
    "shapes_captioning": {"image": PICTURE, "answers": ["a red ball", "the ball was red"]},
    "digits": {"image": PICTURE, "question": "is it even?", "label": 10},
    "vqa": {
        "image": PICTURE,
        "question": "What is it?",
        "answers": [{"answer": "dog", "answer_confidence": "yes", "answer_id": place} for place in range(10)],
    },
    "coco": {"image": PICTURE, "answers": ["A dog sits.", "A dog on grass."]},
}


def table(task: Task, rows: int = 6) -> pa.Table:
    """A published split: the task's row repeated, its labels in turn, two rows a passage and three a paragraph."""
    made = []
    for number in range(rows):
        row = dict(ROWS[task.name])
        if task.kind == "classification":
            label = number % len(task.labels)
            row[task.label] = task.classes[label] if task.classes else label
        if task.passage:
            row[task.passage] = f"{number // 2}. {row[task.passage]}"
        if task.groups:
            row["idx"] = {"paragraph": number // 3, "question": number // 2, "answer": number}
        made.append(row)
    return pa.Table.from_pylist(made)


def kept(task: Task, published: pa.Table) -> list[dict]:
    """The rows that `ept fetch` keeps of a published split: the columns of the task, its idx as text."""
    rows = []
    for row in published.to_pylist():
        answers = row.get("answers")
        made = {name: row[name] for name in task.columns}
        if task.groups:
            made["idx"] = {field: str(row["idx"][field]) for field in task.groups}
        if task.kind == "extraction":
            answers = answers["text"] if isinstance(answers, dict) else answers
            made["answers"] = [answer["answer"] if isinstance(answer, dict) else answer for answer in answers]
        else:
            label = row[task.label]
            made["label"] = task.classes.index(label) if task.classes else label
        rows.append(made)
    return rows


def fetched_row(task: Task) -> dict:
    """The task's row as `ept fetch` keeps it: with the number of its class."""
    return kept(task, pa.Table.from_pylist([ROWS[task.name]]))[0]


def write_local(folder: Path, task: Task, rows: int = 6, splits: tuple[str, ...] | None = None) -> Path:
    """A task's splits in a local folder of the Hugging Face layout; returns the folder of its files."""
    files = folder / task.suite / task.config
    files.mkdir(parents=True, exist_ok=True)
    for split in splits or task.splits:
        pq.write_table(table(task, rows), files / f"{split}.parquet")
    return files


def write_tokenizer(folder: Path, words: str = "", drop: str = "") -> Path:
    """A tokenizer of whole words that cuts and pads at 4 pieces unless told otherwise; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = ["<pad>", "</s>", "<unk>", *dict.fromkeys(words.split())]
    vocabulary = {piece: number for number, piece in enumerate(pieces) if piece != drop}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=4, pad_id=0, pad_token="<pad>")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
