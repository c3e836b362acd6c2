"""What a step trains on depends on step, living runs and forward size alone, whatever was guessed ahead."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ept.data.sampling import BatchOrder
from ept.training.step import ForwardSize, StepInputs

SEEDS = [3, 4, 5]
PROMPT_LENGTH = 3


def make_inputs(split):
    order = BatchOrder(split.lengths, np.tile(np.arange(len(split)), (len(SEEDS), 1)), SEEDS, 4)
    return StepInputs(split, order, PROMPT_LENGTH)


def rows_of(split, step, run):
    """The rows of one run, from an order of its own."""
    return BatchOrder(split.lengths, np.arange(len(split))[None], [SEEDS[run]], 4).batch(step)[0]


calls = st.tuples(
    st.integers(0, 30),
    st.lists(st.integers(0, 2), min_size=1, unique=True).map(sorted),
    st.builds(ForwardSize, st.sampled_from([1, 20, 40, 10**6]), st.sampled_from([None, None, 1, 2])),
)


@given(st.lists(calls, min_size=1, max_size=8), st.integers(0, 8))
@settings(deadline=None, max_examples=40)
def test_the_same_whatever_was_taken_before(uneven, made, repeated):
    # Some calls as a training makes them: one step after the other, for which the guess is right.
    made += [(made[-1][0] + number, *made[-1][1:]) for number in range(1, repeated)]
    inputs = make_inputs(uneven)
    try:
        for step, alive, size in made:
            found = inputs.take(step, alive, size)
            rows = np.stack([rows_of(uneven, step, run) for run in alive])
            assert found.examples == rows.size
            assert found.positions == PROMPT_LENGTH + uneven.lengths[rows].max()
            assert found.label_pieces.tolist() == uneven.target_lengths[rows].sum(1).tolist()
            _check_pieces(uneven, found.pieces, rows, size)
    finally:
        inputs.close()


def _check_pieces(split, pieces, rows, size):
    """The pieces hold every row once, in the order of the runs, padded to their own longest."""
    taken = []
    for piece in pieces:
        count = len(piece.batch.input_ids)
        own = rows.ravel()[len(taken) : len(taken) + count]
        expected = split.collate(own)
        assert torch.equal(piece.batch.input_ids, expected.input_ids)
        assert torch.equal(piece.batch.target_ids, expected.target_ids)
        assert piece.batch.input_ids.shape[1] == split.lengths[own].max()
        runs = {place // 4 for place in range(len(taken), len(taken) + count)}
        assert runs == set(range(piece.first, piece.last))
        assert len(runs) == 1 or count == 4 * len(runs)
        limit = size.positions if size.runs is None else size.runs * 4 * 1000
        assert count == 1 or count * (PROMPT_LENGTH + piece.batch.input_ids.shape[1]) <= limit
        taken += own.tolist()
    assert taken == rows.ravel().tolist()


def test_an_error_of_the_thread_reaches_the_step(uneven, monkeypatch):
    inputs = make_inputs(uneven)
    inputs.take(0, [0], ForwardSize(100))
    monkeypatch.setattr(uneven, "collate", lambda rows: 1 / 0)

    def take_more():
        for step in range(1, 4):
            inputs.take(step, [0], ForwardSize(100))

    with pytest.raises(ZeroDivisionError):
        take_more()
    inputs.close()
