"""Packs of EPT with every option, and foreign tensors that are refused (laws of all methods: test_registry.py)."""

import pytest
import torch

from ept.errors import InputError
from ept.methods.prompt import combine


def test_a_pack_of_ept_equals_its_runs_alone(small_pack, randomize, ept_options):
    """Outputs and gradients of run i in a pack are those of run i alone, whatever the options."""
    pack = randomize(small_pack("ept", seeds=range(3), ept=ept_options, text_length=6))
    generator = torch.Generator().manual_seed(1)
    text, mask = torch.randn(3, 2, 7, 12, generator=generator), torch.ones(3, 2, 7)
    joined, _ = combine(pack(), text, mask)
    weights = torch.randn(joined.shape, generator=generator)
    (joined * weights).sum().backward()
    for run in range(3):
        alone = small_pack("ept", seeds=[run], ept=ept_options, text_length=6)
        alone.load_tensors(0, pack.tensors(run))
        rows = slice(run * 2, (run + 1) * 2)
        expected, _ = combine(alone(), text[run : run + 1], mask[run : run + 1])
        torch.testing.assert_close(joined[rows], expected, rtol=1e-5, atol=1e-5)
        (expected * weights[rows]).sum().backward()
        for (name, packed), single in zip(pack.named_parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(packed.grad[run], single.grad[0], rtol=1e-3, atol=1e-4, msg=name)


def test_ept_is_a_dept_prompt_for_use(small_pack, randomize, ept_options):
    pack = randomize(small_pack("ept", seeds=[0, 1], ept=ept_options, text_length=6))
    user = small_pack("dept", rank=pack.rank)
    user.load_tensors(0, pack.collapse(1))
    assert torch.equal(user().prompt[0], pack().prompt[1])
    torch.testing.assert_close(user().offset[0], pack().offset[1], rtol=1e-6, atol=1e-6)
    assert pack.stored_parameters == user.trained_parameters


def _refused(pack, tensors, *words):
    before = {name: tensor.clone() for name, tensor in pack.tensors(0).items()}
    with pytest.raises(InputError) as caught:
        pack.load_tensors(0, tensors, "prompts/x.safetensors")
    for word in ("prompts/x.safetensors", *words):
        assert word in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in pack.tensors(0).items())


def test_errors_name_the_tensor_and_what_is_wrong_with_it(small_pack, randomize):
    pack = small_pack("dept", hidden=8, rank=1)
    good = {name: tensor.clone() for name, tensor in randomize(small_pack("dept", hidden=8, rank=1)).tensors(0).items()}
    _refused(pack, {name: good[name] for name in ("prompt", "A")}, "lacks B")
    _refused(pack, small_pack("dept").tensors(0), "hidden size 12", "8")
    _refused(pack, small_pack("pt", hidden=8).tensors(0), "lacks A, B")
    _refused(pack, small_pack("ept", hidden=8, rank=1).tensors(0), "fusion.gain")
    _refused(pack, {**good, "B": good["B"] * torch.nan}, "tensor B", "NaN")
    _refused(pack, {**good, "A": good["A"].repeat(1, 2)}, "tensor A", "shape [9, 2]", "[9, 1]")
    _refused(pack, {**good, "prompt": good["prompt"][:2]}, "tensor prompt", "[2, 8]", "[4, 8]")
    _refused(small_pack("pt", hidden=8), good, "A, B")
    _refused(small_pack("ept"), small_pack("ept", ept={"spaces": 2}).tensors(0), "spaces.", "shape")
    pack.load_tensors(0, good)
    assert torch.equal(pack.B[0], good["B"])


def test_half_precision_tensors_are_read_as_float32(small_pack):
    pack = small_pack("pt")
    pack.load_tensors(0, {"prompt": torch.ones(10, 12, dtype=torch.bfloat16)})
    assert pack.prompt.dtype == torch.float32 and bool((pack.prompt == 1).all())
