"""Prompt files: one safetensors file a run, with the trained tensors and what use needs of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, equal

from ept.errors import InputError
from ept.files import canonical_json, write_atomically

FORMAT = "ept-prompt-1"
_COLLAPSED = "collapsed."


@dataclass(frozen=True)
class SavedPrompt:
    """A prompt file's content, on the CPU.

    `tensors`: the trained tensors, from which training and transfer go on. `collapsed`: prompt (P*), A and B
    as use needs them; starting training from these would add EPT's fusion twice. `metadata`: what was saved
    with them.
    """

    tensors: dict[str, Tensor]
    collapsed: dict[str, Tensor]
    metadata: dict[str, Any]

    def check_backbone(self, name: str, identity: str, origin: str) -> None:
        """Raise InputError where the metadata name another backbone than the one of this name and identity.

        A hidden size is no identity: base models of one size have it in common. Imported prompts name none.
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

    `metadata` is anything that JSON can hold. A collapsed tensor that equals the trained one of its name is
    not written twice.
    """
    contents = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    for name, tensor in collapsed.items():
        tensor = tensor.detach().cpu().contiguous()
        if name not in contents or not equal(contents[name], tensor):
            contents[_COLLAPSED + name] = tensor
    header = {"format": FORMAT, "collapsed": list(collapsed), "metadata": dict(metadata)}
    with write_atomically(path) as temporary:
        temporary.write_bytes(save(contents, metadata={"ept": canonical_json(header)}))


def read_prompt(path: str | Path) -> SavedPrompt:
    """Read a prompt file. Raises InputError: no such file, torn, not safetensors, or of another project."""
    if not Path(path).is_file():
        raise InputError(f"there is no prompt file {path}; train it first or mend the path")
    try:
        with safe_open(path, framework="pt") as file:
            written = (file.metadata() or {}).get("ept")
            contents = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise InputError(f"the prompt file {path} is damaged or no safetensors file ({error}); make it anew") from error
    header = _header(written)
    if header is None:
        raise InputError(
            f"the file {path} is no prompt file of the format {FORMAT}; use one that this project has written"
        )
    trained = {name: tensor for name, tensor in contents.items() if not name.startswith(_COLLAPSED)}
    collapsed = {name: contents.get(_COLLAPSED + name, trained.get(name)) for name in header["collapsed"]}
    return SavedPrompt(trained, collapsed, header["metadata"])


def _header(written: str | None) -> dict[str, Any] | None:
    """What `save_prompt` wrote beside the tensors; None for files of other programs."""
    try:
        header = json.loads(written or "null")
    except json.JSONDecodeError:
        return None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        return None
    return header if header.keys() >= {"collapsed", "metadata"} else None
