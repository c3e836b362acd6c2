"""A training that was stopped goes on and ends bit for bit like one that was not."""

import dataclasses
import json
import math
import os
import signal
import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_training import LARGE, RATES, SETTINGS, loss_score, make_grid, make_pack, make_t5, train

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.methods.registry import METHODS, get_method
from ept.training.checkpoint import (
    Checkpoint,
    Interrupted,
    StopRequest,
    TrainingState,
    read_checked,
    write_checked,
)
from ept.training.optimizer import PackedAdam
from ept.training.progress import Progress
from ept.training.runs import Run, RunResult
from ept.training.step import ForwardSize

IDENTITY = {"hash": "12345678", "data": "abc"}
LONGER = dataclasses.replace(SETTINGS, steps=24, evaluate_every=5)
STOPPING = dataclasses.replace(LONGER, evaluate_every=2, patience=1, halving=1)


class Stopped(Progress):
    """Sends a signal to this process in the middle of some steps."""

    def __init__(self, steps, at=(), number=signal.SIGTERM):
        super().__init__("test", steps)
        self.at, self.number, self.seen = at, number, []

    def step(self, step, examples, alive, runs):
        super().step(step, examples, alive, runs)
        self.seen.append(step)
        if step in self.at:
            os.kill(os.getpid(), self.number)


def make_checkpoint(folder, stop, conditions=None):
    return Checkpoint(folder / "part0.safetensors", IDENTITY, conditions or {"threads": 1}, seconds=1e9, stop=stop)


@dataclasses.dataclass(frozen=True)
class Training:
    """A pack to train from its start or from where it was stopped."""

    backbone: object
    split: object
    method: str
    runs: list[Run]
    options: object
    size: ForwardSize = LARGE

    def go_on(self, folder, stop_after=(), number=signal.SIGTERM):
        """Train; returns the prompts at the end, the results and the steps that this call made."""
        with StopRequest() as stop:
            return self._train(make_checkpoint(folder, stop), Stopped(self.options.steps, stop_after, number))

    def _train(self, checkpoint, progress):
        # Weights that were trained are a new backbone's: the process has ended.
        backbone = self.backbone if get_method(self.method).packed else EncoderDecoder(make_t5())
        prompts = make_pack(backbone, self.method, [run.seed for run in self.runs])
        results = train(
            backbone,
            prompts,
            self.split,
            self.runs,
            settings=self.options,
            size=self.size,
            progress=progress,
            checkpoint=checkpoint,
        )
        return prompts, results, progress.seen

    def stop_and_go_on(self, folder, stops):
        """The same, stopped after each of some steps."""
        for step in stops:
            with pytest.raises(Interrupted, match=f"SIGTERM after step {step}"):
                self.go_on(folder, [step])
        return self.go_on(folder)


def bits(tensors):
    """Bytes by name: NaN equals itself."""
    return {name: tensor.contiguous().numpy().tobytes() for name, tensor in tensors.items()}


