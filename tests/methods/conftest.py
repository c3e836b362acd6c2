"""Small packs and a small T5 for the tests of the prompt methods."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ept.config.settings import (
    AcceptSettings,
    DptSettings,
    EptSettings,
    MethodSettings,
    PromptSettings,
    ResidualSettings,
    UlptSettings,
)
from ept.methods.build import build_prompt_module

VOCABULARY, HIDDEN = 50, 12
SMALL = PromptSettings(length=10, short_length=4, rank=2, reference_length=9)
SMALL_METHODS = MethodSettings(
    ulpt=UlptSettings(rank=3),
    dpt=DptSettings(rank=2),
    accept=AcceptSettings(word_length=4, words=3, added_word_length=2, added_words=5),
    residual=ResidualSettings(bottleneck=5),
)
EPT_OPTIONS = {
    "default": {},
    "fusion-projected": {"fusion": "projected", "fusion_rank": 3},
    "fusion-none": {"fusion": "none"},
    "projection-elementwise": {"projection": "elementwise"},
    "projection-full": {"projection": "full", "spaces": 3},
    "projection-none": {"projection": "none"},
    "space-rank-3": {"space_rank": 3},
    "one-space": {"spaces": 1},
    "two-spaces": {"spaces": 2},
    "six-spaces": {"spaces": 6},
    "gate-prompt": {"gate": "prompt"},
    "gate-prompt-elementwise": {"gate": "prompt", "projection": "elementwise"},
    "context-all": {"fusion_context": "all"},
    "context-factors": {"fusion_context": "factors"},
    "context-joint": {"fusion_context": "joint"},
    "difference": {"fusion_difference": True},
    "difference-projected": {"fusion_difference": True, "fusion": "projected", "fusion_rank": 3},
    "svd": {"decomposition": "svd"},
    "matched": {"budget": "matched", "fusion": "dot", "spaces": 2},
    "neither": {"fusion": "none", "projection": "none"},
}


def small_pack(
    method="ept",
    seeds=(0,),
    source_length=9,
    ept=None,
    hidden=HIDDEN,
    init_ids=(),
    sources=(),
    methods=None,
    text_length=None,
    **prompt,
):
    """A pack over a random embedding matrix of 50 pieces with root mean square of about 3; two sources by default."""
    generator = torch.Generator().manual_seed(99)
    embedding = 3 * torch.randn(VOCABULARY, hidden, generator=generator)
    settings = replace(SMALL, **prompt)
    if isinstance(sources, tuple):
        sources = 5 * torch.randn(2, settings.length, hidden, generator=generator)
    return build_prompt_module(
        method,
        embedding,
        settings,
        EptSettings(**(ept or {})),
        source_length,
        seeds,
        init_ids,
        sources,
        methods=replace(SMALL_METHODS, **(methods or {})),
        text_length=text_length,
    )


def randomize(pack, seed=0):
    """Give every tensor of a pack random nonzero values, as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in pack.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5 + 0.1)
    return pack


@pytest.fixture(scope="session", name="small_pack")
def _small_pack():
    return small_pack


@pytest.fixture(scope="session", name="randomize")
def _randomize():
    return randomize


@pytest.fixture(params=EPT_OPTIONS.values(), ids=EPT_OPTIONS.keys())
def ept_options(request):
    """Every option of EPT's parts, as keyword arguments of EptSettings."""
    return request.param


@pytest.fixture(scope="session")
def tiny_t5():
    """A function hidden size, layers -> frozen random T5 in evaluation mode."""
    from tiny_models import make_t5

    def make(hidden=16, layers=2, vocabulary=VOCABULARY) -> nn.Module:
        shape = dict(d_model=hidden, d_kv=8, d_ff=2 * hidden, num_layers=layers, num_heads=2)
        return make_t5(std=None, vocab_size=vocabulary, **shape).requires_grad_(False)

    return make


@pytest.fixture(scope="session")
def published_adapter():
    """The tensors of the published DePT adapter for T5-base and CoLA: prompt, A, B."""
    data = os.environ.get("EPT_TEST_DATA")
    path = Path(data or ".").parent / "checkpoints/dept/cola/adapter_model.bin"
    if not data or not path.is_file():
        pytest.skip("needs the published DePT adapter beside the folder that EPT_TEST_DATA names")
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    return {
        "prompt": loaded["prompt_embeddings"],
        "A": loaded["prompt_encoder.lora_embedding_A"],
        "B": loaded["prompt_encoder.lora_embedding_B"],
    }
