"""Out of memory in training: smaller passes from there on, the same result but for rounding."""

import json

import pytest
import torch
from safetensors import safe_open
from small_training import LARGE, distance, make_grid, make_pack, train, train_new

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.training.checkpoint import Checkpoint
from ept.training.step import ForwardSize

RUNS = make_grid("ept")
# Of EPT: the prompt and the text.
POSITIONS = 3 + 12

FULL = torch.OutOfMemoryError("out of memory")


class Limited(EncoderDecoder):
    """A backbone that has memory for so many rows."""

    def __init__(self, model, most_rows, error=FULL):
        super().__init__(model)
        self.most_rows, self.error, self.passes = most_rows, error, []

    def token_losses(self, embeddings, attention_mask, target_ids):
        if torch.is_grad_enabled():
            self.passes.append(len(embeddings))
            if len(embeddings) > self.most_rows:
                raise self.error
        return super().token_losses(embeddings, attention_mask, target_ids)


@pytest.mark.parametrize(
    ("most_rows", "passes", "positions"),
    # 4 runs of 4 rows: tried with 16, 8, 4, 2 and 1 rows.
    [(15, [16, 8, 8], 8), (6, [16, 8, 4, 4, 4, 4], 4), (3, [16, 8, 4] + [2] * 8, 2), (1, [16, 8, 4, 2] + [1] * 16, 1)],
)
@pytest.mark.parametrize("size", [LARGE, ForwardSize(1, runs=4)], ids=["auto", "pack 4"])
def test_smaller_passes_give_the_same_result(t5, backbone, even, tmp_path, size, most_rows, passes, positions):
    limited = Limited(t5, most_rows)
    checkpoint = Checkpoint(tmp_path / "part0.safetensors", {}, {}, seconds=1e9)
    prompts = make_pack(limited, "ept", [run.seed for run in RUNS])
    results = train(limited, prompts, even, RUNS, size=size, checkpoint=checkpoint)
    expected_prompts, expected = train_new(backbone, "ept", even, RUNS)
    for run, result in enumerate(results):
        assert max(distance(prompts.tensors(run), expected_prompts.tensors(run)).values()) < 1e-4
        assert (result.status, result.steps, result.best_step) == ("finished", 12, expected[run].best_step)
    # Found at the first step and kept: afterwards nothing is tried in vain.
    assert limited.passes[: len(passes)] == passes
    assert max(limited.passes[len(passes) :]) <= most_rows
    with safe_open(tmp_path / "part0.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["ept"])["size"] == {"positions": positions * POSITIONS, "runs": None}


def test_a_cpu_that_has_no_memory_left_counts_too(t5, backbone, even):
    with pytest.raises(RuntimeError) as real:
        torch.empty(2**50)
    _, results = train_new(Limited(t5, 4, real.value), "ept", even, RUNS)
    assert [result.steps for result in results] == [12] * 4


def test_where_one_row_does_not_fit_the_error_is_raised(t5, even):
    with pytest.raises(torch.OutOfMemoryError):
        train_new(Limited(t5, 0), "ept", even, RUNS)


def test_another_error_is_not_swallowed(t5, even):
    limited = Limited(t5, 4, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        train_new(limited, "ept", even, RUNS)
    assert limited.passes == [16]
