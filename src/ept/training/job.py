"""One job: train a pack, choose its learning rates on validation, report on test, write everything down."""

import shutil
import time
from dataclasses import dataclass
from threading import Event

import numpy as np
import torch

from ept.evaluation.split import predict_split, references, score
from ept.experiment import Experiment
from ept.method_pack import MethodPack
from ept.pack import Pack
from ept.training.checkpoint import Checkpoint
from ept.training.choose_source import SourceScores
from ept.training.load import Job, load_job, runs_of
from ept.training.loop import Validate, train_pack
from ept.training.progress import Progress
from ept.training.report import Outcome, write_results
from ept.training.results import Run, RunResult
from ept.training.settings import steps_for
from ept.training.start import starting_prompts


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
    title = f"{job.pack.method} {job.pack.task} {job.pack.regime} from {job.pack.initialise_from}"
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

    def validate(prompts: MethodPack, alive: list[int]) -> np.ndarray:
        with torch.inference_mode():
            output = prompts().select(alive)
        predictions = predict_split(job.backbone, output, job.validation, rows, job.answers, job.size.positions)
        return np.array([score(job.task, prediction, truth)[job.task.metrics[0]] for prediction in predictions])

    return validate
