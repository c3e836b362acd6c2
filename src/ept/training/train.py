"""One job: train a pack, choose its learning rates on validation, report on test, write everything down."""

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event

import numpy as np
import torch
from filelock import FileLock

from ept.config.settings import steps_for
from ept.evaluation.score import predict_split, references, score
from ept.methods.base import MethodModule
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.training.checkpoint import Checkpoint
from ept.training.choose_source import SourceScores, starting_prompts
from ept.training.job import Job, load_job, runs_of
from ept.training.loop import Validate, train_pack
from ept.training.progress import Progress
from ept.training.record import Outcome, write_results
from ept.training.runs import Run, RunResult


@dataclass(frozen=True)
class Part:
    """Runs that train together: all of a pack, or one where a method changes the backbone's weights."""

    number: int
    runs: list[Run]


def train_job(experiment: Experiment, pack: Pack, threads: int, checkpoint_seconds: float) -> None:
    """Train `pack` on `threads` CPU threads; write prompts, predictions.parquet, settings.json and, last, runs.json.

    A checkpoint is written every `checkpoint_seconds` and on SIGTERM; the same call goes on from there. Raises
    Interrupted after SIGTERM.
    """
    started = time.perf_counter()
    job = load_job(experiment, pack, threads)
    results: list[RunResult] = []
    seconds, seconds_before, sources = 0.0, 0.0, SourceScores()
    began, stop = started, Event()
    for part in parts(job, runs_of(pack)):
        checkpoint = _checkpoint(job, part, checkpoint_seconds, stop, began)
        found, part_seconds, sources = _train_part(job, part, checkpoint)
        results += found
        seconds += part_seconds
        seconds_before += checkpoint.seconds_before
        began = time.perf_counter()
    costs = {
        "train_seconds": seconds,
        "wall_seconds": seconds_before + time.perf_counter() - started,
        "examples_per_second": sum(result.steps for result in results) * job.batch_size / seconds,
    }
    write_results(job, Outcome(runs_of(pack), results, sources, costs))
    shutil.rmtree(pack.checkpoints, ignore_errors=True)


def parts(job: Job, runs: list[Run]) -> list[Part]:
    """The runs that train together, in order."""
    groups = [runs] if job.method.packed else [[run] for run in runs]
    return [Part(number, group) for number, group in enumerate(groups)]


def _checkpoint(job: Job, part: Part, seconds: float, stop: Event, began: float) -> Checkpoint:
    return Checkpoint(
        job.pack.checkpoints / f"part{part.number}.safetensors",
        identity={"hash": job.pack.hash, "data": [job.train.fingerprint, job.validation.fingerprint]},
        conditions=job.conditions(),
        seconds=seconds,
        stop=stop,
        began=began,
    )


def _train_part(job: Job, part: Part, checkpoint: Checkpoint) -> tuple[list[RunResult], float, SourceScores]:
    # Before anything is loaded, so that no signal is lost.
    checkpoint.stop_on_signal()
    prompts, sources = starting_prompts(job, [run.seed for run in part.runs])
    rows = np.stack([job.train_rows(run.seed) for run in part.runs])
    steps = steps_for(job.settings, job.train.metadata["rows_published_train"])
    title = f"{job.pack.method} {job.pack.task} {job.pack.regime} from {job.pack.initialize_from}"
    if not job.method.packed:
        title += f", run {part.number + 1} of {len(runs_of(job.pack))}"
    results, seconds = train_pack(
        job.backbone,
        prompts,
        part.runs,
        job.train,
        rows,
        steps,
        job.settings,
        job.size,
        validation(job),
        Progress(title, steps),
        checkpoint,
    )
    prompts.close()
    return results, seconds, sources


def validation(job: Job) -> Validate:
    """Scores the current prompts of some runs on the rows that select checkpoints."""
    rows = job.validation_rows()
    truth = references(job.validation, rows, job.task)

    def validate(prompts: MethodModule, alive: list[int]) -> np.ndarray:
        with torch.inference_mode():
            output = prompts().select(alive)
        predictions = predict_split(job.backbone, output, job.validation, rows, job.answers, job.size.positions)
        return np.array([score(job.task, prediction, truth)[job.task.metrics[0]] for prediction in predictions])

    return validate


@contextlib.contextmanager
def alone_with(pack: Pack) -> Iterator[bool]:
    """Hold the pack's lock, which the system frees when its process dies; waits for another process's end.

    Yields whether there is still something to do: not where that other process has made every file of the pack.
    """
    path = paths.lock_file(pack.checkpoints)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    with contextlib.suppress(TimeoutError):
        lock.acquire(blocking=False)
    waits = not lock.is_locked
    if waits:
        print(f"another process trains {pack.folder}; waiting for its end", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield not (waits and all(file.is_file() for file in pack.files))
    finally:
        lock.release()
