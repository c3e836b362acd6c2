"""A run in a pack is the run alone: over 200 steps, however the pack is cut into passes."""

import dataclasses

import numpy as np
import pytest
import torch
from small_training import LARGE, SETTINGS, accumulate, distance, make_grid, make_pack, train_new

from ept.training.measure import forward_positions
from ept.training.step import ForwardSize

LONG = dataclasses.replace(SETTINGS, steps=200, warmup_steps=20, evaluate_every=20)
METHODS = pytest.mark.parametrize("method", ["pt", "attempt", "mpt", "dept", "ept"])


@pytest.fixture(scope="module")
def auto(backbone, tmp_path_factory):
    """What `pack: auto` takes."""
    return ForwardSize(forward_positions(backbone, "tiny", tmp_path_factory.mktemp("measured") / "tiny.json"))


@pytest.fixture(scope="module")
def alone(backbone, even):
    """Prompts and result of every run of a method's grid trained alone, made once."""
    made = {}

    def get(method):
        if method not in made:
            made[method] = [train_new(backbone, method, even, [run], settings=LONG) for run in make_grid(method)]
        return made[method]

    return get


@pytest.mark.parametrize(
    ("method", "size"),
    [(method, LARGE) for method in ("pt", "attempt", "mpt", "dept", "ept")]
    + [("ept", ForwardSize(1, runs=3)), ("ept", "auto")],
    ids=["pt", "attempt", "mpt", "dept", "ept", "pack of 3", "pack auto"],
)
def test_after_200_steps_a_packed_run_is_where_it_is_alone(backbone, even, auto, alone, method, size):
    runs = make_grid(method)
    prompts, results = train_new(backbone, method, even, runs, settings=LONG, size=auto if size == "auto" else size)
    for place, (single, (result,)) in enumerate(alone(method)):
        assert max(distance(prompts.tensors(place), single.tensors(0)).values()) < 1e-4
        assert results[place].best_step == result.best_step > 0
        assert max(distance(results[place].best_tensors, result.best_tensors).values()) < 1e-4
        found, expected = np.array(results[place].validation_curve), np.array(result.validation_curve)
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    # The runs differ, so that a mix-up would show.
    ends = [prompts.tensors(place)["prompt"] for place in range(len(runs))]
    assert all((a - b).norm() > 0.01 * a.norm() for i, a in enumerate(ends) for b in ends[:i])


def _trained_a_little(backbone, even, method, runs):
    """After some steps: at the start many gradients are exactly 0, such as that of A."""
    return train_new(backbone, method, even, runs)[0]


@METHODS
@pytest.mark.parametrize("size", [LARGE, ForwardSize(60), ForwardSize(15), ForwardSize(1, 2)], ids=str)
def test_gradients_of_rows_of_any_length_are_those_at_their_own_padding(backbone, even, uneven, method, size):
    runs = make_grid(method)
    rows = np.random.default_rng(2).permutation(40)[:16].reshape(4, 4)
    packed = _trained_a_little(backbone, even, method, runs)
    losses = accumulate(backbone, packed, uneven, rows, size)
    assert len({int(uneven.lengths[row].max()) for row in rows}) > 1
    for place, run in enumerate(runs):
        alone = make_pack(backbone, method, [run.seed])
        alone.load_tensors(0, packed.tensors(place))
        torch.testing.assert_close(accumulate(backbone, alone, uneven, rows[place : place + 1])[0], losses[place])
        for many, one in zip(packed.parameters(), alone.parameters(), strict=True):
            assert one.grad[0].norm() > 0
            assert (many.grad[place] - one.grad[0]).norm() < 1e-4 * one.grad[0].norm()


@METHODS
def test_gradients_at_equal_padding_are_the_same_but_for_rounding(backbone, even, method):
    runs = make_grid(method)
    rows = np.random.default_rng(2).permutation(40)[:16].reshape(4, 4)
    packed = _trained_a_little(backbone, even, method, runs)
    accumulate(backbone, packed, even, rows)
    for place, run in enumerate(runs):
        alone = make_pack(backbone, method, [run.seed])
        alone.load_tensors(0, packed.tensors(place))
        accumulate(backbone, alone, even, rows[place : place + 1])
        for many, one in zip(packed.parameters(), alone.parameters(), strict=True):
            assert (many.grad[place] - one.grad[0]).norm() < 1e-6 * one.grad[0].norm()


def test_a_pass_has_whole_runs_where_one_fits_else_even_pieces_of_one():
    size = ForwardSize(100)
    assert [size.rows(4, length) for length in (5, 25, 26, 34, 51, 200)] == [20, 4, 2, 2, 1, 1]
    assert ForwardSize(150).rows(16, 12) == 8
    assert ForwardSize(1, 3).rows(4, 1000) == 12
