"""What a backbone folder holds: its configuration, its tokenizer and the files of its weights. No torch."""

import json
from pathlib import Path
from typing import Any

from ept.backbones.families import FAMILIES, family_of
from ept.backbones.tensors import INSTEAD, check_tensors, stored_tensors
from ept.errors import InputError, reason_of
from ept.files import content_digests

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
# Bytes. Published ones have a few kilobytes.
CONFIG_LIMIT = 1_000_000
# What reading a tokenizer depends on: tokenizer.json alone, or else spiece.model with what stands next to it.
SPIECE_FILES = ("spiece.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def check_folder(folder: Path) -> None:
    """Raise InputError where there is no such folder."""
    if not folder.is_dir():
        raise InputError(f"no backbone folder {folder}; check backbone.id, or download the backbone first")


def read_config(folder: Path) -> dict[str, Any]:
    """A backbone's config.json as a dictionary, with the defaults of its model type for sizes that it leaves out.

    Raises InputError where it is missing, broken, of an unsupported model type, or of a quantized checkpoint.
    """
    check_folder(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{path} is missing; a backbone folder holds config.json and *.safetensors")
    if path.stat().st_size > CONFIG_LIMIT:
        raise InputError(f"{path} has {path.stat().st_size} bytes, more than any model's; fetch it again")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({reason_of(error)}); fetch it again") from error
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise InputError(f"{path}: model_type is {model_type}; supported are {', '.join(FAMILIES)}")
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method") if isinstance(quantized, dict) else None
        raise InputError(
            f"{path}: the checkpoint is already quantized (quantization_config: {method or 'unnamed'}); {INSTEAD}"
        )
    given = {key: value for key, value in config.items() if value is not None}
    return {**config, **family_of(config).defaults, **given}


def hidden_size(folder: Path) -> int:
    """The size of a backbone's embeddings by its config.json. Raises InputError for one that is not a size."""
    config = read_config(folder)
    key = family_of(config).hidden_size
    value = config[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{folder / 'config.json'}: {key} is {value!r}; it must be a whole number above 0")
    return value


def weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or the shards that the index names. Raises InputError where one is missing."""
    if (folder / SINGLE_FILE).is_file():
        return [folder / SINGLE_FILE]
    if not (folder / INDEX_FILE).is_file():
        raise InputError(
            f"{folder} has neither {SINGLE_FILE} nor {INDEX_FILE}; only safetensors are read, so convert other weights "
            "(`ept convert-weights` does it for pytorch_model.bin)"
        )
    return shards(folder / INDEX_FILE, ".safetensors")


def shards(index: Path, ending: str) -> list[Path]:
    """The files with this ending that an index names, all in its own folder.

    Raises InputError for a file that is not such an index, and where a shard is missing.
    """
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(
            f"{index} is not an index of {ending[1:]} shards ({reason_of(error)}); fetch it again"
        ) from error
    for name in names:
        # A name with folders would read files from elsewhere.
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(ending):
            raise InputError(f"{index}: {name!r} is not a {ending[1:]} file of this folder; fetch it again")
        if not (index.parent / name).is_file():
            raise InputError(f"{index.parent / name} is missing, but {index.name} names it; fetch the backbone again")
    if not names:
        raise InputError(f"{index} names no {ending[1:]} shard; fetch it again")
    return [index.parent / name for name in sorted(names)]


def check_weights(folder: Path) -> None:
    """Raise InputError unless the safetensors files hold the model that config.json describes; reads headers only.

    The sentence says what the checkpoint is instead: already quantized, of another size, not whole, not of
    floating-point numbers (`ept.backbones.tensors`). Values that are not finite are found when the weights are loaded.
    """
    check_tensors(folder, read_config(folder), stored_tensors(weight_files(folder)))


def backbone_identity(folder: str | Path) -> str:
    """Eight hexadecimal digits that change whenever the content of a backbone folder does.

    They are a SHA-256 over the names and whole contents of config.json, of tokenizer.json (or, without it, of
    spiece.model and what stands next to it) and of all safetensors files: every weight counts. Other files, and the
    folder's own name, do not. A file of 1 MiB or more is read when it is seen for the first time and again when its
    size, time stamps or inode change (`ept.files.content_digest`): about a second per gigabyte, and nothing afterwards.

    Raises InputError for missing files, and for weights that `check_weights` refuses.
    """
    folder = Path(folder)
    check_folder(folder)
    files = [folder / "config.json", *tokenizer_files(folder)]
    for path in files:
        if not path.is_file():
            raise InputError(f"{path} is missing; a backbone folder holds config.json, a tokenizer and *.safetensors")
    check_weights(folder)
    return content_digests({path.name: path for path in [*files, *weight_files(folder)]})[:8]


def tokenizer_files(folder: Path) -> list[Path]:
    """What reading the tokenizer of a backbone folder depends on."""
    if (folder / "tokenizer.json").is_file() or not (folder / "spiece.model").is_file():
        return [folder / "tokenizer.json"]
    return [folder / name for name in SPIECE_FILES if (folder / name).is_file()]
