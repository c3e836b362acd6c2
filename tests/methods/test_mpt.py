"""MPT's product against NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ept.config.settings import EptSettings, PromptSettings
from ept.methods.build import build_prompt_module
from ept.methods.mpt import SharedPrompt


@settings(deadline=None, max_examples=20)
@given(runs=st.integers(1, 4), length=st.integers(5, 12), hidden=st.integers(2, 12), seed=st.integers(0, 10**6))
def test_the_prompt_is_the_shared_one_times_an_outer_product(small_pack, randomize, runs, length, hidden, seed):
    pack = randomize(small_pack("mpt", seeds=range(runs), length=length, hidden=hidden, rank="auto"), seed)
    found = pack().prompt.detach().numpy()
    for run in range(runs):
        prompt, u, v = (pack.tensors(run)[name].numpy().astype(np.float64) for name in ("prompt", "u", "v"))
        np.testing.assert_allclose(found[run], prompt * np.outer(u, v), rtol=1e-5, atol=1e-6)
    assert pack().offset is None


def test_the_start_is_that_of_pt(small_pack):
    assert torch.equal(small_pack("mpt", seeds=[3, 5])().prompt, small_pack("pt", seeds=[3, 5])().prompt)


def test_parameters_on_t5_base():
    pack = build_prompt_module("mpt", torch.ones(110, 768), PromptSettings(), EptSettings(), 256, [0])
    assert pack.trained_parameters == 76_800 + 768 + 100 == 77_668
    assert pack.stored_parameters == 76_800


def test_two_speeds(small_pack):
    pack = small_pack("mpt")
    assert pack.parameter_groups() == {"prompt": [pack.prompt], "task": [pack.u, pack.v]}


@pytest.fixture
def shared(small_pack, randomize):
    """Two runs over three source tasks, with random values."""
    return randomize(SharedPrompt(small_pack("pt", seeds=[0, 0]), 3))


def test_source_tasks_share_one_prompt(shared):
    for task in range(3):
        for run in range(2):
            tensors = {name: tensor.numpy() for name, tensor in shared.tensors(run).items()}
            expected = tensors["prompt"] * np.outer(tensors["u"][task], tensors["v"][task])
            np.testing.assert_allclose(shared.of_task(task).prompt[run].detach().numpy(), expected, rtol=1e-5)
    assert shared.parameter_groups() == {"prompt": [shared.prompt], "task": [shared.u, shared.v]}


def test_a_target_starts_from_the_means_of_u_and_v(shared, small_pack):
    tensors = {name: tensor.numpy() for name, tensor in shared.tensors(1).items()}
    target = small_pack("mpt", seeds=[7])
    target.load_tensors(0, shared.target_tensors(1))
    expected = tensors["prompt"] * np.outer(tensors["u"].mean(0), tensors["v"].mean(0))
    np.testing.assert_allclose(target().prompt[0].detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(shared.collapse(1)["prompt"], target().prompt[0].detach())


def test_source_training_starts_as_pt_on_every_task(small_pack):
    start = small_pack("pt", seeds=[0, 4])
    shared = SharedPrompt(start, 2)
    assert all(torch.equal(shared.of_task(task).prompt, start.prompt) for task in range(2))
    with torch.no_grad():
        shared.prompt.zero_()
    assert start.prompt.any()
