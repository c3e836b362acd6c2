"""A training that is killed goes on from its last checkpoint and ends as if nothing had happened."""

import json
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ept.files import write_atomically
from ept.methods.base import MethodModule
from ept.training.optimizer import PackedAdam
from ept.training.runs import RunResult
from ept.training.step import ForwardSize

# Raised when a checkpoint of older code must not be gone on from.
FORMAT = "ept-checkpoint-1"


class Interrupted(Exception):
    """The job was asked to stop (SIGTERM) and has written its checkpoint."""


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
    """The file of one training's state, written every `seconds` and on SIGTERM, complete or not at all.

    `identity` is what must be the same to go on (settings hash, data); `conditions` what must be the same to end bit
    for bit like an undisturbed training (threads, device, versions): a difference is said, not refused. Trainings that
    follow each other in one job share `stop`, so that no signal between them is lost. `began` is the moment (of
    time.perf_counter) from which this process works for the training; `seconds_before` is how long former processes
    did, up to the checkpoint that it goes on from.
    """

    def __init__(
        self,
        path: Path,
        identity: dict[str, Any],
        conditions: dict[str, Any],
        seconds: float = 60.0,
        stop: Event | None = None,
        began: float | None = None,
    ):
        self.path, self.identity, self.conditions, self.seconds = path, identity, conditions, seconds
        self._written = time.monotonic()
        self._stop = stop or Event()
        self._began = time.perf_counter() if began is None else began
        self.seconds_before = 0.0

    def stop_on_signal(self) -> None:
        """From now on SIGTERM means: write a checkpoint after the current step and end with `Interrupted`."""
        signal.signal(signal.SIGTERM, self._ask_to_stop)

    def _ask_to_stop(self, *_: object) -> None:
        self._stop.set()

    def after_step(self, state: TrainingState, last: bool) -> None:
        """Write if it is time. Raises Interrupted where the job was asked to stop."""
        if last or self._stop.is_set() or time.monotonic() - self._written >= self.seconds:
            self.write(state)
        if self._stop.is_set():
            raise Interrupted(f"stopped by SIGTERM after step {state.step}; the same command goes on from there")

    def write(self, state: TrainingState) -> None:
        """Write the state."""
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
        with write_atomically(self.path) as temporary:
            save_file(tensors, temporary, metadata={"ept": json.dumps(header)})
        self._written = time.monotonic()

    def read_into(self, state: TrainingState) -> bool:
        """Set `state` from the file; False where there is none that fits (a line on stderr says why)."""
        if not self.path.exists():
            return False
        try:
            with safe_open(self.path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get("ept", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, OSError, ValueError) as error:
            return self._refuse(f"it is damaged ({error})")
        if header.get("format") != FORMAT or header.get("identity") != self.identity:
            return self._refuse("it belongs to other settings, data or code")
        own = state.tensors()
        if any(name not in tensors or tensors[name].shape != tensor.shape for name, tensor in own.items()):
            return self._refuse("its tensors are of other code")
        self._say_differences(header["conditions"])
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
        state.step, state.seconds, state.size = header["step"], header["seconds"], ForwardSize(**header["size"])
        state.optimizer.steps = header["optimizer_steps"]
        self.seconds_before = header.get("wall_seconds", 0.0)
        device = state.healthy.device
        for run, (result, values) in enumerate(zip(state.results, header["results"], strict=True)):
            for key, value in values.items():
                setattr(result, key, value)
            result.validation_curve = [tuple(point) for point in result.validation_curve]
            best = f"best/{run}/"
            result.best_tensors = {
                name.removeprefix(best): tensor.to(device) for name, tensor in tensors.items() if name.startswith(best)
            }
        _say(f"going on from step {state.step} ({self.path})")
        return True

    def _refuse(self, reason: str) -> bool:
        _say(f"{self.path} is not used: {reason}; training starts again")
        return False

    def _say_differences(self, before: dict[str, Any]) -> None:
        for key, value in self.conditions.items():
            if before.get(key) != value:
                _say(f"{key} was {before.get(key)} before the stop, is {value} now: the result may differ by rounding")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