def all_bits(folder, prompts, results):
    """Everything that a training leaves, comparable."""
    with safe_open(folder / "part0.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["ept"])
    del header["seconds"], header["wall_seconds"]
    rest = [{key: value for key, value in vars(result).items() if key != "best_tensors"} for result in results]
    return (
        [bits(prompts.tensors(run)) for run in range(prompts.runs)],
        [bits(result.best_tensors) for result in results],
        json.dumps([rest, header]),
        bits(load_file(folder / "part0.safetensors")),
    )


TRAININGS = {
    **{name: (name, make_grid(name)[: 4 if method.packed else 1], LONGER) for name, method in METHODS.items()},
    "diverged": ("ept", [*make_grid("ept"), Run(7, dict.fromkeys(RATES, 1e38))], LONGER),
    **{
        f"{name} with dropout": (name, make_grid(name)[:1], dataclasses.replace(LONGER, dropout=0.2))
        for name, method in METHODS.items()
        if not method.packed
    },
    "stopping": ("ept", [*make_grid("ept", scales=(1.0, 0.1, 0.01, 1e-6))], STOPPING),
}


@pytest.fixture(scope="module", params=TRAININGS)
def undisturbed(request, backbone, even, tmp_path_factory):
    """A training and what it leaves."""
    training = Training(backbone, even, *TRAININGS[request.param])
    folder = tmp_path_factory.mktemp("undisturbed")
    prompts, results, steps = training.go_on(folder)
    assert steps == list(range(1, 25))
    statuses = {result.status for result in results}
    expected = {"diverged": {"finished", "diverged"}, "stopping": {"finished", "halved", "stopped early"}}
    assert statuses == expected.get(request.param, {"finished"})
    return training, all_bits(folder, prompts, results)


@given(st.lists(st.integers(1, 24), min_size=1, max_size=3, unique=True).map(sorted))
@settings(deadline=None, max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_stopped_after_any_step_it_ends_bit_for_bit_the_same(undisturbed, tmp_path_factory, stops):
    training, expected = undisturbed
    folder = tmp_path_factory.mktemp("stopped")
    prompts, results, steps = training.stop_and_go_on(folder, stops)
    assert steps == list(range(stops[-1] + 1, 25))
    assert all_bits(folder, prompts, results) == expected


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.packed])
def test_dropout_changes_training_and_neither_validation_nor_the_backbone(even, tmp_path, name):
    backbone = EncoderDecoder(make_t5())
    trained = {}
    for dropout in (0.0, 0.2):
        training = Training(backbone, even, name, make_grid(name)[:1], dataclasses.replace(SETTINGS, dropout=dropout))
        prompts, (result,), _ = training.go_on(tmp_path / str(dropout))
        trained[dropout] = bits(prompts.tensors(0))
        # The same weights score the same with and without: validation drops nothing.
        scores = [loss_score(prompts.backbone, even, prompts)([0]) for _ in range(2)]
        assert scores[0] == scores[1] == pytest.approx(result.validation_curve[-1][1])
        prompts.close()
    assert trained[0.0] != trained[0.2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_and_names_itself(backbone, even, tmp_path, number):
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    training = Training(backbone, even, *TRAININGS["pt"])
    with pytest.raises(Interrupted) as stopped:
        training.go_on(tmp_path, [3], number)
    assert stopped.value.signal == number and number.name in str(stopped.value)
    header, _ = read_checked(tmp_path / "part0.safetensors")
    assert header["step"] == 3
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_a_resumed_training_shows_the_best_validation_score_so_far(backbone, even, tmp_path, capsys):
    training = Training(backbone, even, *TRAININGS["pt"])
    for stops in ([7], [9]):
        with pytest.raises(Interrupted):
            training.go_on(tmp_path, stops)
    header, _ = read_checked(tmp_path / "part0.safetensors")
    # The only validation was at step 5, and the first line of the second call is that of step 8.
    best = max(score for result in header["results"] for _, score in result["validation_curve"])
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "step 8/24" in line)
    assert f"best validation {best:.1f}," in line


def test_outside_of_a_training_a_signal_stops_at_once():
    with pytest.raises(Interrupted) as stopped, StopRequest():  # noqa: PT012 (what follows the signal must not run)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("went on")
    assert stopped.value.signal == signal.SIGINT


def test_a_signal_that_no_step_has_seen_is_not_lost():
    with StopRequest() as stop, pytest.raises(Interrupted), stop.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.signal == signal.SIGTERM


def test_checkpoints_become_rare_where_writing_one_takes_long(backbone, even, tmp_path, monkeypatch):
    """At most a twentieth of the time goes into them."""
    now, written = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    checkpoint = Checkpoint(tmp_path / "part0.safetensors", IDENTITY, {}, seconds=10)

    def slow(path, header, tensors):
        written.append(now[0])
        now[0] += 2

    monkeypatch.setattr("ept.training.checkpoint.write_checked", slow)
    prompts = make_pack(backbone, "pt", [0])
    state = TrainingState(prompts, PackedAdam(prompts.parameter_groups(), {}, 1.0), [RunResult()], LARGE)
    for _ in range(100):
        now[0] += 1
        checkpoint.after_step(state, last=False)
    # The first after 10 seconds, every other one 40 seconds after the end of the one before.
    assert written == [10, 52, 94]


def test_a_finished_training_makes_no_further_step(backbone, even, tmp_path):
    training = Training(backbone, even, *TRAININGS["ept"])
    prompts, results, _ = training.go_on(tmp_path)
    before = all_bits(tmp_path, prompts, results)
    prompts, results, steps = training.go_on(tmp_path)
    assert steps == [] and all_bits(tmp_path, prompts, results) == before


