"""Build the prompts of a pack of runs by the name of their method."""

import importlib
from collections.abc import Sequence

from torch import Tensor

from ept.backbones.backbone import Backbone
from ept.config.settings import BaselineSettings, EptSettings, PromptSettings, check_baselines
from ept.methods.budget import check_budget
from ept.methods.prompt import PromptModule, PromptSetup
from ept.methods.registry import get_method
from ept.methods.weights import WeightModule


def build_prompt_module(
    method: str,
    embedding: Tensor,
    prompt: PromptSettings,
    ept: EptSettings,
    source_length: int,
    seeds: Sequence[int],
    init_ids: Sequence[Sequence[int]] = (),
    sources: Tensor | None = None,
) -> PromptModule:
    """The prompts of a pack of runs at their start, float32 on the device of `embedding`.

    `embedding` [vocab, hidden]: the backbone's word embeddings. `source_length`: the task's longest source
    text in pieces (rows of A). One run per seed; a run draws the same numbers alone and in a pack.
    `init_ids`, for the starts that need them, without `</s>`: `text` one list with the pieces of the text,
    `labels` one list per class label. `sources` [sources, length, hidden]: the trained prompts that a mixture
    of prompts (ATTEMPT) needs. Raises InputError for an unknown method and for settings that do not fit each
    other or the hidden size.
    """
    module, name = get_method(method).module.split(":")
    check_budget(prompt, ept)
    pack_class = getattr(importlib.import_module(module), name)
    return pack_class(PromptSetup(embedding, prompt, ept, source_length, tuple(seeds), init_ids, sources))


def build_weight_module(method: str, backbone: Backbone, settings: BaselineSettings, seed: int) -> WeightModule:
    """The method's one run at its start, attached to `backbone`. Raises InputError for options that do not fit it."""
    module, name = get_method(method).module.split(":")
    check_baselines(settings)
    return getattr(importlib.import_module(module), name)(backbone, settings, seed)
