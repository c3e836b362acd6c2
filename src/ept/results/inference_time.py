"""How long each method takes to predict one and the same batch, side by side in one process."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from ept.evaluation.split import predict_split
from ept.experiment import Experiment
from ept.methods import get_method
from ept.pack import Pack
from ept.paths import prompt_file
from ept.prompts.base import PromptOutput
from ept.prompts.save import read_prompt
from ept.training.load import Job, load_jobs
from ept.training.start import build_runs

BATCH = 16
ROUNDS = 9
THREADS = 1


@dataclass(frozen=True)
class InferenceTime:
    """The median of `ROUNDS` repetitions, on `rows` texts padded to `length` pieces."""

    seconds: float
    task: str
    rows: int
    length: int
    device: str
    threads: int


def measure_inference(experiment: Experiment, packs: list[Pack]) -> dict[str, InferenceTime]:
    """The time of each pack by its hash. The packs are those of several methods on one task.

    In every round each method predicts the batch once, in turn, so that what slows the machine down for a while slows
    all of them. A method that changes the backbone's weights is put into the backbone and taken out again outside the
    clock. On a CPU the clock counts the processor's time of one thread: other programs do not count. Raises InputError
    where a prompt file or a tokenised split is missing or damaged.
    """
    jobs = []
    for precision in (False, True):
        members = tuple(pack for pack in packs if get_method(pack.method).float32 == precision)
        jobs += load_jobs(experiment, members, THREADS) if members else []
    seconds: dict[str, list[float]] = {pack.hash: [] for pack in packs}
    rows = np.random.default_rng(0).permutation(len(jobs[0].test))[:BATCH]
    for _ in range(1 + ROUNDS):
        for job in jobs:
            with _attached(job) as output:
                seconds[job.pack.hash].append(_seconds(job, output, rows))
    conditions = jobs[0].conditions()
    return {
        # The first round warms up.
        hash_: InferenceTime(
            seconds=statistics.median(found[1:]),
            task=packs[0].task,
            rows=len(rows),
            length=int(jobs[0].test.lengths[rows].max()),
            device=conditions["device"],
            threads=THREADS,
        )
        for hash_, found in seconds.items()
    }


@contextmanager
def _attached(job: Job) -> Iterator[PromptOutput]:
    """The first seed's trained prompt, or weights in their place in the backbone."""
    seed = job.pack.seeds[0]
    file = prompt_file(job.pack.prompts, seed)
    trained = build_runs(job, [seed])
    try:
        trained.load_tensors(0, read_prompt(file).tensors, str(file))
        with torch.inference_mode():
            yield trained()
    finally:
        trained.close()


def _seconds(job: Job, output: PromptOutput, rows: np.ndarray) -> float:
    """Of one prediction of all rows as one batch."""
    cuda = job.backbone.device.type == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    # Room for every row in one batch.
    positions = len(rows) * (output.prompt.shape[1] + int(job.test.lengths[rows].max()))
    if cuda:
        torch.cuda.synchronize()
    started = clock()
    predict_split(job.backbone, output, job.test, rows, job.answers, positions)
    if cuda:
        torch.cuda.synchronize()
    return clock() - started
