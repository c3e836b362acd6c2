"""Examples per second of every variant, in rounds in turn."""

import time
from dataclasses import dataclass, field

from benchmarks.backbones import has_bfloat16
from benchmarks.data import TaskData
from benchmarks.plan import VARIANTS, Plan
from benchmarks.subjects import Subjects
from benchmarks.theirs import EVALUATION_BATCH

# Validation rows that one run predicts in one slice; with more runs, each predicts fewer. Padded ones are slow, and
# equal in length.
EVALUATION_ROWS = 128
MOST_STEPS = 40


@dataclass
class Rate:
    """Examples per second of one variant on one task, in each round."""

    variant: str
    task: str
    runs: int
    quantity: str
    """`training` or `evaluation`."""
    examples: int = 0
    """Examples of one slice, over all runs."""
    rounds: list[float] = field(default_factory=list)

    def add(self, examples: int, seconds: float) -> None:
        """Take the slice of a round down."""
        self.examples = examples
        self.rounds.append(examples / seconds)


def measure_rates(plan: Plan, subjects: Subjects, tasks: list[TaskData], say) -> list[Rate]:
    """Every variant, number of runs and task in each of `plan.rounds` rounds, one after another in turn.

    Run-by-run variants are measured with one run only. The largest grid is measured in the first round only, and no
    further round is begun that would end after `plan.rounds_seconds`. `say` is called with a line per round.
    """
    started = time.perf_counter()
    names = [
        (variant, runs) for variant in measured_variants() for runs in (plan.grids if VARIANTS[variant].ours else (1,))
    ]
    step_seconds: dict[tuple[str, str], float] = {}
    slices = [Slice(plan, subjects, task, variant, runs, step_seconds) for task in tasks for variant, runs in names]
    for number in range(plan.rounds):
        for part in slices:
            if number == 0 or part.runs != plan.grid_once:
                part.measure()
        elapsed = time.perf_counter() - started
        say(f"round {number + 1} of {plan.rounds} done after {elapsed:.0f} s")
        if elapsed * (number + 2) / (number + 1) > plan.rounds_seconds:
            break
    return [rate for part in slices for rate in (part.training, part.evaluation)]


def measured_variants() -> list[str]:
    """The variants that this machine can run at a useful speed: without bfloat16 those in float32."""
    return [name for name, variant in VARIANTS.items() if variant.dtype == "float32" or has_bfloat16()]


class Slice:
    """One variant, number of runs and task: what is timed at a stretch."""

    def __init__(self, plan: Plan, subjects: Subjects, task: TaskData, variant: str, runs: int, step_seconds: dict):
        """`step_seconds`, shared by all slices: of one run's step, by variant and task."""
        self.plan, self.subjects, self.task, self.variant, self.runs = plan, subjects, task, variant, runs
        self.step_seconds = step_seconds
        self.training = Rate(variant, task.name, runs, "training")
        self.evaluation = Rate(variant, task.name, runs, "evaluation")
        rows = EVALUATION_BATCH if VARIANTS[variant].padded else EVALUATION_ROWS
        self.rows = max(EVALUATION_BATCH, rows // runs)

    def measure(self) -> None:
        """One slice of training, of as many steps as fill `plan.slice_seconds`, and one of evaluation."""
        steps = round(self.plan.slice_seconds / (self.runs * self._warm_up()))
        steps = max(1, min(MOST_STEPS, steps))
        subject = self.subjects.make(self.variant, self.runs, self.task)
        self.training.add(steps * self.plan.batch_size * self.runs, subject.train(steps))
        self.evaluation.add(self.rows * self.runs, subject.evaluate(self.rows))

    def _warm_up(self) -> float:
        """Seconds of one run's step; the first time, after a first step and a first prediction.

        The first step of a grid would cost too much as a warm-up: that of one run does.
        """
        key = (self.variant, self.task.name)
        if key not in self.step_seconds:
            one = self.subjects.make(self.variant, 1, self.task)
            one.evaluate(EVALUATION_BATCH)
            one.train(1)
            self.step_seconds[key] = one.train(1)
        return self.step_seconds[key]
