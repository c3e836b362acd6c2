"""Whatever can be timed, by its name: a variant, a number of runs, a task."""

from typing import Protocol

from benchmarks.backbones import make_t5
from benchmarks.data import TaskData
from benchmarks.ours import Pack, SizedBackbone, sized
from benchmarks.plan import VARIANTS, Plan
from benchmarks.theirs import RunByRun, make_model
from ept.backbones.encoder_decoder import EncoderDecoder


class Subject(Protocol):
    """Something that trains and predicts."""

    def train(self, steps: int) -> float:
        """Seconds of `steps` optimizer steps of all of its runs."""

    def evaluate(self, rows: int) -> float:
        """Seconds until all of its runs have predicted `rows` validation rows."""


class Subjects:
    """Makes subjects; each run-by-run variant has one copy of the backbone, ours share one."""

    def __init__(self, plan: Plan, folder: str):
        """`folder` for whatever the Trainer writes."""
        self.plan = plan
        self.folder = folder
        self._models = {}

    def make(self, variant: str, runs: int, task: TaskData) -> Subject:
        """A fresh start of a variant of VARIANTS on a task; run-by-run variants have one run whatever `runs` says."""
        record = VARIANTS[variant]
        if record.ours:
            return Pack(self.backbone(record.dtype), record.method, runs, task, self.plan)
        if variant not in self._models:
            self._models[variant] = make_model(record.method, make_t5(self.plan.shape, record.dtype), self.plan)
        return RunByRun(self._models[variant], task, self.plan, self.folder, record.padded)

    def backbone(self, dtype: str = "float32") -> SizedBackbone:
        """The backbone that ours share, one for each precision."""
        if dtype not in self._models:
            positions = self.plan.positions if dtype == "float32" else self.plan.positions_bfloat16
            self._models[dtype] = sized(EncoderDecoder(make_t5(self.plan.shape, dtype)), positions)
        return self._models[dtype]
