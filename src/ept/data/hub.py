"""The pinned revisions of the data sets on the Hugging Face hub, downloaded as Parquet."""

import re
from pathlib import Path

from ept.errors import InputError
from ept.hub import HubRepository
from ept.tasks.record import Task

REPOSITORIES = {
    "glue": ("nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"),
    "super_glue": ("aps/super_glue", "3de24cf8022e94f4ee4b9d55a6f539891524d646"),
    "squad": ("rajpurkar/squad", "7b6d24c440a36b6815f21b70d25016731768db1f"),
}
"""Suite -> repository and revision."""


def download(task: Task, folder: Path) -> dict[str, list[str]]:
    """Download a task's published splits into `folder` and return the names of each one's files there, in order.

    Raises InputError where the hub has no such configuration or split, and for whatever ept.hub refuses.
    """
    repository = HubRepository("dataset", *REPOSITORIES[task.suite])
    shards = {split: _shards(task, split, repository) for split in task.splits}
    for names in shards.values():
        for name in names:
            repository.download(name, folder)
    return shards


def _shards(task: Task, split: str, repository: HubRepository) -> list[str]:
    """The files <config>/<split>-0000x-of-0000y.parquet of a split, all of them, in order."""
    pattern = re.compile(rf"{re.escape(task.config)}/{split}-(\d+)-of-(\d+)\.parquet")
    found = sorted(name for name in repository.names if pattern.fullmatch(name))
    if not found or len(found) != int(pattern.fullmatch(found[0])[2]):
        raise InputError(
            f"{repository.where}: there are {len(found)} files {task.config}/{split}-*.parquet, which is not the "
            "whole split; check HF_ENDPOINT or use data.source local"
        )
    return found
