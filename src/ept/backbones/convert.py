"""Make safetensors of weights in other formats: torch's own (many T5 v1.1 and mT5) and GGUF."""

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ept.backbones.files import INDEX_FILE, SINGLE_FILE, read_config, shards
from ept.backbones.torch_file import holds_its_numbers, read_torch_file
from ept.errors import InputError, reason_of
from ept.files import write_folder_atomically

BIN_FILE = "pytorch_model.bin"
BIN_INDEX_FILE = "pytorch_model.bin.index.json"
SHARD_SIZE = "5GB"


def bin_files(folder: Path) -> list[Path]:
    """pytorch_model.bin, or the shards that its index names. Raises InputError where one is missing."""
    if (folder / BIN_FILE).is_file():
        return [folder / BIN_FILE]
    if (folder / BIN_INDEX_FILE).is_file():
        return shards(folder / BIN_INDEX_FILE, ".bin")
    raise InputError(f"{folder} has neither {BIN_FILE} nor {BIN_INDEX_FILE}; there is nothing to convert")


def convert_weights(folder: str | Path) -> None:
    """Write the tensors of a folder's .bin files as safetensors next to them: all files, or none.

    Shards have at most 5 GB and an index. Files are read with weights_only=True: no code in them runs. Tensors that
    share memory (tied embeddings) are written once. A file in the format of torch before 1.6 is held in memory whole.

    Raises:
        InputError: For missing files, for safetensors that exist already, for a file that holds anything but tensors,
            and where the disk is full.
    """
    from huggingface_hub import save_torch_state_dict

    folder = Path(folder)
    for name in (SINGLE_FILE, INDEX_FILE):
        if (folder / name).exists():
            raise InputError(f"{folder / name} exists already; the folder needs no conversion")
    tensors: dict[str, Tensor] = {}
    for path in bin_files(folder):
        found = read_torch_file(path, "the model")
        if not all(_is_named_tensor(*item) for item in found.items()):
            raise InputError(f"{path} holds more than dense tensors by name; use the weights of a transformers model")
        tensors |= found
    converted = folder / ".converted"
    # Left by a process that was killed while it moved the files.
    shutil.rmtree(converted, ignore_errors=True)
    with write_folder_atomically(converted) as temporary:
        save_torch_state_dict(tensors, temporary, max_shard_size=SHARD_SIZE)
    # The index last: without it the shards are not yet a model.
    for path in sorted(converted.iterdir(), key=lambda path: path.name == INDEX_FILE):
        path.replace(folder / path.name)
    converted.rmdir()


def _is_named_tensor(name: object, value: object) -> bool:
    """Whether an entry of a .bin file is a tensor that safetensors can hold."""
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and not value.is_quantized
        and holds_its_numbers(value)
    )


MAGIC = b"GGUF"


def convert_gguf(file: Path, folder: Path) -> None:
    """Write a model in GGUF, its weights dequantized to float32, as a new backbone folder.

    transformers reads the format.

    Args:
        file: The GGUF file.
        folder: The folder to make; it appears complete or not at all.

    Raises:
        InputError: Where the package gguf is missing, where `file` is not a complete GGUF file of a supported model,
            where `folder` exists already, and where the disk is full.
    """
    if importlib.util.find_spec("gguf") is None:
        raise InputError("reading GGUF needs the package gguf; install it with `pip install ept-prompt-tuning[gguf]`")
    if folder.exists():
        raise InputError(f"{folder} exists already; name a new folder with --to, or remove that one")
    if not file.is_file() or not _is_gguf(file):
        raise InputError(f"{file} is not a GGUF file; name one with --file")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **where)
        model = AutoModelForCausalLM.from_pretrained(file.parent, **where, dtype=torch.float32)
    except Exception as error:  # the reader raises many kinds for what it does not know
        raise InputError(f"{file}: transformers cannot read this model ({reason_of(error)}); fetch it again") from error
    with write_folder_atomically(folder) as temporary:
        # save_pretrained refuses a model that came from GGUF, though its weights are plain numbers by now.
        vars(model.config).pop("quantization_config", None)
        model.config.save_pretrained(temporary)
        save_file(_untied(model), temporary / SINGLE_FILE, metadata={"format": "pt"})
        tokenizer.save_pretrained(temporary)
        # An unsupported architecture ends here, and leaves nothing behind.
        read_config(temporary)


def _untied(model: nn.Module) -> dict[str, Tensor]:
    """Every tensor once, under the first of its names, which is that of the embeddings for tied ones."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        found.setdefault(tensor.data_ptr(), (name, tensor.contiguous()))
    return dict(found.values())


def _is_gguf(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(MAGIC)) == MAGIC
