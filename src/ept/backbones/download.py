"""Fetch a backbone from the Hugging Face hub at a pinned revision: complete, or not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path

from ept.backbones.convert import BIN_FILE, BIN_INDEX_FILE, bin_files, convert_weights
from ept.backbones.files import INDEX_FILE, SINGLE_FILE, check_weights, read_config
from ept.errors import InputError
from ept.files import write_folder_atomically
from ept.hub import HubRepository

TOKENIZERS = ("tokenizer.json", "spiece.model")


def download_backbone(name: str, revision: str, folder: str | Path, weights: str = "safetensors") -> None:
    """Download config.json, tokenizer and weights of a Hub repository; the folder appears complete or not at all.

    Args:
        name: The repository, such as google-t5/t5-base.
        revision: A commit of it.
        folder: Where they go. If it exists it is complete: nothing is asked of the Hub.
        weights: safetensors, or bin for a repository without: its pytorch_model.bin is then converted
            (`convert_weights`).

    Raises:
        InputError: Where the repository has no such weights, no tokenizer or no supported model, where its weights are
            not those of its config.json, and for whatever `ept.hub` refuses.
    """
    folder = Path(folder)
    if folder.exists():
        return
    repository = HubRepository("model", name, revision)
    with write_folder_atomically(folder) as temporary:
        first, *others = [*_without_weights(repository.names, name), *_weights(repository.names, name, weights)]
        # config.json, to refuse another kind of model before gigabytes are fetched.
        repository.download([first], temporary)
        _check(read_config, temporary, name)
        repository.download(others, temporary)
        if weights == "bin":
            _check(convert_weights, temporary, name)
            for path in [*bin_files(temporary), temporary / BIN_INDEX_FILE]:
                path.unlink(missing_ok=True)
        _check(check_weights, temporary, name)
        # huggingface_hub's notes about the download.
        shutil.rmtree(temporary / ".cache", ignore_errors=True)


def _without_weights(names: list[str], repository: str) -> list[str]:
    """The names of config.json and of the tokenizer's files."""
    if "config.json" not in names:
        raise InputError(f"{repository} has no config.json; name a repository of a transformers model")
    if not any(name in names for name in TOKENIZERS):
        raise InputError(f"{repository} has neither {' nor '.join(TOKENIZERS)}; name a repository with its tokenizer")
    return ["config.json", *(name for name in (*TOKENIZERS, "tokenizer_config.json") if name in names)]


def _weights(names: list[str], repository: str, weights: str) -> list[str]:
    """The names of the weights' files, unsharded if possible: safetensors, or with `bin` torch's own format."""
    safe, pickled = _of(names, SINGLE_FILE, INDEX_FILE), _of(names, BIN_FILE, BIN_INDEX_FILE)
    if weights == "safetensors" and not safe:
        remedy = (
            f"set backbone.weights to bin to convert its {pickled[0]} (read with weights_only, so no code in it runs)"
            if pickled
            else "name a revision or repository that has them"
        )
        raise InputError(
            f"{repository} has neither {SINGLE_FILE} nor {INDEX_FILE} at this revision, and only safetensors are read; "
            f"{remedy}"
        )
    if weights == "bin" and safe:
        raise InputError(f"{repository} has {safe[0]} at this revision; leave out backbone.weights bin")
    if weights == "bin" and not pickled:
        raise InputError(f"{repository} has no {BIN_FILE} at this revision; check backbone.id and backbone.revision")
    return safe or pickled


def _of(names: list[str], single: str, index: str) -> list[str]:
    """The file `single` if there is one; else `index` and its shards, whose names begin and end as its own does."""
    if single in names or index not in names:
        return [name for name in names if name == single]
    stem, ending = single.rsplit(".", 1)
    shards = [name for name in names if name.startswith(f"{stem}-") and name.endswith(f".{ending}")]
    return [index, *sorted(shards)]


def _check(check: Callable[[Path], object], folder: Path, repository: str) -> None:
    """Run a check of a backbone folder; in its error the repository's name replaces the temporary folder."""
    try:
        check(folder)
    except InputError as error:
        raise InputError(str(error).replace(str(folder), repository)) from error
