"""The pinned revisions of the data sets on the Hugging Face hub, downloaded as Parquet."""

import re
from pathlib import Path

from ept.errors import InputError
from ept.tasks.record import Task

REPOSITORIES = {
    "glue": ("nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"),
    "super_glue": ("aps/super_glue", "3de24cf8022e94f4ee4b9d55a6f539891524d646"),
    "squad": ("rajpurkar/squad", "7b6d24c440a36b6815f21b70d25016731768db1f"),
}
"""Suite -> repository and revision."""


def download(task: Task, folder: Path) -> dict[str, list[Path]]:
    """Download a task's published splits into `folder` and return the files of each, in order.

    HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they mean to huggingface_hub. Raises InputError where
    the hub cannot be reached, refuses the repository, or has no such revision, configuration or split.
    """
    # Imported here: only this source needs it, and it takes most of a second.
    from huggingface_hub import HfApi, constants, errors, hf_hub_download

    repository, revision = REPOSITORIES[task.suite]
    where = f"{constants.ENDPOINT}/datasets/{repository}"
    pinned = {"repo_id": repository, "repo_type": "dataset", "revision": revision}
    try:
        # One request that is not tried again and again: without a network the sentence comes at once.
        names = [file.rfilename for file in HfApi().dataset_info(repository, revision=revision).siblings]
        shards = {split: _shards(task, split, names, where) for split in task.splits}
        return {
            split: [Path(hf_hub_download(filename=name, local_dir=folder, **pinned)) for name in files]
            for split, files in shards.items()
        }
    except errors.GatedRepoError as error:
        raise InputError(
            f"{where}: the repository is gated; accept its terms there and give your token as HF_TOKEN"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise InputError(
            f"{where}: the hub has no such repository at revision {revision[:8]} (or it is private); "
            "check HF_ENDPOINT and HF_TOKEN, or use data.source local"
        ) from error
    except (errors.HTTPError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{where}: the hub cannot be reached for {task.name} ({reason}); "
            "check the network, HF_ENDPOINT and HF_HUB_OFFLINE, or use data.source local"
        ) from error


def _shards(task: Task, split: str, names: list[str], where: str) -> list[str]:
    """The files <config>/<split>-0000x-of-0000y.parquet of a split, all of them, in order."""
    pattern = re.compile(rf"{re.escape(task.config)}/{split}-(\d+)-of-(\d+)\.parquet")
    found = sorted(name for name in names if pattern.fullmatch(name))
    if not found or len(found) != int(pattern.fullmatch(found[0])[2]):
        raise InputError(
            f"{where}: there are {len(found)} files {task.config}/{split}-*.parquet, which is not the whole "
            "split; check HF_ENDPOINT or use data.source local"
        )
    return found
