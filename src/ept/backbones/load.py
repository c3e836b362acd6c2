"""Load a frozen backbone from a local folder: config.json and safetensors."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ept.backbones.backbone import Backbone, Form
from ept.backbones.families import family_of
from ept.backbones.files import read_config, weight_files
from ept.errors import InputError

DTYPES = ("float32", "bfloat16")


def load_backbone(
    folder: str | Path,
    dtype: str = "float32",
    device: str = "cpu",
    quantization: str = "none",
    gradient_checkpointing: bool = False,
    spread_over: tuple[str, ...] = (),
) -> Backbone:
    """The frozen backbone in `folder` (config.json, and model.safetensors or shards with an index), on
    `device`.

    With `quantization` nf4 or int8 the linear layers of the blocks are quantized; embeddings, norms and head have
    `dtype`. `spread_over` names the devices that share the blocks, if more than one. Raises InputError for a missing
    folder or file, a model type that no family has, a dtype other than float32 or bfloat16 (T5 overflows in float16),
    and whatever the family's loader refuses.
    """
    if dtype not in DTYPES:
        reason = " (T5 overflows in float16)" if dtype == "float16" else ""
        raise InputError(f"backbone.dtype is {dtype}{reason}; use {' or '.join(DTYPES)}")
    folder = Path(folder)
    config = read_config(folder)
    module, name = family_of(config).loader.split(":")
    form = Form(getattr(torch, dtype), device, quantization, gradient_checkpointing, spread_over)
    return getattr(importlib.import_module(module), name)(config, folder, form)


class WeightFiles:
    """The safetensors files of a folder, open: tensors are read one at a time."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._paths = weight_files(folder)
        self._stack = ExitStack()
        self._files: dict = {}

    def __enter__(self) -> "WeightFiles":
        for path in self._paths:
            with _named(path):
                file = self._stack.enter_context(safe_open(path, framework="pt"))
                self._files |= {name: (path, file) for name in file.keys()}  # noqa: SIM118
        return self

    def __exit__(self, *error) -> None:
        self._stack.close()

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def read(self, name: str, shape: torch.Size) -> Tensor:
        """The tensor of that name, on the CPU. Raises InputError where it is missing or of another shape."""
        if name not in self._files:
            raise InputError(f"{self._folder}: no tensor {name} in its safetensors files; fetch the backbone again")
        path, file = self._files[name]
        with _named(path):
            tensor = file.get_tensor(name)
        if tensor.shape != shape:
            raise InputError(
                f"{self._folder}: {name} has the shape {list(tensor.shape)}, config.json says {list(shape)}; "
                "config.json and the safetensors files belong to different models"
            )
        return tensor


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Makes one sentence with the path of a file that cannot be read."""
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({error}); fetch it again") from error


def spread(blocks: Mapping[str, nn.Module], devices: Sequence[str]) -> dict[str, str]:
    """A device for every block by its name, in their order: each holds about as many parameters as the others."""
    sizes = {name: sum(parameter.numel() for parameter in block.parameters()) for name, block in blocks.items()}
    total, before, places = sum(sizes.values()), 0, {}
    for name, size in sizes.items():
        # Where the middle of the block falls.
        places[name] = devices[(2 * before + size) * len(devices) // (2 * total)]
        before += size
    return places
