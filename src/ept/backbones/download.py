"""Fetch a backbone from the Hugging Face hub at a pinned revision: complete, or not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path

from ept.backbones.files import INDEX_FILE, SINGLE_FILE, read_config, weight_files
from ept.errors import InputError
from ept.files import write_folder_atomically
from ept.hub import HubRepository

TOKENIZERS = ("tokenizer.json", "spiece.model")


def download_backbone(name: str, revision: str, folder: str | Path) -> None:
    """Download config.json, tokenizer and safetensors of the hub repository `name` at `revision` into `folder`.

    A `folder` that exists is complete and left alone, without a word to the network. Raises InputError where the
    repository has no safetensors, tokenizer or T5, and for whatever ept.hub refuses.
    """
    folder = Path(folder)
    if folder.exists():
        return
    repository = HubRepository("model", name, revision)
    with write_folder_atomically(folder) as temporary:
        # config.json first: another kind of model is found out before gigabytes are fetched.
        for file in _wanted(repository.names, name):
            repository.download(file, temporary)
            if file == "config.json":
                _check(read_config, temporary, name)
        _check(weight_files, temporary, name)
        # The hub's own notes about the download.
        shutil.rmtree(temporary / ".cache", ignore_errors=True)


def _wanted(names: list[str], repository: str) -> list[str]:
    """The files to fetch: config.json first, the tokenizer's, then the weights (unsharded if possible)."""
    tokenizer = [name for name in (*TOKENIZERS, "tokenizer_config.json") if name in names]
    if "config.json" not in names:
        raise InputError(f"{repository} has no config.json; name a repository of a transformers model")
    if not any(name in names for name in TOKENIZERS):
        raise InputError(f"{repository} has neither {' nor '.join(TOKENIZERS)}; name a repository with its tokenizer")
    if SINGLE_FILE in names:
        weights = [SINGLE_FILE]
    elif INDEX_FILE in names:
        shards = [name for name in names if name.startswith("model-") and name.endswith(".safetensors")]
        weights = [INDEX_FILE, *sorted(shards)]
    else:
        raise InputError(
            f"{repository} has neither {SINGLE_FILE} nor {INDEX_FILE} at this revision; only safetensors are "
            "read, so name a revision or repository that has them"
        )
    return ["config.json", *tokenizer, *weights]


def _check(check: Callable[[Path], object], folder: Path, repository: str) -> None:
    """Run a check of a backbone folder; its complaint then names the repository, not the temporary folder."""
    try:
        check(folder)
    except InputError as error:
        raise InputError(str(error).replace(str(folder), repository)) from error
