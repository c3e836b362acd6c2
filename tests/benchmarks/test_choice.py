"""Which batches are timed, and how pairs of calls are compared."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import costs
from benchmarks.backbones import make_t5
from benchmarks.data import representative
from benchmarks.ours import Pack, sized
from ept.backbones.encoder_decoder import EncoderDecoder


@given(st.lists(st.integers(1, 256), min_size=1, max_size=60), st.integers(1, 20))
def test_chosen_lengths_stand_for_all(lengths, count):
    lengths = np.array(lengths)
    chosen = representative(lengths, count)
    assert len(chosen) == count
    if count == 1:
        assert abs(lengths[chosen[0]] - lengths.mean()) == np.abs(lengths - lengths.mean()).min()
    if count <= len(lengths):
        parts = np.array_split(np.sort(lengths), count)
        assert all(part[0] <= length <= part[-1] for part, length in zip(parts, lengths[chosen], strict=True))
    if count == len(lengths):
        assert sorted(chosen) == list(range(count))


def test_timed_batches_are_as_long_as_an_epoch(plan, task):
    pack = Pack(sized(EncoderDecoder(make_t5("tiny")), 512), "ept", 3, task, plan)
    longest = [task.train.lengths[pack.order.batch(step)].max() for step in range(100)]
    for steps in (1, 4):
        timed = [task.train.lengths[batch].max() for batch in pack.batches(steps)]
        assert np.mean(timed) == pytest.approx(np.mean(longest), rel=0.05)
    assert task.train.lengths[pack.longest()].max() == max(longest)


def test_paired_ratio_is_the_median_over_pairs_in_turn(monkeypatch):
    now, calls = [0.0], []

    def call(name, durations):
        def run():
            calls.append(name)
            now[0] += next(durations)

        return run

    monkeypatch.setattr(costs.time, "perf_counter", lambda: now[0])
    # The first call of each is a warm-up.
    first, second = call("a", iter([9.0, 2.0, 3.0, 8.0])), call("b", iter([9.0, 2.0, 2.0, 2.0]))
    assert costs.paired_ratio(first, second, 0.0) == {"ratio": 1.5, "pairs": 3}
    assert "".join(calls) == "ab" + "ba" + "ab" + "ba"
