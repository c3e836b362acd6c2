"""A stopped or killed training resumes from its last checkpoint and ends as if nothing had happened."""

import contextlib
import hashlib
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ept.files import write_atomically
from ept.methods.base import MethodModule
from ept.training.optimizer import PackedAdam
from ept.training.runs import RunResult
from ept.training.step import ForwardSize

# Raised when checkpoints of older code must not be resumed from.
FORMAT = "ept-checkpoint-2"
# A checkpoint waits until writing the last one is at most this share of the time.
WRITING_SHARE = 0.05


class Interrupted(KeyboardInterrupt):
    """The process was asked to stop by `signal` (SIGTERM, or SIGINT for Ctrl-C); the same call resumes."""

    def __init__(self, number: signal.Signals, when: str):
        super().__init__(f"stopped by {number.name} {when}; the same command resumes from there")
        self.signal = number


class StopRequest:
    """Listens for SIGTERM and SIGINT in a `with` block.

    A signal raises `Interrupted` at once, or within `deferred` only sets `signal`, so that a step ends and its
    checkpoint is written before. Python delivers signals to the main thread; in another one nothing is listened to.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._defers = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            # None: it was not set by Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Within the block a signal only sets `signal`; Interrupted is raised at its end if no step has done it."""
        self._defers = True
        try:
            yield
        finally:
            self._defers = False
        if self.signal:
            self.interrupt("after the last step")

    def interrupt(self, when: str) -> NoReturn:
        """Raise Interrupted for the signal that was received."""
        raise Interrupted(self.signal or signal.SIGTERM, when)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        if not self._defers:
            self.interrupt("between two steps of the job")


