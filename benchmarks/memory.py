"""Peak memory of each variant, in a process of its own."""

import multiprocessing
import resource
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from benchmarks.data import TaskData
from benchmarks.plan import OURS, RUN_BY_RUN, Plan
from benchmarks.subjects import Subjects
from benchmarks.theirs import quieten


def measure_memory(plan: Plan, task: TaskData, threads: int, grids: tuple[int, ...]) -> list[dict]:
    """For each variant and number of runs: `peak_mib` of a training step, and `before_mib` with the backbone loaded.

    Ours: the step with the longest text of many, in which memory peaks. On a CPU the resident memory of the
    process (libraries included), on a GPU what torch allocated. `plan.positions` must be known: measuring needs memory.
    """
    subjects = [(variant, 1) for variant in RUN_BY_RUN] + [(variant, runs) for runs in grids for variant in OURS]
    context = multiprocessing.get_context("forkserver")
    # Libraries are imported once, before the fork; no thread of them has started by then.
    context.set_forkserver_preload([__name__])
    found = []
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        for variant, runs in subjects:
            before, peak = pool.submit(peak_memory, plan, variant, runs, task, threads).result()
            found.append({"variant": variant, "runs": runs, "before_mib": before, "peak_mib": peak})
    return found


def peak_memory(plan: Plan, variant: str, runs: int, task: TaskData, threads: int) -> tuple[float, float]:
    """MiB before and at the peak of one training step, in this process."""
    quieten()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(prefix="ept-bench-") as folder:
        subject = Subjects(plan, folder).make(variant, runs, task)
        before = _peak_mib()
        if variant in RUN_BY_RUN:
            subject.train(1)
        else:
            subject.step(subject.longest())
        return before, _peak_mib()


def _peak_mib() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        # Not ru_maxrss alone: on Linux it begins with what the parent had.
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
