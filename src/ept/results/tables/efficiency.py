"""What each method costs: training time and memory, parameters, and the time of one prediction."""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from ept.evaluation.score import predict_split
from ept.methods.prompt import PromptOutput
from ept.methods.prompt_file import read_prompt
from ept.methods.registry import METHODS, REFERENCE, get_method
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.plan.paths import prompt_file
from ept.plan.tables import measured_packs
from ept.results.records import PackResult, collect
from ept.results.render import Cell, Layout
from ept.results.statistics import group
from ept.results.tables.scores import table_notes
from ept.training.choose_source import build_runs
from ept.training.job import Job, load_jobs

NOTES = (
    "Times are those of this machine and change from run to run; no other table has any.",
    "Training: seconds of all runs (learning rates and seeds) of all tasks, and per run. Runs together: how many train "
    "in one process at a time, all of a task, or one of a method that changes the backbone's weights; seconds per run, "
    "examples / s and peak memory are those of so many, and compare methods where their number is the same. Source "
    "prompts are not counted.",
)


@dataclass(frozen=True)
class InferenceTime:
    """The median of `ROUNDS` repetitions, on `rows` texts padded to `length` pieces."""

    seconds: float
    task: str
    rows: int
    length: int
    device: str
    threads: int


def make_table(experiment: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
    """A row a method: sums and means over its packs with full data, and a measurement made now."""
    results = collect(packs)
    groups = group(results)
    times = measure_inference(experiment, measured_packs(packs))
    rows = [_row(members, times) for members in groups]
    reference = next((row["inference_seconds"] for row in rows if row["method"] == REFERENCE), float("nan"))
    rows = [row | {"inference_ratio": row["inference_seconds"] / reference} for row in rows]
    return rows, efficiency_layout(rows, table_notes(results))


def _row(members: list[PackResult], times: dict[str, InferenceTime]) -> dict:
    records = [result.record for result in members]
    numbers = [len(record["runs"]) for record in records]
    runs = sum(numbers)
    seconds = sum(record["train_seconds"] for record in records)
    examples = sum(record["examples_per_second"] * record["train_seconds"] for record in records)
    (time,) = (times[result.pack.hash] for result in members if result.pack.hash in times)
    return {
        "backbone": records[0]["backbone"],
        "method": members[0].pack.method,
        "regime": members[0].pack.regime,
        "tasks": len(members),
        "runs": runs,
        "runs_together": max(numbers) if METHODS[members[0].pack.method].packed else 1,
        "train_seconds": seconds,
        "train_seconds_per_run": seconds / runs,
        "examples_per_second": examples / seconds,
        "peak_memory_bytes": max(record["peak_memory_bytes"] for record in records),
        "trained_parameters": max(record["trained_parameters"] for record in records),
        "stored_parameters": max(record["stored_parameters"] for record in records),
        "train_device": records[0]["device"],
        "train_threads": records[0]["threads"],
        "inference_seconds": time.seconds,
        "inference_task": time.task,
        "inference_rows": time.rows,
        "inference_length": time.length,
        "inference_device": time.device,
        "inference_threads": time.threads,
    }


def efficiency_layout(rows: list[dict], notes: Sequence[str] = ()) -> Layout:
    """Methods as rows, costs as columns."""
    first = rows[0]
    batch = f"{first['inference_rows']} texts of {first['inference_task']} padded to {first['inference_length']} pieces"
    inference = (
        f"Inference: {batch} (the prompt before them not counted) on {first['inference_device']}; medians, all methods "
        f"in turn in one process. × {METHODS[REFERENCE].title} is the ratio of these times: it speaks of prediction "
        "alone. Compare what papers claim of training time with s per run."
    )
    return Layout(
        head=[
            "method",
            "trained parameters",
            "stored parameters",
            "training s",
            "s per run",
            "runs together",
            "examples / s",
            "peak MiB",
            "inference ms",
            f"× {METHODS[REFERENCE].title}",
        ],
        lines=[
            [
                Cell(METHODS[row["method"]].title),
                Cell(f"{row['trained_parameters']:,}"),
                Cell(f"{row['stored_parameters']:,}"),
                Cell(f"{row['train_seconds']:.1f}"),
                Cell(f"{row['train_seconds_per_run']:.1f}"),
                Cell(f"{row['runs_together']}"),
                Cell(f"{row['examples_per_second']:.1f}"),
                Cell(f"{row['peak_memory_bytes'] / 2**20:,.0f}"),
                Cell(f"{1000 * row['inference_seconds']:.1f}"),
                Cell("" if row["inference_ratio"] != row["inference_ratio"] else f"{row['inference_ratio']:.2f}"),
            ]
            for row in rows
        ],
        notes=[*NOTES, inference, *notes],
    )


BATCH = 16
ROUNDS = 9
THREADS = 1


def measure_inference(experiment: Experiment, packs: list[Pack]) -> dict[str, InferenceTime]:
    """The time of each pack by its hash. The packs are those of several methods on one task.

    In every round each method predicts the batch once, in turn, so that what slows the machine down for a while slows
    all of them. A method that changes the backbone's weights is put into the backbone and taken out again outside the
    clock. On a CPU the clock counts the processor's time of one thread: other programs do not count. Raises InputError
    where a prompt file or a tokenized split is missing or damaged.
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
