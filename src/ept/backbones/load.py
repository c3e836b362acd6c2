"""Load a frozen backbone from a local folder: config.json and safetensors."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.files import read_config, weight_files
from ept.backbones.t5 import T5
from ept.backbones.t5_config import T5Config
from ept.errors import InputError

DTYPES = ("float32", "bfloat16")
EMBEDDING_NAMES = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


def load_backbone(folder: str | Path, dtype: str = "float32", device: str = "cpu") -> EncoderDecoder:
    """The frozen backbone in `folder` (config.json, and model.safetensors or shards with an index), on
    `device`.

    T5 v1.0 (tied head), v1.1 and flan (gated, own head). Raises InputError for a missing folder or file,
    another model type, sizes that make no model, an unreadable or incomplete safetensors file, a tensor of
    another shape, and a dtype other than float32 or bfloat16 (T5 overflows in float16).
    """
    if dtype not in DTYPES:
        reason = " (T5 overflows in float16)" if dtype == "float16" else ""
        raise InputError(f"backbone.dtype is {dtype}{reason}; use {' or '.join(DTYPES)}")
    folder = Path(folder)
    config = read_config(folder)
    tensors = {}
    for path in weight_files(folder):
        tensors |= _read_tensors(path, getattr(torch, dtype), device)
    return EncoderDecoder(_build(config, tensors, folder))


def _read_tensors(path: Path, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device=device) as file:
            return {name: file.get_tensor(name).to(dtype) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({error}); fetch it again") from error


def _build(config: dict, tensors: dict[str, Tensor], folder: Path) -> T5:
    """A T5 around `tensors`: no weight is initialised, copied or held twice."""
    try:
        with torch.device("meta"):
            model = T5(T5Config.of(config))
    except (ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder / 'config.json'} describes no T5 ({reason}); fetch it again") from error
    embeddings = [tensors.pop(name) for name in EMBEDDING_NAMES if name in tensors]
    head = tensors.pop("lm_head.weight", None)
    # A file holds tied weights under one of their names.
    embedding = embeddings[0] if embeddings else head
    if embedding is None or (head is None and not model.config.tie_word_embeddings):
        missing = "shared.weight" if embedding is None else "lm_head.weight"
        raise InputError(f"{folder}: no tensor {missing} in its safetensors files; fetch the backbone again")
    # One parameter under both names, so that the model stays tied whatever is done with it later.
    embedding = torch.nn.Parameter(embedding, requires_grad=False)
    if head is None or torch.equal(head, embedding):
        head = embedding
    tensors |= {"shared.weight": embedding, "lm_head.weight": head}
    expected = model.state_dict()
    for name, parameter in expected.items():
        found = tensors.get(name)
        if found is None:
            raise InputError(f"{folder}: no tensor {name} in its safetensors files; fetch the backbone again")
        if found.shape != parameter.shape:
            raise InputError(
                f"{folder}: {name} has the shape {list(found.shape)}, config.json says "
                f"{list(parameter.shape)}; config.json and the safetensors files belong to different models"
            )
    model.load_state_dict({name: tensors[name] for name in expected}, assign=True)
    return model