@dataclass
class TrainingState:
    """All that a pack's training is at one moment. The data order is a function of the step and needs no state."""

    prompts: MethodModule
    optimizer: PackedAdam
    results: list[RunResult]
    size: ForwardSize
    step: int = 0
    seconds: float = 0.0
    healthy: Tensor = field(init=False)
    """[runs], whether no loss of a run has been infinite or NaN."""
    healthy_steps: Tensor = field(init=False)
    """[runs], steps with a finite loss."""

    def __post_init__(self) -> None:
        device = next(self.prompts.parameters()).device
        self.healthy = torch.ones(len(self.results), dtype=torch.bool, device=device)
        self.healthy_steps = torch.zeros(len(self.results), dtype=torch.int64, device=device)

    @property
    def alive(self) -> list[int]:
        """The numbers of the runs that still train."""
        return [run for run, result in enumerate(self.results) if result.alive]

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on, by name; writing into them sets the state."""
        found = {f"parameter/{name}": parameter.data for name, parameter in self.prompts.named_parameters()}
        for group, moments in self.optimizer.moments.items():
            for number, (first, second) in enumerate(moments):
                found |= {f"first/{group}/{number}": first, f"second/{group}/{number}": second}
        return found | {"healthy": self.healthy, "healthy_steps": self.healthy_steps}


class Checkpoint:
    """The file of one training's state, complete or not at all, with a digest of its content."""

    def __init__(
        self,
        path: Path,
        identity: dict[str, Any],
        conditions: dict[str, Any],
        seconds: float = 60.0,
        stop: StopRequest | None = None,
        began: float | None = None,
    ):
        """Name the file; nothing is read or written yet.

        Args:
            path: The file.
            identity: What must be the same to resume: settings hash, data, source prompts.
            conditions: What must be the same to end bit for bit like an undisturbed training (threads, device,
                versions). A difference is reported, not refused.
            seconds: Time between two checkpoints. It grows where writing one takes more than 5 % of it.
            stop: Whether the process was asked to stop; shared by the trainings that follow each other in one job.
            began: The moment (time.perf_counter) from which this process works for the training; by default now.
        """
        self.path, self.identity, self.conditions, self.seconds = path, identity, conditions, seconds
        self.stop = stop or StopRequest()
        self._written, self._cost = time.monotonic(), 0.0
        self._began = time.perf_counter() if began is None else began
        self.seconds_before = 0.0
        """How long earlier processes worked for the training, up to the checkpoint that was resumed from."""

    def after_step(self, state: TrainingState, last: bool) -> None:
        """Write the state if it is time. Raises Interrupted if the process was asked to stop."""
        waits = max(self.seconds, self._cost / WRITING_SHARE)
        if last or self.stop.signal or time.monotonic() - self._written >= waits:
            self.write(state)
        if self.stop.signal:
            self.stop.interrupt(f"after step {state.step}")

    def write(self, state: TrainingState) -> None:
        """Write the state."""
        started = time.perf_counter()
        tensors = {name: tensor.cpu().contiguous() for name, tensor in state.tensors().items()}
        results = []
        for run, result in enumerate(state.results):
            tensors |= {f"best/{run}/{name}": tensor.cpu().contiguous() for name, tensor in result.best_tensors.items()}
            results.append({key: value for key, value in vars(result).items() if key != "best_tensors"})
        header = {
            "format": FORMAT,
            "identity": self.identity,
            "conditions": self.conditions,
            "step": state.step,
            "seconds": state.seconds,
            "wall_seconds": self.seconds_before + time.perf_counter() - self._began,
            "size": asdict(state.size),
            "optimizer_steps": state.optimizer.steps,
            "results": results,
        }
        write_checked(self.path, header, tensors)
        self._written, self._cost = time.monotonic(), time.perf_counter() - started

    def read_into(self, state: TrainingState) -> bool:
        """Set `state` from the file; False where there is none that fits (a line on stderr says why)."""
        if not self.path.exists():
            return False
        found = read_checked(self.path)
        if isinstance(found, str):
            return self._refuse(found)
        header, tensors = found
        if header.get("format") != FORMAT or header.get("identity") != self.identity:
            return self._refuse("it belongs to other settings, data or code")
        own = state.tensors()
        if any(name not in tensors or tensors[name].shape != tensor.shape for name, tensor in own.items()):
            return self._refuse("its tensors are those of other code")
        self._say_differences(header["conditions"])
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
        state.step, state.seconds, state.size = header["step"], header["seconds"], ForwardSize(**header["size"])
        state.optimizer.steps = header["optimizer_steps"]
        self.seconds_before = header["wall_seconds"]
        device = state.healthy.device
        for run, (result, values) in enumerate(zip(state.results, header["results"], strict=True)):
            for key, value in values.items():
                setattr(result, key, value)
            result.validation_curve = [(step, score) for step, score in result.validation_curve]
            best = f"best/{run}/"
            result.best_tensors = {
                name.removeprefix(best): tensor.to(device) for name, tensor in tensors.items() if name.startswith(best)
            }
        _say(f"resuming from step {state.step} ({self.path})")
        return True

    def _refuse(self, reason: str) -> bool:
        _say(f"{self.path} is not used: {reason}; training starts again")
        return False

    def _say_differences(self, before: dict[str, Any]) -> None:
        for key, value in self.conditions.items():
            if before.get(key) != value:
                _say(f"{key} was {before.get(key)} before the stop, is {value} now: the result may differ by rounding")


def write_checked(path: Path, header: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write contiguous CPU tensors and a header as a safetensors file that holds a digest of both."""
    text = json.dumps(header)
    with write_atomically(path) as temporary:
        save_file(dict(tensors), temporary, metadata={"ept": text, "sha256": _digest(text, tensors)})


def read_checked(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | str:
    """Header and tensors of such a file, or why it cannot be used."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        return f"it is damaged ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    if not metadata.keys() >= {"ept", "sha256"}:
        return "it belongs to other settings, data or code"
    if metadata["sha256"] != _digest(metadata["ept"], tensors):
        return "it is damaged (its content does not have the digest that it names)"
    return json.loads(metadata["ept"]), tensors


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of a header and of the tensors' names, types, shapes and bytes."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
