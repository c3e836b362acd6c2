"""One job: train a pack, choose its learning rates on validation, report on test, record everything."""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from filelock import FileLock

from ept.config.settings import steps_for
from ept.evaluation.score import scores_of
from ept.files import DIGESTS, parse_json, sha256_file
from ept.methods.base import MethodModule
from ept.methods.mpt import SharedPrompt
from ept.methods.prompt import PromptOutput
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.training.checkpoint import Checkpoint, StopRequest
from ept.training.choose_source import SourceChoice, starting_prompts
from ept.training.distil import distillation
from ept.training.job import Job, load_job, runs_of
from ept.training.loop import Objective, Validate, label_loss, train_runs
from ept.training.progress import Progress
from ept.training.record import Outcome, write_results
from ept.training.runs import Run, RunResult


def train_job(experiment: Experiment, pack: Pack, threads: int, checkpoint_seconds: float) -> None:
    """Train a pack, also that of a distilled prompt, and write its prompts, predictions and records.

    A checkpoint is written regularly and on SIGTERM and SIGINT; the same call resumes from it.

    Args:
        experiment: The configuration and its packs.
        pack: What is trained.
        threads: CPU threads.
        checkpoint_seconds: Seconds between two checkpoints.

    Raises:
        InputError: Something that it reads is missing, damaged or belongs to something else.
        Interrupted: The process was asked to stop.
    """
    started = time.perf_counter()
    with StopRequest() as stop:
        job = load_job(experiment, pack, threads)
        if diverged := job.sources.diverged:
            print(f"{job.title}: left out, because they diverged: {', '.join(diverged)}", file=sys.stderr, flush=True)
        runs = runs_of(pack)
        results: list[RunResult] = []
        seconds, seconds_before, sources, began = 0.0, 0.0, SourceChoice(), started
        # Runs that train together: all, or one where a method changes the backbone's weights.
        for number, group in enumerate([runs] if job.method.packed else [[run] for run in runs]):
            checkpoint = _checkpoint(job, number, checkpoint_seconds, stop, began)
            title = job.title if job.method.packed else f"{job.title}, run {number + 1} of {len(runs)}"
            found, part_seconds, choice = _train_together(job, group, title, checkpoint)
            results += found
            seconds += part_seconds
            seconds_before += checkpoint.seconds_before
            sources = replace(choice, scores=sources.scores | choice.scores)
            began = time.perf_counter()
        costs = {
            "train_seconds": seconds,
            "wall_seconds": seconds_before + time.perf_counter() - started,
            "examples_per_second": sum(result.steps for result in results) * job.examples_per_step / seconds,
        }
        write_results(job, Outcome(runs, results, sources, costs))
    shutil.rmtree(pack.checkpoints, ignore_errors=True)


def _train_together(
    job: Job, runs: list[Run], title: str, checkpoint: Checkpoint
) -> tuple[list[RunResult], float, SourceChoice]:
    """Train some runs in one pass; returns their results, the seconds of their steps and their sources."""
    prompts, choice = starting_prompts(job, [run.seed for run in runs])
    steps = steps_for(job.settings, sum(part.train.metadata["rows_published_train"] for part in job.data))
    objective, validate = _objective(job, prompts, runs)
    results, seconds = train_runs(
        prompts, runs, objective, steps, job.settings, job.size, validate, Progress(title, steps), checkpoint
    )
    prompts.close()
    return results, seconds, choice


def _objective(job: Job, prompts: MethodModule, runs: list[Run]) -> tuple[Objective[Any], Validate]:
    """What the runs minimize, and how they are scored: on their task, or on all source tasks of a distilled prompt."""
    if isinstance(prompts, SharedPrompt):
        parts = [validation(part, partial(_of_task, part, prompts, task)) for task, part in enumerate(job.parts)]
        # [ours] The mean over the source tasks of their first metric, each with its own prompt.
        return distillation(job, prompts), lambda alive: np.mean([scores(alive) for scores in parts], axis=0)
    rows = np.stack([job.train_rows(run.seed) for run in runs])
    # Runs that share a pass train without: their masks would depend on the other runs.
    dropout = 0.0 if job.method.packed else job.settings.dropout
    loss = label_loss(job.backbone, prompts, runs, job.train, rows, job.settings.batch_size, dropout)
    return loss, validation(job, prompts)


def _of_task(job: Job, prompts: SharedPrompt, task: int) -> PromptOutput:
    """The prompt of one source task, whose job this is."""
    return replace(prompts.of_task(task), images=job.images)


def validation(job: Job, outputs: Callable[[], PromptOutput]) -> Validate:
    """Scores runs on the rows that select checkpoints; `outputs` gives what the prompts of all runs add now."""
    positions = job.size.positions
    return scores_of(outputs, job.backbone, job.validation, job.validation_rows(), job.answers, positions)


def _checkpoint(job: Job, number: int, seconds: float, stop: StopRequest, began: float) -> Checkpoint:
    identity = {
        "hash": job.pack.hash,
        "data": [[part.train.fingerprint, part.validation.fingerprint] for part in job.data],
        "sources": [sha256_file(source.pack.source_prompt) for source in job.sources.usable],
    }
    path = job.pack.checkpoints / f"part{number}.safetensors"
    return Checkpoint(path, identity, job.conditions(), seconds, stop, began)


@contextlib.contextmanager
def alone_with(pack: Pack) -> Iterator[bool]:
    """Hold the pack's lock, which the system frees when its process ends; waits while another process has it.

    Yields whether there is something to do: False if every file of the pack is there and has its digest.
    """
    path = paths.lock_file(pack.checkpoints)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    with contextlib.suppress(TimeoutError):
        lock.acquire(blocking=False)
    if not lock.is_locked:
        print(f"another process trains {pack.folder}; waiting until it ends", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield not is_finished(pack)
    finally:
        lock.release()


def is_finished(pack: Pack) -> bool:
    """Whether every file of a pack is there and has the digest that the settings.json of its folder names."""
    if not all(file.is_file() for file in pack.files):
        return False
    for folder in (pack.prompts, pack.folder):
        try:
            stored = parse_json((folder / "settings.json").read_text(encoding="utf-8"))
            digests = {name: sha256_file(folder / name) for name in stored[DIGESTS]}
            names = {file.name for file in pack.files if file.parent == folder} - {"settings.json"}
            if stored["hash"] != pack.hash or stored[DIGESTS] != digests or digests.keys() != names:
                return False
        except (OSError, ValueError, LookupError, TypeError):
            return False
    return True
