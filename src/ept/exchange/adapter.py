"""Read and write adapter folders as PEFT and DePT's released code do: adapter_config.json and a file of tensors."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ept.backbones.torch_file import holds_its_numbers, read_torch_file
from ept.errors import InputError, reason_of
from ept.files import check_sums, write_folder_atomically, write_json, write_sums
from ept.methods.prompt_file import SavedPrompt

CONFIG_FILE = "adapter_config.json"
SAFETENSORS_FILE = "adapter_model.safetensors"
PICKLE_FILE = "adapter_model.bin"
PROMPT_KEY = "prompt_embeddings"
# No program can take this for a model: brackets and blanks are forbidden in names on the hub.
UNNAMED = "<name of the base model>"
# What a configuration says of the base model; kept with an imported prompt, so that its export says the same.
BASE_MODEL_KEYS = ("base_model_name_or_path", "revision", "num_layers", "num_attention_heads", "task_type")
_FORMAT_OF = {"PROMPT_TUNING": "peft", "PROMPT_TUNING_LORA": "dept"}


@dataclass(frozen=True)
class ForeignPrompt:
    """What an import takes out of an adapter folder.

    `tensors`: float32 under this project's names, as the method's `load_tensors` wants them. `base_model`: what the
    folder says of its base model. `remarks`: sentences on what was changed, for the user.
    """

    method: str
    tensors: dict[str, Tensor]
    base_model: dict[str, Any]
    remarks: tuple[str, ...]


class AdapterFolder:
    """A folder with adapter_config.json (`config`) and adapter_model.safetensors or .bin.

    Raises InputError: no such folder or configuration, a broken one, one of another kind of adapter than `peft_type`
    or for another task type than `task_types`.
    """

    def __init__(self, folder: str | Path, peft_type: str, task_types: tuple[str, ...]):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(f"no adapter folder {folder}; check --from, or download the adapter first")
        check_sums(self.folder)
        self.config_path = self.folder / CONFIG_FILE
        self.config = _read_config(self.config_path)
        found = self.config.get("peft_type")
        if found != peft_type:
            other = _FORMAT_OF.get(found) if isinstance(found, str) else None
            remedy = f"use --format {other}" if other else f"only {' and '.join(_FORMAT_OF)} can become prompt files"
            raise InputError(f"{self.config_path}: peft_type is {found!r}, this format needs {peft_type!r}; {remedy}")
        if self.config.get("task_type") not in task_types:
            raise InputError(
                f"{self.config_path}: task_type is {self.config.get('task_type')!r}; only adapters for "
                f"{' or '.join(task_types)} can be imported in this format"
            )

    @property
    def base_model(self) -> dict[str, Any]:
        """What the configuration says of the base model."""
        found = {key: self.config.get(key) for key in BASE_MODEL_KEYS}
        return {key: value for key, value in found.items() if isinstance(value, str | int)}

    def tensors(self, names: Mapping[str, str]) -> dict[str, Tensor]:
        """The matrices of the weights file by their own names, float32 on the CPU; `names`: foreign name -> own.

        Raises InputError: no weights file, a damaged one, one that holds other objects than tensors (never loaded),
        tensors missing or too many, NaN or infinity, or no matrix of floating-point numbers.
        """
        path = self._weights_file()
        found = _read_safetensors(path) if path.name == SAFETENSORS_FILE else read_torch_file(path, "the adapter")
        if not all(isinstance(name, str) for name in found):
            raise InputError(f"{path} has keys that are not names; take the file of a whole adapter of this format")
        missing, surplus = sorted(names.keys() - found.keys()), sorted(found.keys() - names.keys())
        if missing or surplus:
            complaints = [f"lacks {', '.join(missing)}"] if missing else []
            complaints += [f"also has {', '.join(surplus[:3])}"] if surplus else []
            raise InputError(f"{path} {' and '.join(complaints)}; take the file of a whole adapter of this format")
        for name in names:
            _check_matrix(path, name, found[name])
        return {own: found[name].detach().float().contiguous() for name, own in names.items()}

    def check_size(self, key: str, found: int) -> None:
        """Raise InputError where the configuration says another size than the tensors have."""
        stated = self.config.get(key)
        if stated != found or isinstance(stated, bool):
            raise InputError(
                f"{self.config_path}: {key} is {stated!r}, but the tensors say {found}; take configuration and "
                "weights of the same adapter"
            )

    def encoder_prompt(self, prompt: Tensor) -> tuple[Tensor, tuple[str, ...]]:
        """The rows of `prompt` [rows, hidden] that reach the input, and a remark where these are not all.

        PEFT and the released code of DePT allocate num_transformer_submodules times num_virtual_tokens rows, two
        times where an encoder-decoder leaves that unsaid, and prepend the first num_virtual_tokens to the encoder's
        input. Since PEFT 0.4 the others get no gradient and touch no output. PEFT 0.3 and before trained them too, and
        put them before the decoder's input; what they saved lacks the key `revision`. Such a prompt has no equal here.
        """
        modules = self.config.get("num_transformer_submodules")
        most = 2 if self.config["task_type"] == "SEQ_2_SEQ_LM" else 1
        if modules is None:
            modules = most
        if type(modules) is not int or not 1 <= modules <= most:
            raise InputError(
                f"{self.config_path}: num_transformer_submodules is {modules!r}; an adapter for "
                f"{self.config['task_type']} has {' or '.join(map(str, range(1, most + 1)))}"
            )
        tokens, rest = divmod(len(prompt), modules)
        if rest:
            raise InputError(
                f"{self.config_path}: num_transformer_submodules is {modules}, but {PROMPT_KEY} has {len(prompt)} "
                "rows; take configuration and weights of the same adapter"
            )
        self.check_size("num_virtual_tokens", tokens)
        if modules == 1:
            return prompt, ()
        if "revision" not in self.config:
            raise InputError(
                f"{self.config_path}: num_transformer_submodules is 2 and `revision` is missing, as in files of PEFT "
                "0.3 and before; these also put a prompt before the decoder's input, which is not supported; "
                "train with num_transformer_submodules 1 or a newer PEFT"
            )
        remark = (
            f"{self.folder} holds {len(prompt)} rows for {tokens} tokens (num_transformer_submodules 2): the second "
            "half was never used or trained and is left out; the outputs are the same"
        )
        return prompt[:tokens].clone(), (remark,)

    def _weights_file(self) -> Path:
        # PEFT's order.
        for name in (SAFETENSORS_FILE, PICKLE_FILE):
            if (self.folder / name).is_file():
                return self.folder / name
        raise InputError(f"{self.folder} has neither {SAFETENSORS_FILE} nor {PICKLE_FILE}; fetch the adapter again")


def _read_config(path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    if not path.is_file():
        raise InputError(f"{path} is missing; name the folder that holds it with --from")
    try:
        config = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({reason_of(error)}); fetch the adapter again") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} does not hold a JSON object; fetch the adapter again")
    return config


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is damaged or not a safetensors file ({reason_of(error)}); fetch the adapter again"
        ) from error


def _check_matrix(path: Path, name: str, tensor: Any) -> None:
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or not tensor.is_floating_point():
        raise InputError(f"{path}: {name} is not a dense floating-point tensor; use an unquantized adapter")
    if tensor.dim() != 2 or 0 in tensor.shape:
        raise InputError(
            f"{path}: {name} has the shape {list(tensor.shape)}, but must be a non-empty matrix; take the file of an "
            "adapter of this format"
        )
    if not holds_its_numbers(tensor):
        raise InputError(f"{path}: {name} does not hold all its numbers; save the adapter's tensors with clone()")
    # Of the float32 that will be used: a larger number of float64 becomes infinite.
    if not tensor.float().isfinite().all():
        raise InputError(f"{path}: {name} holds NaN or infinity; take an adapter whose training did not diverge")


def format_of(folder: Path) -> str:
    """The format of an adapter folder by its peft_type. Raises InputError for another kind of adapter."""
    found = _read_config(folder / CONFIG_FILE).get("peft_type")
    if not isinstance(found, str) or found not in _FORMAT_OF:
        raise InputError(f"{folder / CONFIG_FILE}: peft_type is {found!r}; only {' and '.join(_FORMAT_OF)} can be read")
    return _FORMAT_OF[found]


def base_model(prompt: SavedPrompt, backbone: str | None) -> dict[str, Any]:
    """What an adapter's configuration says of its base model.

    That is `backbone` where given, else what the folder said from which the prompt was imported, else the backbone that
    it was trained on, else a placeholder. It is an encoder-decoder unless the prompt says otherwise.
    """
    known = prompt.metadata.get("imported", {}).get("base_model", {})
    if backbone is not None and backbone != known.get("base_model_name_or_path"):
        # Layers and revision are another model's.
        known = {key: known[key] for key in ("task_type",) if key in known}
        known["base_model_name_or_path"] = backbone
    return {
        "base_model_name_or_path": prompt.metadata.get("backbone", UNNAMED),
        "revision": None,
        "num_layers": None,
        "num_attention_heads": None,
        "task_type": prompt.metadata.get("task_type", "SEQ_2_SEQ_LM"),
        **known,
    }


def write_adapter(
    folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], save: Callable[[dict[str, Tensor], Path], None]
) -> None:
    """Write adapter_config.json, weights (by `save`, into the folder that it gets) and SHA256SUMS as one new folder.

    Raises InputError where there is something at `folder` already, or nothing can be written there.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder} exists already; name a new folder with --to, or remove that one")
    try:
        with write_folder_atomically(folder) as temporary:
            write_json(temporary / CONFIG_FILE, dict(sorted(config.items())))
            save({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
            write_sums(temporary)
    except OSError as error:
        raise InputError(
            f"cannot write the folder {folder} ({error.strerror or error}); name another with --to"
        ) from error
