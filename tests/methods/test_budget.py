"""Parameter counts on T5-base (hidden size 768), counted from tensors."""

import pytest
import torch

from ept.config.settings import EptSettings, PromptSettings, check_budget
from ept.errors import InputError
from ept.methods.budget import decomposition_rank, ept_rank, extra_parameters
from ept.methods.build import build_prompt_module

EMBEDDING = torch.ones(110, 768)


def _pack(method, source_length=256, ept=None, **prompt):
    settings = PromptSettings(**prompt)
    return build_prompt_module(method, EMBEDDING, settings, EptSettings(**(ept or {})), source_length, [0])


def test_pt():
    assert _pack("pt").trained_parameters == _pack("pt").stored_parameters == 76_800


@pytest.mark.parametrize(("short_length", "rank"), [(20, 60), (40, 45), (60, 30), (80, 15)])
def test_dept(short_length, rank):
    pack = _pack("dept", short_length=short_length)
    assert pack.rank == rank
    assert pack.trained_parameters == pack.stored_parameters == 76_800


def test_rank_does_not_move_with_the_tasks_source_length():
    pack = _pack("dept", source_length=348)
    assert pack.rank == 30 and pack.trained_parameters == 79_560


def test_ept_keeps_what_is_stored_within_the_budget():
    pack = _pack("ept")
    assert pack.rank == 30
    assert pack.stored_parameters == 76_800
    assert pack.trained_parameters == 76_800 + 1 + 3 * 2 * 768 + 4 * 768


@pytest.mark.parametrize(("spaces", "rank"), [(1, 29), (2, 26), (4, 22), (6, 17), (8, 13)])
def test_matched_keeps_what_is_trained_within_the_budget(spaces, rank):
    pack = _pack("ept", ept={"budget": "matched", "spaces": spaces})
    assert pack.rank == rank
    assert pack.trained_parameters <= 76_800 < pack.trained_parameters + 1024
    assert spaces != 4 or pack.trained_parameters == 76_289


def test_matched_only_lowers_the_rank():
    prompt, ept = PromptSettings(rank=10), EptSettings(budget="matched")
    assert ept_rank(prompt, ept, 768) == 10
    assert ept_rank(PromptSettings(rank=30), ept, 768) == 22


def test_extra_parameters_are_those_of_the_tensors(small_pack, ept_options):
    pack = small_pack(ept=ept_options)
    extra = pack.trained_parameters - pack.stored_parameters
    assert extra_parameters(EptSettings(**ept_options), 12) == extra


@pytest.mark.parametrize(
    ("prompt", "ept", "words"),
    [
        ({"short_length": 120}, {}, "prompt.short_length.*120.*100"),
        ({"short_length": 100}, {}, "prompt.short_length.*100"),
        ({"length": 0}, {}, "prompt.length.*0"),
        ({"rank": 0}, {}, "prompt.rank.*0"),
        ({}, {"spaces": 0}, "ept.spaces.*0"),
        ({}, {"space_rank": 0}, "ept.space_rank.*0"),
        ({}, {"budget": "matched", "projection": "full"}, "ept.budget matched.*ept.projection full"),
    ],
)
def test_impossible_settings(prompt, ept, words):
    with pytest.raises(InputError, match=words):
        check_budget(PromptSettings(**prompt), EptSettings(**ept))


def test_errors_that_depend_on_the_hidden_size():
    with pytest.raises(InputError, match=r"prompt\.rank.*\b31\b.*76,800.*\b30\b"):
        decomposition_rank(PromptSettings(rank=31), 768)
    with pytest.raises(InputError, match="short_length 99"):
        decomposition_rank(PromptSettings(short_length=99), 768)
    with pytest.raises(InputError, match="ept.budget matched.*58,369"):
        ept_rank(PromptSettings(), EptSettings(budget="matched", space_rank=12, spaces=4, fusion="dot"), 768)
