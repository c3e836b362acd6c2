"""Laws of packs, for every method: runs apart, collapse without change, errors as sentences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ept.errors import InputError
from ept.methods.combine import combine

METHODS = [
    ("pt", {}),
    ("mpt", {}),
    ("dept", {}),
    ("ept", {}),
    ("ept", {"fusion": "projected", "projection": "elementwise"}),
]
each_method = pytest.mark.parametrize(("method", "ept"), METHODS, ids=["pt", "mpt", "dept", "ept", "ept-options"])


@each_method
@settings(deadline=None, max_examples=15)
@given(runs=st.integers(1, 5), batch=st.integers(1, 3), length=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_a_pack_equals_its_runs_alone(small_pack, randomize, method, ept, runs, batch, length, seed):
    """Outputs and gradients of run i in a pack are those of run i alone."""
    pack = randomize(small_pack(method, seeds=range(runs), ept=ept), seed)
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(runs, batch, length, 12, generator=generator)
    weights = torch.randn(runs * batch, pack().prompt.shape[1] + length, 12, generator=generator)
    mask = torch.ones(runs, batch, length)
    joined, _ = combine(pack(), text, mask)
    (joined * weights).sum().backward()
    for run in range(runs):
        alone = small_pack(method, seeds=[run], ept=ept)
        alone.load_tensors(0, pack.tensors(run))
        rows = slice(run * batch, (run + 1) * batch)
        expected, _ = combine(alone(), text[run : run + 1], mask[run : run + 1])
        torch.testing.assert_close(joined[rows], expected, rtol=1e-5, atol=1e-5)
        (expected * weights[rows]).sum().backward()
        for (name, packed), single in zip(pack.named_parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(packed.grad[run], single.grad[0], rtol=1e-3, atol=1e-4, msg=name)


@each_method
@pytest.mark.parametrize("init", ["vocabulary", "uniform", "labels"])
def test_same_seed_same_draws_alone_and_in_a_pack(small_pack, method, ept, init):
    ids = [[3], [4, 5]]
    pack = small_pack(method, seeds=[2, 11, 2], ept=ept, init=init, init_ids=ids)
    for run, seed in enumerate([2, 11, 2]):
        alone = small_pack(method, seeds=[seed], ept=ept, init=init, init_ids=ids)
        for name, tensor in alone.tensors(0).items():
            assert torch.equal(pack.tensors(run)[name], tensor), name
    assert not torch.equal(pack.prompt[0], pack.prompt[1])


@each_method
def test_collapsed_prompt_gives_the_same_outputs(small_pack, randomize, method, ept):
    pack = randomize(small_pack(method, seeds=[0, 1, 2], ept=ept))
    collapsed = pack.collapse(1)
    user = small_pack("pt" if method in ("pt", "mpt") else "dept", seeds=[0])
    user.load_tensors(0, collapsed)
    assert torch.equal(user().prompt[0], pack().prompt[1])
    if user().offset is not None:
        torch.testing.assert_close(user().offset[0], pack().offset[1], rtol=1e-6, atol=1e-6)
    assert pack.stored_parameters == user.trained_parameters
    assert all(not tensor.requires_grad for tensor in collapsed.values())


@each_method
def test_collapsed_tensors_are_copies(small_pack, method, ept):
    pack = small_pack(method, ept=ept)
    for tensor in pack.collapse(0).values():
        tensor.fill_(1e9)
    assert pack().prompt.abs().max() < 1e3


@each_method
def test_tensors_of_a_run_come_back(small_pack, randomize, method, ept):
    pack = randomize(small_pack(method, seeds=[0, 1], ept=ept))
    kept = {name: tensor.clone() for name, tensor in pack.tensors(0).items()}
    other = {name: tensor.clone() for name, tensor in pack.tensors(1).items()}
    randomize(pack, seed=1)
    pack.load_tensors(0, kept)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in pack.tensors(0).items())
    assert not any(torch.equal(tensor, other[name]) for name, tensor in pack.tensors(1).items())


def _refused(pack, tensors, *words):
    before = {name: tensor.clone() for name, tensor in pack.tensors(0).items()}
    with pytest.raises(InputError) as caught:
        pack.load_tensors(0, tensors, "prompts/x.safetensors")
    for word in ("prompts/x.safetensors", *words):
        assert word in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in pack.tensors(0).items())


def test_errors_of_foreign_tensors_change_nothing(small_pack, randomize):
    pack = small_pack("dept", hidden=8, rank=1)
    good = {name: tensor.clone() for name, tensor in randomize(small_pack("dept", hidden=8, rank=1)).tensors(0).items()}
    _refused(pack, {name: good[name] for name in ("prompt", "A")}, "lacks B")
    _refused(pack, small_pack("dept").tensors(0), "hidden size 12", "8")
    _refused(pack, small_pack("pt", hidden=8).tensors(0), "lacks A, B", "another method")
    _refused(pack, small_pack("ept", hidden=8, rank=1).tensors(0), "fusion.gain", "too many")
    _refused(pack, {**good, "B": good["B"] * torch.nan}, "tensor B", "NaN")
    _refused(pack, {**good, "A": good["A"].repeat(1, 2)}, "tensor A", "shape [9, 2]", "[9, 1]")
    _refused(pack, {**good, "prompt": good["prompt"][:2]}, "tensor prompt", "[2, 8]", "[4, 8]")
    _refused(small_pack("pt", hidden=8), good, "A, B too many")
    _refused(small_pack("ept"), small_pack("ept", ept={"spaces": 2}).tensors(0), "spaces.", "shape")
    pack.load_tensors(0, good)
    assert torch.equal(pack.B[0], good["B"])


def test_half_precision_tensors_are_read_as_float32(small_pack):
    pack = small_pack("pt")
    pack.load_tensors(0, {"prompt": torch.ones(10, 12, dtype=torch.bfloat16)})
    assert pack.prompt.dtype == torch.float32 and bool((pack.prompt == 1).all())
