"""The prompt methods by name. A new method is one file and one line here. No torch until a pack is built."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ept.errors import InputError
from ept.prompts.budget import check_budget
from ept.prompts.settings import EptSettings, PromptSettings

if TYPE_CHECKING:
    from torch import Tensor

    from ept.prompts.base import PromptPack


@dataclass(frozen=True)
class Method:
    """One row of a table.

    `module` is "module:class" of its PromptPack; `groups` are the groups of parameters with a learning rate
    each; `source` says whether a run may or must start from another task's prompt, which `source_method` has
    trained.
    """

    name: str
    title: str
    module: str
    groups: tuple[str, ...]
    source: Literal["none", "optional", "required"]
    source_method: str


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("pt", "PT", "ept.prompts.plain:PlainPrompt", ("prompt",), "none", "pt"),
        Method("spot", "SPoT", "ept.prompts.plain:PlainPrompt", ("prompt",), "required", "pt"),
        Method(
            "dept",
            "DePT",
            "ept.prompts.decomposed:DecomposedPrompt",
            ("prompt", "low_rank"),
            "optional",
            "dept",
        ),
        Method("ept", "EPT", "ept.prompts.ept:EptPrompt", ("prompt", "low_rank"), "optional", "ept"),
    )
}


def get_method(name: str) -> Method:
    """The method of that name. Raises InputError with the known names."""
    if name not in METHODS:
        raise InputError(f"unknown method {name!r}; known are {', '.join(METHODS)}")
    return METHODS[name]


def build_pack(
    method: str,
    embedding: "Tensor",
    prompt: PromptSettings,
    ept: EptSettings,
    source_length: int,
    seeds: Sequence[int],
    init_ids: Sequence[Sequence[int]] = (),
) -> "PromptPack":
    """The prompts of a pack of runs at their start, float32 on the device of `embedding`.

    `embedding` [vocab, hidden]: the backbone's word embeddings. `source_length`: the task's longest source
    text in pieces (rows of A). One run per seed; a run draws the same numbers alone and in a pack.
    `init_ids`, for the starts that need them, without `</s>`: `text` one list with the pieces of the text,
    `labels` one list per class label. Raises InputError for an unknown method and for settings that do not
    fit each other or the hidden size.
    """
    module, name = get_method(method).module.split(":")
    check_budget(prompt, ept)
    pack_class = getattr(importlib.import_module(module), name)
    setup_class = importlib.import_module("ept.prompts.base").PackSetup
    return pack_class(setup_class(embedding, prompt, ept, source_length, tuple(seeds), init_ids))
