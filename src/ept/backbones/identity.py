"""The identity of a local backbone, cheap enough for every parse of the Snakefile. Standard library only."""

import hashlib
import os
from pathlib import Path

from ept.backbones.files import check_folder, weight_files
from ept.errors import InputError

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
