"""Load a frozen backbone from a local folder: config.json and safetensors."""

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ept.backbones.backbone import Backbone, Form
from ept.backbones.families import family_of
from ept.backbones.files import check_weights, read_config, weight_files
from ept.errors import InputError, reason_of

DTYPES = ("float32", "bfloat16")


def load_backbone(
    folder: str | Path,
    dtype: str = "float32",
    device: str = "cpu",
    quantization: str = "none",
    gradient_checkpointing: bool = False,
    spread_over: tuple[str, ...] = (),
) -> Backbone:
    """Load the frozen backbone in a folder with config.json, and model.safetensors or shards with an index.

    Args:
        folder: The backbone's folder.
        dtype: Precision of the weights, float32 or bfloat16 (T5 overflows in float16).
        device: Where they are, as torch names it.
        quantization: nf4 or int8 quantizes the linear layers of the blocks; embeddings, norms and head keep `dtype`.
        gradient_checkpointing: Keep only the input of each block for the backward pass.
        spread_over: The devices that share the blocks, if more than one.

    Raises:
        InputError: For a missing folder or file, an unsupported model type or dtype, and weights that are not those of
            the model in config.json, are already quantized, or are not finite.
    """
    if dtype not in DTYPES:
        reason = " (T5 overflows in float16)" if dtype == "float16" else ""
        raise InputError(f"backbone.dtype is {dtype}{reason}; use {' or '.join(DTYPES)}")
    folder = Path(folder)
    config = read_config(folder)
    check_weights(folder)
    module, name = family_of(config).loader.split(":")
    form = Form(getattr(torch, dtype), device, quantization, gradient_checkpointing, spread_over)
    return getattr(importlib.import_module(module), name)(config, folder, form)


class WeightFiles:
    """The safetensors files of a folder, open: tensors are read one at a time."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._paths = weight_files(folder)
        self._stack = ExitStack()
        self._files: dict[str, tuple[Path, Any]] = {}

    def __enter__(self) -> "WeightFiles":
        for path in self._paths:
            with _named(path):
                file = self._stack.enter_context(safe_open(path, framework="pt"))
                self._files |= dict.fromkeys(file.keys(), (path, file))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def read(self, name: str, dtype: torch.dtype) -> Tensor:
        """A tensor by its name, on the CPU. Raises InputError where it cannot be read or is not finite."""
        path, file = self._files[name]
        with _named(path):
            tensor = file.get_tensor(name).to(dtype)
        refuse_not_finite(self._folder, [(name, tensor)])
        return tensor


def refuse_not_finite(folder: Path, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Raise InputError for the first of the named tensors that holds NaN or infinity; on a CPU about 0.2 s per GB."""
    for name, tensor in tensors:
        # One pass without a copy: NaN and infinity stay what they are in a minimum or maximum.
        if tensor.numel() and not all(bound.isfinite() for bound in tensor.aminmax()):
            raise InputError(f"{folder}: {name} holds NaN or infinity; fetch the backbone again")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn the errors of a file that cannot be read into one sentence with its path."""
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({reason_of(error)}); fetch it again") from error


def spread(blocks: Mapping[str, nn.Module], devices: Sequence[str]) -> dict[str, str]:
    """A device for every block by its name; consecutive blocks share one, and all hold about as many parameters."""
    sizes = {name: sum(parameter.numel() for parameter in block.parameters()) for name, block in blocks.items()}
    total, before, places = sum(sizes.values()), 0, {}
    for name, size in sizes.items():
        # The device in whose share of the parameters the middle of the block lies.
        places[name] = devices[(2 * before + size) * len(devices) // (2 * total)]
        before += size
    return places
