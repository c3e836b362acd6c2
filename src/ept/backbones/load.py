"""Load a frozen backbone from a local folder: config.json and safetensors."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.files import read_config, weight_files
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


def _build(config: dict, tensors: dict[str, Tensor], folder: Path) -> torch.nn.Module:
    """A T5ForConditionalGeneration around `tensors`: no weight is initialised, copied or held twice."""
    with _without_scipy():
        from transformers.models.t5.configuration_t5 import T5Config
        from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

    try:
        with torch.device("meta"):
            model = T5ForConditionalGeneration(T5Config.from_dict(config))
    except Exception as error:  # a wrong value fails wherever it is used first
        reason = " ".join(str(error).split())
        raise InputError(f"{folder / 'config.json'} describes no T5 ({reason}); fetch it again") from error
    embeddings = [tensors.pop(name) for name in EMBEDDING_NAMES if name in tensors]
    head = tensors.pop("lm_head.weight", None)
    # A file holds tied weights under one of their names.
    embedding = embeddings[0] if embeddings else head
    if embedding is None or (head is None and config.get("tie_word_embeddings") is False):
        missing = "shared.weight" if embedding is None else "lm_head.weight"
        raise InputError(f"{folder}: no tensor {missing} in its safetensors files; fetch the backbone again")
    # One parameter under all its names, so that the model stays tied whatever is done with it later.
    embedding = torch.nn.Parameter(embedding, requires_grad=False)
    if head is None or torch.equal(head, embedding):
        head = embedding
    tensors |= {name: embedding for name in EMBEDDING_NAMES} | {"lm_head.weight": head}
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


@contextmanager
def _without_scipy() -> Iterator[None]:
    """Let transformers believe that there is no SciPy while T5 is imported, a tenth of its time.

    Only its object-detection losses want SciPy (linear_sum_assignment), and every model class imports those.
    None in sys.modules is Python's own way to say that a module cannot be imported; a SciPy already imported
    is left alone.
    """
    if "scipy" in sys.modules or "transformers.modeling_utils" in sys.modules:
        yield
        return
    sys.modules["scipy"] = None
    try:
        yield
    finally:
        del sys.modules["scipy"]
        from transformers.utils.import_utils import is_scipy_available

        is_scipy_available.cache_clear()
