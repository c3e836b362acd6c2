"""The texts that are timed: real GLUE rows where they can be had, else random pieces of the same lengths."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ept.data.dataset import TokenizedSplit
from ept.data.fetch import fetch
from ept.data.prepare import SCHEMA, tokenize_task, write_tokens
from ept.data.source import DataSource, identity
from ept.data.tokenizer import load_pieces
from ept.tasks.registry import get_task

LENGTHS = Path(__file__).with_name("lengths.json")
SOURCE_LENGTH = 256
QUANTILES = 101
SPLITS = ("train", "validation")
# Steps among which those to be timed are chosen.
CANDIDATES = 100
# Enough for an epoch of many batches, whatever is timed.
SYNTHETIC_ROWS = {"train": 2400, "validation": 400}
# T5's sentinels begin at 32,000; </s> is 1.
PIECES, END = range(3, 32_000), 1


@dataclass(frozen=True)
class TaskData:
    """A task's tokenized splits; `label_ids` are the pieces of each label with `</s>`."""

    name: str
    folder: Path
    train: TokenizedSplit
    validation: TokenizedSplit
    label_ids: list[list[int]]

    def __reduce__(self):
        # To another process as its files.
        return open_task, (self.name, self.folder, self.label_ids)


def real_data() -> Path | None:
    """The folder of real data that EPT_TEST_DATA names, with T5's tokenizer beside it, or None."""
    folder = os.environ.get("EPT_TEST_DATA")
    if not folder or not tokenizer_of(Path(folder)).is_dir():
        return None
    return Path(folder)


def tokenizer_of(data: Path) -> Path:
    """Where T5's tokenizer lies beside a folder of real data."""
    return data.parent / "tokenizer" / "t5"


def read_real(name: str, data: Path, folder: Path) -> TaskData:
    """A task of the real data, tokenized into `folder` by the project's own rules."""
    task, source = get_task(name), DataSource("local", str(data))
    fetch(task, source, folder / "raw" / name)
    tokenizer = tokenizer_of(data)
    tokenize_task(task, folder / "raw" / name, tokenizer, SOURCE_LENGTH, folder / name, identity(source, task))
    pieces = load_pieces(tokenizer)
    return open_task(name, folder / name, [pieces.label(label) for label in task.labels])


def draw_synthetic(name: str, folder: Path) -> TaskData:
    """Rows of random pieces whose lengths and label pieces are those of the real task."""
    table = json.loads(LENGTHS.read_text(encoding="utf-8"))[name]
    for number, split in enumerate(SPLITS):
        random = np.random.default_rng(number)
        rows = SYNTHETIC_ROWS[split]
        positions = random.random(rows) * (QUANTILES - 1)
        lengths = np.interp(positions, np.arange(QUANTILES), table["lengths"][split]).round().astype(int)
        labels = random.integers(0, len(table["label_ids"]), rows)
        columns = {
            "id": [f"{split}:{row}" for row in range(rows)],
            "group": [""] * rows,
            "input_ids": [[*random.integers(PIECES.start, PIECES.stop, length - 1), END] for length in lengths],
            "target_ids": [table["label_ids"][label] for label in labels],
            "label": labels.astype(np.float64),
            "answers": [[]] * rows,
        }
        (batch,) = pa.table(columns, schema=SCHEMA).to_batches()
        write_tokens(folder / name / f"{split}.arrow", batch, {"pad_id": 0, "split": split})
    return open_task(name, folder / name, table["label_ids"])


def load_tasks(names: tuple[str, ...], folder: Path) -> tuple[str, list[TaskData]]:
    """`real` or `synthetic`, and the tasks, tokenized into `folder`."""
    data = real_data()
    if data is None:
        return "synthetic", [draw_synthetic(name, folder) for name in names]
    return "real", [read_real(name, data, folder) for name in names]


def length_table(task: TaskData) -> dict:
    """What lengths.json holds of a task: the percentiles 0-100 of its lengths in pieces, and its label pieces."""
    lengths = {
        split: np.quantile(getattr(task, split).lengths, np.linspace(0, 1, QUANTILES)).round(1).tolist()
        for split in SPLITS
    }
    return {"label_ids": task.label_ids, "lengths": lengths}


def open_task(name: str, folder: Path, label_ids: list[list[int]]) -> TaskData:
    """A task whose splits were tokenized into `folder`."""
    train, validation = (TokenizedSplit(folder / f"{split}.arrow") for split in SPLITS)
    return TaskData(name, folder, train, validation, label_ids)


def mean_block(lengths: np.ndarray, rows: int) -> np.ndarray:
    """`rows` neighbors by length, as a prediction of the whole split has them in a batch, of a mean longest length."""
    order = np.argsort(lengths, kind="stable")
    if len(order) < rows:
        return np.resize(order, rows)
    blocks = order[: len(order) // rows * rows].reshape(-1, rows)
    (block,) = representative(lengths[blocks].max(1), 1)
    return blocks[block]


def representative(lengths: np.ndarray, count: int) -> list[int]:
    """`count` positions in `lengths` whose mean length is close to that of all.

    Sorted and cut into `count` equal parts; of each the one closest to the part's mean. A few steps taken at random
    would say little of an epoch, whose batches are bucketed by length.
    """
    parts = np.array_split(np.argsort(lengths, kind="stable"), min(count, len(lengths)))
    chosen = [int(part[np.abs(lengths[part] - lengths[part].mean()).argmin()]) for part in parts]
    return [chosen[position % len(chosen)] for position in range(count)]
