"""Build the prompts of a pack of runs by the name of their method."""

import importlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ept.backbones.backbone import Backbone
from ept.config.settings import (
    BaselineSettings,
    EptSettings,
    MethodSettings,
    PromptSettings,
    check_budget,
    check_ranges,
)
from ept.errors import InputError
from ept.methods.prompt import PromptModule, PromptSetup
from ept.methods.registry import Sizes, get_method
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
    *,
    methods: MethodSettings | None = None,
    text_length: int | None = None,
    vocabulary: Sequence[int] | None = None,
) -> PromptModule:
    """The prompts of a pack of runs at their start, float32 on the device of `embedding`.

    A run draws the same numbers alone and in a pack.

    Args:
        method: Name in the registry.
        embedding: The backbone's word embeddings [vocab, hidden].
        prompt: Shape and start of the prompts.
        ept: EPT's options.
        source_length: The task's longest source text in pieces (rows of A).
        seeds: One run per seed.
        init_ids: For the starts that need them, pieces without `</s>`: `text` one list with those of the text, `labels`
            one list per class label.
        sources: The trained prompts [sources, length, hidden] that a mixture of prompts needs.
        methods: The sections of single prompt methods.
        text_length: The longest training text in pieces, which a prompt that reads the rows of A needs; by default
            `source_length`.
        vocabulary: The pieces that a start from the vocabulary draws from; by default the first 5,000.

    Raises:
        InputError: An unknown method, or settings that do not fit each other or the hidden size.
    """
    prompt, ept = get_method(method).fixed(prompt, ept)
    check_budget(prompt, ept)
    setup = PromptSetup(
        embedding,
        prompt,
        ept,
        source_length,
        tuple(seeds),
        init_ids,
        sources,
        methods=methods or MethodSettings(),
        text_length=text_length,
        vocabulary=vocabulary,
    )
    return prompt_class(method)(setup)


def build_weight_module(method: str, backbone: Backbone, settings: BaselineSettings, seed: int) -> WeightModule:
    """The method's one run at its start, attached to `backbone`. Raises InputError for options that do not fit it."""
    module, name = get_method(method).module.split(":")
    check_ranges("baselines", settings)
    return getattr(importlib.import_module(module), name)(backbone, settings, seed)


def prompt_class(method: str) -> type[PromptModule]:
    """The class of a prompt method. Raises InputError for an unknown name."""
    module, name = get_method(method).module.split(":")
    return getattr(importlib.import_module(module), name)


def count_tensors(method: str, sizes: Sizes) -> int:
    """How many numbers one run of a prompt method trains, counted from its tensors over an embedding of one piece.

    Raises InputError for a method that trains inside the backbone: its tensors exist only with the backbone's weights.
    """
    if not get_method(method).packed:
        raise InputError(
            f"the record of method {method} has no `parameters`, which a method that trains inside the backbone needs; "
            "add the arithmetic to its record"
        )
    prompt, hidden = replace(sizes.prompt, init="vocabulary", init_text=""), sizes.backbone.hidden_size
    embedding, sources = torch.zeros(1, hidden), torch.zeros(1, prompt.length, hidden)
    module = build_prompt_module(
        method, embedding, prompt, sizes.ept, sizes.source_length, [0], sources=sources, methods=sizes.methods
    )
    return module.trained_parameters
