"""Which errors mean that memory ended."""

import pytest
import torch

from ept.backbones.backbone import is_out_of_memory


def test_a_real_allocation_that_fails_is_recognized():
    with pytest.raises(RuntimeError) as real:
        torch.empty(2**50)
    assert is_out_of_memory(real.value)


def test_the_error_of_a_gpu_is_recognized():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))


def test_other_errors_are_not():
    with pytest.raises(RuntimeError) as shapes:
        torch.ones(2, 3) @ torch.ones(2, 3)
    for error in (shapes.value, ValueError("DefaultCPUAllocator: can't allocate memory"), KeyError("memory")):
        assert not is_out_of_memory(error)
