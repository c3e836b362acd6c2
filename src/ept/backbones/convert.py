"""Make safetensors of weights that are published in torch's own format alone (many T5 v1.1 and mT5)."""

import zipfile
from pathlib import Path

from ept.backbones.files import INDEX_FILE, SINGLE_FILE, shards
from ept.errors import InputError

BIN_FILE = "pytorch_model.bin"
BIN_INDEX_FILE = "pytorch_model.bin.index.json"


def bin_files(folder: Path) -> list[Path]:
    """pytorch_model.bin, or the shards that its index names. Raises InputError where one is missing."""
    if (folder / BIN_FILE).is_file():
        return [folder / BIN_FILE]
    if (folder / BIN_INDEX_FILE).is_file():
        return shards(folder / BIN_INDEX_FILE, ".bin")
    raise InputError(f"{folder} has neither {BIN_FILE} nor {BIN_INDEX_FILE}; there is nothing to convert")


def convert_weights(folder: str | Path) -> None:
    """Write the tensors of a folder's .bin files as safetensors beside them, shards of at most 5 GB with an index.

    They are read with weights_only=True: nothing in them is run. Tensors that share memory (tied embeddings) are
    written once. Needs memory for all weights where a file has the format of torch before 1.6. Raises InputError for
    missing files, for safetensors that are there already, and for a file that holds anything but tensors.
    """
    import torch
    from huggingface_hub import save_torch_state_dict

    folder = Path(folder)
    for name in (SINGLE_FILE, INDEX_FILE):
        if (folder / name).exists():
            raise InputError(f"{folder / name} is there already; the folder needs no conversion")
    tensors: dict[str, torch.Tensor] = {}
    for path in bin_files(folder):
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except Exception as error:  # the unpickler raises whatever a torn file leads it to
            reason = str(error).strip().split("\n")[0]
            raise InputError(f"{path} cannot be read as tensors alone ({reason}); fetch it again") from error
        if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
            raise InputError(
                f"{path} holds something else than tensors by name; use the weights of a transformers model"
            )
        tensors |= found
    save_torch_state_dict(tensors, folder, max_shard_size="5GB")
