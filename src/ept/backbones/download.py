"""Fetch a backbone from the Hugging Face hub at a pinned revision: complete, or not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path

from ept.backbones.convert import BIN_FILE, BIN_INDEX_FILE, bin_files, convert_weights
from ept.backbones.files import INDEX_FILE, SINGLE_FILE, read_config, weight_files
from ept.errors import InputError
from ept.files import write_folder_atomically
from ept.hub import HubRepository

TOKENIZERS = ("tokenizer.json", "spiece.model")


def download_backbone(name: str, revision: str, folder: str | Path, weights: str = "safetensors") -> None:
    """Download config.json, tokenizer and weights of the hub repository `name` at `revision` into `folder`.

    With `weights` bin the repository has no safetensors: its pytorch_model.bin becomes some (`convert_weights`). A
    `folder` that exists is complete and left alone, without a word to the network. Raises InputError where the
    repository has no such weights, no tokenizer or no supported model, and for whatever ept.hub refuses.
    """
    folder = Path(folder)
    if folder.exists():
        return
    repository = HubRepository("model", name, revision)
    with write_folder_atomically(folder) as temporary:
        # config.json first: another kind of model is found out before gigabytes are fetched.
        for file in [*_without_weights(repository.names, name), *_weights(repository.names, name, weights)]:
            repository.download(file, temporary)
            if file == "config.json":
                _check(read_config, temporary, name)
        if weights == "bin":
            _check(convert_weights, temporary, name)
            for path in [*bin_files(temporary), temporary / BIN_INDEX_FILE]:
                path.unlink(missing_ok=True)
        _check(weight_files, temporary, name)
        # The hub's own notes about the download.
        shutil.rmtree(temporary / ".cache", ignore_errors=True)


def _without_weights(names: list[str], repository: str) -> list[str]:
    """config.json and the tokenizer's files."""
    if "config.json" not in names:
        raise InputError(f"{repository} has no config.json; name a repository of a transformers model")
    if not any(name in names for name in TOKENIZERS):
        raise InputError(f"{repository} has neither {' nor '.join(TOKENIZERS)}; name a repository with its tokenizer")
    return ["config.json", *(name for name in (*TOKENIZERS, "tokenizer_config.json") if name in names)]


def _weights(names: list[str], repository: str, weights: str) -> list[str]:
    """The files of the weights, unsharded if possible: safetensors, or with `bin` what there is in their place."""
    safe, pickled = _of(names, SINGLE_FILE, INDEX_FILE), _of(names, BIN_FILE, BIN_INDEX_FILE)
    if weights == "safetensors" and not safe:
        remedy = (
            f"set backbone.weights to bin to convert its {pickled[0]} (read with weights_only, nothing in it is run)"
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
    """`single`, or `index` with its shards, whose names begin and end as its own; nothing where neither is there."""
    if single in names or index not in names:
        return [name for name in names if name == single]
    stem, ending = single.rsplit(".", 1)
    shards = [name for name in names if name.startswith(f"{stem}-") and name.endswith(f".{ending}")]
    return [index, *sorted(shards)]


def _check(check: Callable[[Path], object], folder: Path, repository: str) -> None:
    """Run a check of a backbone folder; its complaint then names the repository, not the temporary folder."""
    try:
        check(folder)
    except InputError as error:
        raise InputError(str(error).replace(str(folder), repository)) from error
