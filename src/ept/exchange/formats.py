"""Import and export of prompt files: the formats by name. A new format is one file and one line here."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from ept.backbones.files import hidden_size
from ept.errors import InputError, listed

ADAPTERS = {"dept": "ept.exchange.dept", "peft": "ept.exchange.peft"}
IMPORTS = ADAPTERS | {"npy": "ept.exchange.npy"}
FORMATS = ADAPTERS | {"vllm": "ept.exchange.vllm"}


def import_prompt(
    format: str, folder: str | Path, file: str | Path, backbone_folder: str | Path | None = None
) -> list[str]:
    """Write the prompt in a foreign adapter folder or file as a prompt file; return sentences for the user.

    With `backbone_folder` the prompt's hidden size is checked against that backbone's. Raises InputError where the
    adapter cannot be read or does not fit, where there is something at `file` already, or nothing can be written;
    then nothing is.
    """
    from ept.methods.prompt_file import save_prompt

    file = Path(file)
    if file.exists():
        raise InputError(f"{file} exists already; name a new file with --to, or remove that one")
    foreign = _module(format).read(folder)
    if backbone_folder is not None:
        _check_hidden_size(folder, foreign.tensors["prompt"].shape[1], Path(backbone_folder))
    metadata = {"method": foreign.method, "imported": {"format": format, "base_model": foreign.base_model}}
    try:
        save_prompt(file, foreign.tensors, foreign.tensors, metadata)
    except OSError as error:
        raise InputError(f"cannot write {file} ({error.strerror or error}); name another file with --to") from error
    return [_summary(file, f"a prompt of method {foreign.method}", foreign.tensors), *foreign.remarks]


def export_prompt(format: str, file: str | Path, folder: str | Path, backbone: str | None = None) -> list[str]:
    """Write a prompt file as a foreign adapter folder with equal outputs; return sentences for the user.

    `backbone`: the base model's public name for the folder's configuration. Raises InputError where the prompt cannot
    be read, is damaged or cannot be represented in this format, where `folder` exists already, or where it cannot be
    written; no partial files are left.
    """
    from ept.exchange.adapter import UNNAMED, base_model
    from ept.methods.prompt_file import read_prompt

    writer, prompt = _module(format), read_prompt(file)
    origin = f"the prompt {file} (method {prompt.metadata.get('method', 'unknown')})"
    _check_collapsed(prompt.collapsed, origin)
    if "vision" in prompt.metadata:
        raise InputError(
            f"{origin} reads images, which the format {format} does not know; export a prompt of a text task"
        )
    writer.write(Path(folder), prompt, origin, backbone)
    sentences = [_summary(folder, f"an adapter in the format {format}", prompt.collapsed)]
    if base_model(prompt, backbone)["base_model_name_or_path"] == UNNAMED:
        sentences.append(f"its base_model_name_or_path is the placeholder {UNNAMED!r}; give the name with --backbone")
    return sentences


def _module(format: str) -> ModuleType:
    known = IMPORTS | FORMATS
    if format not in known:
        raise InputError(f"unknown format {format!r}; known are {', '.join(known)}")
    return importlib.import_module(known[format])


def foreign_format(path: str | Path) -> str:
    """The format of a foreign prompt: `npy` by its ending, else what its adapter folder says.

    Raises InputError for another kind of adapter.
    """
    from ept.exchange.adapter import format_of

    return "npy" if Path(path).suffix == ".npy" else format_of(Path(path))


def _check_hidden_size(origin: str | Path, found: int, folder: Path) -> None:
    needed = hidden_size(folder)
    if found != needed:
        raise InputError(
            f"the prompt in {origin} has hidden size {found}, the backbone in {folder} has {needed}; name the backbone "
            "that it was trained on with --backbone-folder"
        )


def _check_collapsed(tensors: dict[str, Any], origin: str) -> None:
    """Raise InputError unless there is a prompt [s, d], all numbers are finite, and A and B fit it and each other."""
    if tensors.get("prompt") is None or tensors["prompt"].dim() != 2:
        raise InputError(
            f"{origin} holds {listed(tensors) or 'nothing'}, no prompt matrix; only prompts can be exported"
        )
    for name, tensor in tensors.items():
        if tensor is None or not tensor.isfinite().all():
            raise InputError(f"{origin}: {name} holds NaN or infinity; use a prompt of a run that did not diverge")
    if tensors.keys() != {"prompt", "A", "B"}:
        return
    for name in ("A", "B"):
        if tensors[name].dim() != 2:
            raise InputError(f"{origin}: {name} is not a matrix; train the prompt again")
    sizes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if (sizes["A"][1], sizes["prompt"][1]) != sizes["B"]:
        raise InputError(
            f"{origin}: prompt, A and B have the shapes {sizes}, which do not fit each other; train the prompt again"
        )


def _summary(path: str | Path, kind: str, tensors: dict[str, Any]) -> str:
    sizes = ", ".join(f"{name} {' x '.join(map(str, tensor.shape))}" for name, tensor in tensors.items())
    return f"{path}: {kind}, {sizes}"


def read_foreign(path: str | Path) -> Any:
    """The prompt in an adapter folder (whose configuration says which format it has) or an .npy file, as ForeignPrompt.

    Raises InputError where it is neither.
    """
    return _module(foreign_format(path)).read(path)
