"""Make safetensors of weights that are published in torch's own format alone (many T5 v1.1 and mT5)."""

import importlib.util
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ept.backbones.files import INDEX_FILE, SINGLE_FILE, read_config, shards
from ept.errors import InputError
from ept.files import write_folder_atomically

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


MAGIC = b"GGUF"


def convert_gguf(file: Path, folder: Path) -> None:
    """Write the model in `file`, its weights dequantized to float32, as the new folder `folder`.

    transformers reads the format. Raises InputError where the package gguf is missing, where `file` is no whole GGUF
    file of a supported model, and where there is something at `folder` already.
    """
    if importlib.util.find_spec("gguf") is None:
        raise InputError("reading GGUF needs the package gguf; install it with `pip install ept[gguf]`")
    if folder.exists():
        raise InputError(f"{folder} exists already; name a new folder with --to, or remove that one")
    if not file.is_file() or not _is_gguf(file):
        raise InputError(f"{file} is no GGUF file; name one with --file")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where)
        model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    except Exception as error:  # the reader raises many kinds for what it does not know
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{file}: transformers cannot read this model ({reason}); fetch it again") from error
    with write_folder_atomically(folder) as temporary:
        # Not save_pretrained, which refuses a model that came from GGUF, though its weights are plain numbers by now.
        vars(model.config).pop("quantization_config", None)
        model.config.save_pretrained(temporary)
        save_file(_untied(model), temporary / SINGLE_FILE, metadata={"format": "pt"})
        tokenizer.save_pretrained(temporary)
        # An architecture that is no backbone is found out here and leaves nothing behind.
        read_config(temporary)


def _untied(model: nn.Module) -> dict[str, Tensor]:
    """Every tensor once, under the first of its names: of tied ones that of the embeddings, where loading looks."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        found.setdefault(tensor.data_ptr(), (name, tensor.contiguous()))
    return dict(found.values())


def _is_gguf(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(MAGIC)) == MAGIC
