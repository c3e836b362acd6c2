"""Whatever can be timed, by its name: a variant, a number of runs, a task."""

from typing import Protocol

from benchmarks.backbones import make_t5
from benchmarks.data import TaskData
from benchmarks.ours import Pack, SizedBackbone, sized
from benchmarks.plan import RUN_BY_RUN, Plan
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
        if variant in RUN_BY_RUN:
            if variant not in self._models:
                self._models[variant] = make_model(variant, make_t5(self.plan.shape), self.plan)
            return RunByRun(self._models[variant], task, self.plan, self.folder)
        return Pack(self.backbone(), variant, runs, task, self.plan)

    def backbone(self) -> SizedBackbone:
        """The backbone that ours share."""
        if "ours" not in self._models:
            self._models["ours"] = sized(EncoderDecoder(make_t5(self.plan.shape)), self.plan.positions)
        return self._models["ours"]
