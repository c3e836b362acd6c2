"""From published splits to train, validation and test, by the rules of docs/protocol.md."""

import numpy as np
import pyarrow as pa
import torch

from ept.errors import InputError
from ept.tasks.record import Task

SPLIT_SEED = 42
CARVED_ROWS = 1000


def split(task: Task, published: dict[str, pa.Table]) -> tuple[dict[str, pa.Table], str]:
    """{"train", "validation", "test"} and the name of the rule that made them.

    halve: the validation split in permuted order, first half validation, second half test; tasks with groups
    permute those (multirc: paragraphs) and cut where the rows come closest to halves. carve: the first
    min(1000, n // 4) permuted training rows are validation, the published validation is the test split.
    mismatched (MNLI): validation = mismatched, test = matched; without the mismatched part, carve. Hidden
    test sets are never used. Raises InputError where a part would be empty.
    """
    train, validation = published["train"], published.get("validation", published.get("validation_matched"))
    if "validation_mismatched" in published:
        parts = {"train": train, "validation": published["validation_mismatched"], "test": validation}
        return parts, "mismatched"
    if task.split == "halve":
        first, second = _halve(task, validation)
        return _refuse_empty(task, {"train": train, "validation": first, "test": second}), "halve"
    order, carved = permutation(train.num_rows), min(CARVED_ROWS, train.num_rows // 4)
    parts = {
        "train": train.take(order[carved:]),
        "validation": train.take(order[:carved]),
        "test": validation,
    }
    return _refuse_empty(task, parts), "carve"


def permutation(size: int) -> np.ndarray:
    """The permutation [size] behind the published halves; only this call gives them."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(SPLIT_SEED)).numpy()


def _halve(task: Task, table: pa.Table) -> tuple[pa.Table, pa.Table]:
    if not task.groups:
        order = permutation(table.num_rows)
        half = len(order) // 2
        return table.take(order[:half]), table.take(order[half:])
    groups = np.array([row[task.groups[0]] for row in table.column("idx").to_pylist()])
    # Numbered in the order of the file, whatever the groups' own numbers are.
    _, first_rows, numbers = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(first_rows)[permutation(len(first_rows))]
    rows = [np.flatnonzero(numbers == group) for group in order]
    # Groups differ in size: cut where the halves come closest to equal numbers of rows.
    before = np.cumsum([0] + [len(part) for part in rows])
    half = int(np.abs(before - table.num_rows / 2).argmin())
    rows = np.concatenate(rows)
    return table.take(rows[: before[half]]), table.take(rows[before[half] :])


def _refuse_empty(task: Task, parts: dict[str, pa.Table]) -> dict[str, pa.Table]:
    for name, table in parts.items():
        if not table.num_rows:
            raise InputError(f"{task.name}: the published splits have too few rows for a {name} split; use larger ones")
    return parts
