"""A GGUF file made into a backbone folder: config.json, safetensors and tokenizer.json, as training reads them."""

import importlib.util
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ept.backbones.files import SINGLE_FILE, read_config
from ept.errors import InputError
from ept.files import write_folder_atomically

MAGIC = b"GGUF"


def convert_gguf(file: Path, folder: Path) -> None:
    """Write the model in `file`, its weights dequantised to float32, as the new folder `folder`.

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
