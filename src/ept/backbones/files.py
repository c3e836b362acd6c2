"""What a backbone folder holds: its configuration and the files of its weights. Standard library only."""

import hashlib
import json
import os
from pathlib import Path

from ept.backbones.families import FAMILIES, family_of
from ept.errors import InputError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


def check_folder(folder: Path) -> None:
    """Raise InputError where there is no such folder."""
    if not folder.is_dir():
        raise InputError(f"no backbone folder {folder}; check backbone.id, or download the backbone first")


def read_config(folder: Path) -> dict:
    """config.json as a dictionary. Raises InputError where it is missing, broken, or of an unsupported model
    type.
    """
    check_folder(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{path} is missing; a backbone folder holds config.json and *.safetensors")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON ({error}); fetch it again") from error
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type not in FAMILIES:
        raise InputError(f"{path}: model_type is {model_type}; supported: {', '.join(FAMILIES)}")
    return config


def hidden_size(folder: Path) -> int | None:
    """d, the size of the embeddings by config.json; None where that leaves it to the default of its kind."""
    config = read_config(folder)
    return config.get(family_of(config).hidden_size)


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
    """The files with this ending that an index names, beside it. Raises InputError for another index, or where one is
    missing.
    """
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{index} is no index of {ending[1:]} shards ({error!r}); fetch it again") from error
    for name in names:
        # A name with folders would read files from elsewhere.
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(ending):
            raise InputError(f"{index}: {name!r} is no {ending[1:]} file of this folder; fetch it again")
        if not (index.parent / name).is_file():
            raise InputError(f"{index.parent / name} is missing, but {index.name} names it; fetch the backbone again")
    return [index.parent / name for name in names]


SAMPLES = 64
SAMPLE_BYTES = 16 * 1024
HEADER_LIMIT = 100 * 2**20


def backbone_identity(folder: str | Path) -> str:
    """Eight hexadecimal digits that change when the backbone in `folder` does.

    Over config.json, tokenizer.json (or spiece.model), and of each safetensors file the size, the header and
    64 evenly spread samples of 16 KiB. A digest of everything would read 45 GB of an 11B model at every
    parse; training changes every matrix, so samples of each find another model of the same shape, and exact
    identity is the business of whoever published the files. Raises InputError for missing files and torn
    headers.
    """
    folder = Path(folder)
    check_folder(folder)
    digest = hashlib.sha256()
    for path in [folder / "config.json", _tokenizer_file(folder)]:
        if not path.is_file():
            raise InputError(f"{path} is missing; a backbone folder holds config.json, a tokenizer and *.safetensors")
        _add(digest, path.name.encode())
        _add(digest, path.read_bytes())
    for path in weight_files(folder):
        _add(digest, path.name.encode())
        _add_weights(digest, path)
    return digest.hexdigest()[:8]


def _tokenizer_file(folder: Path) -> Path:
    spiece = folder / "spiece.model"
    tokenizer = folder / "tokenizer.json"
    return spiece if spiece.is_file() and not tokenizer.is_file() else tokenizer


def _add(digest, content: bytes) -> None:
    # With its length, so that no two sequences of parts run together to the same bytes.
    digest.update(len(content).to_bytes(8, "little"))
    digest.update(content)


def _add_weights(digest, path: Path) -> None:
    """Size, header (its first 8 bytes give its length) and samples from the first to the last byte of the
    data.
    """
    size = os.path.getsize(path)
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        start = 8 + header_size
        if size < start or header_size > HEADER_LIMIT:
            raise InputError(f"{path} is no complete safetensors file; fetch it again")
        _add(digest, size.to_bytes(8, "little"))
        _add(digest, file.read(header_size))
        last = max(start, size - SAMPLE_BYTES)
        for sample in range(SAMPLES):
            file.seek(start + (last - start) * sample // (SAMPLES - 1))
            _add(digest, file.read(SAMPLE_BYTES))
