"""The number of positions of a pass: what is chosen, and that all jobs use one number."""

import json
import multiprocessing

import pytest
import torch
from small_training import make_t5

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.plan.paths import measured_file
from ept.training import measure
from ept.training.measure import choose, forward_positions


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ({"512": 100.0}, 512),
        # The fastest, unless a smaller one is nearly as fast.
        ({"512": 100.0, "1024": 200.0, "2048": 150.0}, 1024),
        ({"512": 94.9, "1024": 95.0, "2048": 100.0}, 1024),
        # On a CPU a pass that leaves the cache is slower.
        ({"512": 100.0, "1024": 80.0}, 512),
        # On a GPU the largest fills it best.
        ({"512": 10.0, "1024": 20.0, "2048": 40.0, "4096": 80.0}, 4096),
        ({"2048": 98.0, "512": 99.0, "1024": 50.0}, 512),
    ],
)
def test_the_smallest_that_is_as_fast_as_the_fastest_but_for_a_twentieth(rates, chosen):
    assert choose(rates) == chosen


class Timed(EncoderDecoder):
    """A backbone with room for so many positions, whose passes are counted."""

    def __init__(self, model, most_positions=2000, fails_from=10**9):
        super().__init__(model)
        self.room, self.fails_from, self.sizes = most_positions, fails_from, []

    @property
    def most_positions(self):
        return self.room

    def token_losses(self, embeddings, attention_mask, target_ids):
        self.sizes.append(embeddings.shape[0] * embeddings.shape[1])
        if self.sizes[-1] >= self.fails_from:
            raise torch.OutOfMemoryError("out of memory")
        return super().token_losses(embeddings, attention_mask, target_ids)


@pytest.fixture
def equally_fast(monkeypatch):
    """Passes take a time in proportion to their rows, so that only memory ends the growth."""
    real = measure._pass_seconds

    def seconds(backbone, rows):
        real(backbone, rows)
        return rows * 1e-3

    monkeypatch.setattr(measure, "_pass_seconds", seconds)


@pytest.mark.parametrize(
    ("room", "fails_from", "measured"),
    [(2000, 10**9, [512, 1024]), (2048, 10**9, [512, 1024, 2048]), (1, 10**9, [512]), (10**6, 2048, [512, 1024])],
)
def test_passes_grow_until_memory_ends(t5, equally_fast, room, fails_from, measured):
    assert list(measure.measure(Timed(t5, room, fails_from))) == [str(size) for size in measured]


def test_a_backbone_for_which_the_smallest_pass_is_too_large_says_so(t5):
    with pytest.raises(torch.OutOfMemoryError):
        measure.measure(Timed(t5, fails_from=1))


def test_a_stored_number_is_used_for_the_same_backbone_alone(t5, tmp_path, monkeypatch):
    file = tmp_path / "data/measured/tiny.json"
    backbone = Timed(t5)
    forward_positions(backbone, "tiny@1", file)
    assert backbone.sizes
    # A number that no measurement gives, so that reading shows.
    stored = json.loads(file.read_text())
    file.write_text(json.dumps({**stored, "positions": 777}))
    assert forward_positions(other := Timed(t5), "tiny@1", file) == 777 and not other.sizes
    half = Timed(make_t5().bfloat16())
    for reader, identity, torch_version in (
        (Timed(t5), "tiny@2", None),
        (half, "tiny@1", None),
        (Timed(t5), "tiny@1", "0.1"),
    ):
        file.write_text(json.dumps({**stored, "positions": 777}))
        with monkeypatch.context() as patch:
            if torch_version:
                patch.setattr(torch, "__version__", torch_version)
            assert forward_positions(reader, identity, file) != 777
        assert reader.sizes
    assert json.loads(file.read_text())["torch"] == "0.1"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"positions": "many"}', '{"positions": 100}'])
def test_a_file_of_something_else_is_measured_again(t5, tmp_path, content):
    file = tmp_path / "tiny.json"
    file.write_text(content)
    backbone = Timed(t5)
    positions = forward_positions(backbone, "tiny", file)
    assert backbone.sizes and json.loads(file.read_text())["positions"] == positions


def _ask(file, barrier, answers):
    torch.set_num_threads(1)
    backbone = Timed(make_t5())
    barrier.wait()
    answers.put((forward_positions(backbone, "tiny", file), len(backbone.sizes)))


def test_jobs_that_start_together_use_one_number(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    jobs = [context.Process(target=_ask, args=(tmp_path / "tiny.json", barrier, answers)) for _ in range(2)]
    for job in jobs:
        job.start()
    (first, passes), (second, others) = (answers.get(timeout=120) for _ in jobs)
    for job in jobs:
        job.join()
    assert first == second
    # One measures, the other waits for its number.
    assert sorted([passes > 0, others > 0]) == [False, True]


def test_each_form_of_a_backbone_is_measured_for_itself():
    forms = [
        {"dtype": "float32", "quantization": quantization, "gradient_checkpointing": checkpointing}
        for quantization in ("none", "nf4")
        for checkpointing in (False, True)
    ]
    assert [measured_file("t5", "cpu", form, 2).name for form in forms] == [
        "t5-cpu-float32-2-threads.json",
        "t5-cpu-float32-checkpointing-2-threads.json",
        "t5-cpu-float32-nf4-2-threads.json",
        "t5-cpu-float32-nf4-checkpointing-2-threads.json",
    ]
