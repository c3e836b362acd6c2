"""Load a frozen backbone from a local folder: config.json and safetensors."""

import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ept.backbones.backbone import Backbone, Form
from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.families import family_of
from ept.backbones.files import read_config, weight_files
from ept.backbones.quantise import quantised_linear
from ept.backbones.spread import spread
from ept.backbones.t5 import T5
from ept.backbones.t5_config import T5Config
from ept.errors import InputError

DTYPES = ("float32", "bfloat16")
EMBEDDING_NAMES = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


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

    With `quantization` nf4 or int8 the linear layers of the blocks are quantised; embeddings, norms and head have
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


def load_t5(config: dict, folder: Path, form: Form) -> EncoderDecoder:
    """T5 v1.0 (tied head), v1.1, flan and mT5 (gated, own head).

    Linear layers are quantised one by one as they are read. Of a model that is spread over devices all but the blocks
    is on the first. Raises InputError for sizes that make no model, an unreadable or incomplete safetensors
    file, and a tensor of another shape.
    """
    model = _empty(config, folder)
    devices = form.spread_over or (form.device,)
    places = spread(blocks_of(model), devices)
    with WeightFiles(folder) as weights:
        embedding = next((name for name in (*EMBEDDING_NAMES, "lm_head.weight") if name in weights), "shared.weight")
        for name, module in list(model.named_modules()):
            if getattr(module, "weight", None) is None or name == "lm_head":
                continue
            stored = embedding if name == "shared" else f"{name}.weight"
            place = places.get(".".join(name.split(".")[:3]), devices[0])
            weight = weights.read(stored, module.weight.shape).to(place, form.dtype)
            if _is_quantised(name, module, form.quantization):
                model.set_submodule(name, quantised_linear(weight, form.quantization))
            else:
                module.weight = nn.Parameter(weight, requires_grad=False)
        _fill_head(model, weights)
    if form.quantization != "none":
        # What PEFT goes by.
        setattr(model, "is_loaded_in_4bit" if form.quantization == "nf4" else "is_loaded_in_8bit", True)
    return EncoderDecoder(model, form.gradient_checkpointing)


def blocks_of(model: T5) -> dict[str, nn.Module]:
    """The blocks of encoder and decoder by name, in the order in which they run."""
    stacks = {"encoder": model.encoder, "decoder": model.decoder}
    return {f"{name}.block.{i}": block for name, stack in stacks.items() for i, block in enumerate(stack.block)}


def _empty(config: dict, folder: Path) -> T5:
    """A T5 without numbers, so that none is initialised, copied or held twice."""
    try:
        with torch.device("meta"):
            return T5(T5Config.of(config))
    except (ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder / 'config.json'} describes no T5 ({reason}); fetch it again") from error


def _is_quantised(name: str, module: nn.Module, quantization: str) -> bool:
    """Linear layers of the blocks; int8 leaves out `wo`, whose inputs it would round through float16, in which they
    overflow (transformers leaves it out for that too, in 4 bit as well).
    """
    return quantization != "none" and type(module) is nn.Linear and not (quantization == "int8" and name.endswith("wo"))


def _fill_head(model: T5, weights: "WeightFiles") -> None:
    """Give the head its own weight; where it has none, or the same, the embeddings: one parameter under both names, so
    that the model stays tied whatever is done with it later.
    """
    embedding = model.shared.weight
    if "lm_head.weight" not in weights and model.config.tie_word_embeddings:
        model.lm_head.weight = embedding
        return
    head = weights.read("lm_head.weight", embedding.shape).to(embedding.device, embedding.dtype)
    model.lm_head.weight = embedding if torch.equal(head, embedding) else nn.Parameter(head, requires_grad=False)


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