def test_the_forward_size_is_stored_before_the_first_step_and_used_again(backbone, even, tmp_path):
    training = Training(backbone, even, *TRAININGS["ept"], size=ForwardSize(70))
    expected = training.go_on(tmp_path / "undisturbed")
    with pytest.raises(Interrupted):
        training.go_on(tmp_path / "stopped", [1])
    with safe_open(tmp_path / "stopped/part0.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["ept"])["size"] == {"positions": 70, "runs": None}
    # Another measurement in between does not count.
    found = dataclasses.replace(training, size=ForwardSize(31)).go_on(tmp_path / "stopped")
    assert all_bits(tmp_path / "stopped", *found[:2]) == all_bits(tmp_path / "undisturbed", *expected[:2])


def test_checkpoints_are_written_as_often_as_asked(backbone, even, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    checkpoint = Checkpoint(tmp_path / "part0.safetensors", IDENTITY, {}, seconds=10)
    written, write = [], checkpoint.write

    def note(state):
        written.append(state.step)
        write(state)

    class Clock(Progress):
        def step(self, *values):
            # A step takes three seconds: a checkpoint is due after every fourth.
            now[0] += 3

    checkpoint.write = note
    runs = make_grid("pt")
    train(
        backbone,
        make_pack(backbone, "pt", [run.seed for run in runs]),
        even,
        runs,
        progress=Clock("test", 12),
        checkpoint=checkpoint,
    )
    assert written == [0, 4, 8, 12]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part0.safetensors"]


def _edit(path, change_header=None, change_tensors=None):
    header, tensors = read_checked(path)
    if change_header:
        change_header(header)
    if change_tensors:
        change_tensors(tensors)
    write_checked(path, header, tensors)


def _cut(share):
    def cut(path):
        content = path.read_bytes()
        path.write_bytes(content[: math.floor(len(content) * share)])

    return cut


BREAKERS = {
    "empty": (_cut(0), "it is damaged"),
    "torn in its header": (_cut(0.01), "it is damaged"),
    "torn": (_cut(0.7), "it is damaged"),
    "no safetensors": (lambda path: path.write_bytes(b"PK" + bytes(5000)), "it is damaged"),
    "another program's": (lambda path: save_file({"x": torch.ones(2)}, path), "other settings, data or code"),
    "another format": (lambda path: _edit(path, lambda h: h.update(format="ept-checkpoint-0")), "other settings"),
    "other settings": (lambda path: _edit(path, lambda h: h["identity"].update(hash="87654321")), "other settings"),
    "other data": (lambda path: _edit(path, lambda h: h["identity"].update(data="abd")), "other settings"),
    "a tensor less": (lambda path: _edit(path, None, lambda t: t.pop("parameter/A")), "other code"),
    "another shape": (
        lambda path: _edit(path, None, lambda t: t.update({"parameter/A": t["parameter/A"][:, :3].contiguous()})),
        "other code",
    ),
}


@pytest.mark.parametrize("breaker", BREAKERS)
def test_a_file_that_does_not_fit_is_refused_with_a_line_and_training_starts_again(
    backbone, even, tmp_path, capsys, breaker
):
    training = Training(backbone, even, "dept", make_grid("dept"), SETTINGS)
    expected = training.go_on(tmp_path / "undisturbed")
    with pytest.raises(Interrupted):
        training.go_on(tmp_path / "stopped", [7])
    damage, reason = BREAKERS[breaker]
    damage(tmp_path / "stopped/part0.safetensors")
    capsys.readouterr()
    prompts, results, steps = training.go_on(tmp_path / "stopped")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "is not used" in line]
    assert line.startswith(str(tmp_path / "stopped/part0.safetensors")) and reason in line
    assert steps == list(range(1, 13))
    assert all_bits(tmp_path / "stopped", prompts, results) == all_bits(tmp_path / "undisturbed", *expected[:2])


def test_other_conditions_are_said_and_gone_on_from(backbone, even, tmp_path, capsys):
    runs = make_grid("pt")
    state_of = {"threads": 1, "device": "cpu"}

    def go_on(conditions, stop_after=()):
        progress = Stopped(12, stop_after)
        prompts = make_pack(backbone, "pt", [run.seed for run in runs])
        with StopRequest() as stop:
            checkpoint = make_checkpoint(tmp_path, stop, conditions)
            train(backbone, prompts, even, runs, progress=progress, checkpoint=checkpoint)
        return progress.seen

    with pytest.raises(Interrupted):
        go_on(state_of, [5])
    assert "resuming" not in capsys.readouterr().err
    assert go_on(state_of | {"threads": 2}) == list(range(6, 13))
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("threads was 1 ") and " 2 " in line for line in lines) == 1
    assert not any(line.startswith("device") for line in lines)
    assert any("step 5" in line and str(tmp_path / "part0.safetensors") in line for line in lines)


def test_the_seconds_of_all_processes_add_up(backbone, even, tmp_path):
    def go_on(worked, stop_after=()):
        """A process that has worked for some seconds already; returns what it knows of those before it."""
        path, began = tmp_path / "part0.safetensors", time.perf_counter() - worked
        progress = Stopped(SETTINGS.steps, stop_after)
        runs = [Run(0, {"prompt": 0.3})]
        with StopRequest() as stop:
            checkpoint = Checkpoint(path, IDENTITY, {"threads": 1}, seconds=1e9, stop=stop, began=began)
            train(backbone, make_pack(backbone, "pt", [0]), even, runs, progress=progress, checkpoint=checkpoint)
        return checkpoint.seconds_before

    for worked, step in ((1000, 5), (500, 8)):
        with pytest.raises(Interrupted):
            go_on(worked, [step])
    assert 1500 <= go_on(0) < 1600
