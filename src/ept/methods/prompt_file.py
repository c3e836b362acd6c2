"""Prompt files: one safetensors file per run, with the trained tensors and those that inference needs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, equal

from ept.errors import InputError
from ept.files import canonical_json, write_atomically

FORMAT = "ept-prompt-2"
OLD_FORMAT = "ept-prompt-1"
"""Files of this format have no digest, and their metadata may lack what inference needs."""
_COLLAPSED = "collapsed."


@dataclass(frozen=True)
class SavedPrompt:
    """The content of a prompt file, on the CPU."""

    tensors: dict[str, Tensor]
    """The trained tensors, from which training and transfer continue."""
    collapsed: dict[str, Tensor]
    """What inference needs, for example the prompt P*, A and B. Training must not start from these: EPT's fusion would
    be added twice."""
    metadata: dict[str, Any]
    """What was saved with them: backbone, method, task, scores, template, labels, source length and the like."""

    def lacks(self, *keys: str) -> list[str]:
        """Those of `keys` that the metadata do not have; files of older versions lack some."""
        return [key for key in keys if key not in self.metadata]

    def check_backbone(self, name: str, identity: str, origin: str) -> None:
        """Raise InputError where the metadata name another backbone than the one of this name and identity.

        The hidden size cannot tell: base models of one size share it. Imported prompts name no backbone and pass.

        Args:
            name: The backbone's name in the configuration, for the message.
            identity: What its files are recognized by.
            origin: The prompt file, for the message.
        """
        found = self.metadata.get("backbone_identity", identity)
        if found != identity:
            raise InputError(
                f"the prompt file {origin} was trained on the backbone {self.metadata.get('backbone')} ({found}), not "
                f"on {name} ({identity}); use a prompt of this backbone"
            )


def save_prompt(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    collapsed: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
) -> None:
    """Write a prompt file atomically; equal content gives equal bytes.

    Args:
        path: The file; its folder is made.
        tensors: The trained tensors.
        collapsed: What inference needs. A tensor that equals the trained one of the same name is not written twice.
        metadata: Anything that JSON can hold.
    """
    contents = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    for name, tensor in collapsed.items():
        tensor = tensor.detach().cpu().contiguous()
        if name not in contents or not equal(contents[name], tensor):
            contents[_COLLAPSED + name] = tensor
    header = {"format": FORMAT, "collapsed": sorted(collapsed), "metadata": dict(metadata)}
    header["sha256"] = _digest(contents, header)
    with write_atomically(path) as temporary:
        temporary.write_bytes(save(contents, metadata={"ept": canonical_json(header)}))


def read_prompt(path: str | Path) -> SavedPrompt:
    """Read a prompt file of this version or an older one.

    Raises InputError: no such file, truncated, damaged (its digest differs), not safetensors, or not a prompt file.
    """
    if not Path(path).is_file():
        raise InputError(f"no prompt file {path}; train it first or check the path")
    try:
        with safe_open(path, framework="pt") as file:
            written = (file.metadata() or {}).get("ept")
            contents = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    # ValueError: a damaged header can promise a shape that no tensor has.
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"the prompt file {path} is damaged or not a safetensors file ({error}); train the prompt again or restore "
            "the file"
        ) from error
    header = _header(written)
    if header is None:
        raise InputError(f"{path} is not a prompt file of the format {FORMAT}; use a file that `ept` has written")
    if (header["format"] == FORMAT or "sha256" in header) and header.get("sha256") != _digest(contents, header):
        raise InputError(
            f"the prompt file {path} is damaged: its content does not match its sha256; train the prompt again or "
            "restore the file"
        )
    trained = {name: tensor for name, tensor in contents.items() if not name.startswith(_COLLAPSED)}
    collapsed = {}
    for name in header["collapsed"]:
        tensor = contents.get(_COLLAPSED + name, trained.get(name))
        if tensor is None:
            raise InputError(f"the prompt file {path} is damaged: it lacks the tensor {name}; restore the file")
        collapsed[name] = tensor
    return SavedPrompt(trained, collapsed, header["metadata"])


def _digest(contents: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """SHA-256 of the header and of every tensor's name, dtype, shape and bytes."""
    described = {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in contents.items()}
    rest = {key: value for key, value in header.items() if key != "sha256"}
    found = hashlib.sha256(canonical_json([rest, described]).encode())
    for name in sorted(contents):
        found.update(contents[name].reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _header(written: str | None) -> dict[str, Any] | None:
    """What `save_prompt` wrote in addition to the tensors; None for files of other programs."""
    try:
        header = json.loads(written or "null")
    except (json.JSONDecodeError, RecursionError):
        return None
    if not isinstance(header, dict) or header.get("format") not in (FORMAT, OLD_FORMAT):
        return None
    names, metadata = header.get("collapsed"), header.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        return None
    return header
