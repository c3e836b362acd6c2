"""How prompt and text join."""

import pytest
import torch

from ept.errors import InputError
from ept.methods.prompt import PromptOutput, combine


def _output(runs=2, prompt=3, source=6, hidden=4):
    generator = torch.Generator().manual_seed(0)
    return PromptOutput(
        torch.randn(runs, prompt, hidden, generator=generator),
        torch.randn(runs, source, hidden, generator=generator),
    )


@pytest.mark.parametrize("mask_dtype", [torch.int64, torch.bool])
def test_each_row_gets_its_runs_prompt_and_offset(mask_dtype):
    output = _output()
    text = torch.randn(2, 3, 5, 4)
    mask = torch.rand(2, 3, 5).round().to(mask_dtype)
    joined, joined_mask = combine(output, text, mask)
    assert joined.shape == (6, 8, 4) and joined_mask.shape == (6, 8) and joined_mask.dtype == mask_dtype
    for run in range(2):
        for row in range(3):
            found, found_mask = joined[run * 3 + row], joined_mask[run * 3 + row]
            assert torch.equal(found[:3], output.prompt[run])
            for position in range(5):
                assert torch.equal(found[3 + position], text[run, row, position] + output.offset[run, position])
            assert found_mask.tolist() == [1, 1, 1, *mask[run, row].tolist()]


def test_without_offset_the_text_stays():
    text = torch.randn(2, 3, 5, 4)
    joined, _ = combine(PromptOutput(_output().prompt, None), text, torch.ones(2, 3, 5))
    assert torch.equal(joined[:, 3:], text.flatten(0, 1))


def test_result_has_the_texts_dtype_and_one_rounding():
    output = _output()
    text = torch.randn(2, 3, 5, 4).bfloat16()
    joined, _ = combine(output, text, torch.ones(2, 3, 5))
    assert joined.dtype == torch.bfloat16
    exact = text.double() + output.offset[:, None, :5].double()
    assert torch.equal(joined[:, 3:], exact.flatten(0, 1).bfloat16())


def test_runs_can_be_cut_out():
    output = _output(runs=4)
    assert torch.equal(output.slice(1, 3).prompt, output.prompt[1:3])
    assert torch.equal(output.select([3, 0]).offset, output.offset[[3, 0]])
    assert PromptOutput(output.prompt, None).select([2]).offset is None


def test_a_prompt_may_depend_on_the_text():
    """A method with an output of its own (here: the prompt is the text's mean) needs no other code."""

    class Mean(PromptOutput):
        def row_prompts(self, embeddings, mask):
            return self.prompt[:, None] + embeddings.mean(2, keepdim=True)

    output, text = Mean(*_output()), torch.randn(2, 3, 5, 4)
    joined, _ = combine(output, text, torch.ones(2, 3, 5))
    torch.testing.assert_close(joined[4, :3], output.prompt[1] + text[1, 1].mean(0))
    assert isinstance(output.slice(0, 1), Mean)


def test_errors_show_both_shapes():
    with pytest.raises(InputError, match=r"\[2, 3, 4\].*\[3, 1, 5, 4\]"):
        combine(_output(), torch.randn(3, 1, 5, 4), torch.ones(3, 1, 5))
    with pytest.raises(InputError, match=r"\[2, 3, 4\].*\[2, 1, 5, 7\]"):
        combine(_output(), torch.randn(2, 1, 5, 7), torch.ones(2, 1, 5))
    with pytest.raises(InputError, match=r"\b7\b.*\b6\b"):
        combine(_output(), torch.randn(2, 1, 7, 4), torch.ones(2, 1, 7))
