"""The job of MPT's source training: load teachers and data, distil, write the shared prompt and the record."""

import shutil
import time
from dataclasses import replace
from functools import partial

import numpy as np

from ept.data.batches import BatchOrder
from ept.experiment import Experiment
from ept.files import write_json
from ept.pack import Pack
from ept.prompts.multitask import SharedPrompt
from ept.prompts.save import save_prompt
from ept.training.checkpoint import Checkpoint
from ept.training.distil import Distillation, SourceTask
from ept.training.job import validation
from ept.training.load import Job, load_jobs, runs_of
from ept.training.loop import Validate, train_runs
from ept.training.progress import Progress
from ept.training.report import prompt_metadata, record_head, run_record, write_settings
from ept.training.results import Run, RunResult
from ept.training.settings import steps_for
from ept.training.start import build_prompts, candidate_prompts


def distil_job(experiment: Experiment, pack: Pack, threads: int, checkpoint_seconds: float) -> None:
    """Train the `multitask` pack, as `train_job` does; write the prompt, settings.json and, last, runs.json."""
    started = time.perf_counter()
    jobs = load_jobs(experiment, pack.candidates, threads)
    # Settings and backbone are those of every source task; the first also lends its labels to prompts that need some.
    job = replace(jobs[0], pack=pack)
    runs = runs_of(pack)
    prompts = SharedPrompt(build_prompts(job, [run.seed for run in runs], "pt"), len(jobs))
    steps = steps_for(job.settings, sum(job.train.metadata["rows_published_train"] for job in jobs))
    checkpoint = Checkpoint(
        pack.checkpoints / "part0.safetensors",
        identity={"hash": pack.hash, "data": [job.train.fingerprint for job in jobs]},
        conditions=job.conditions(),
        seconds=checkpoint_seconds,
        began=started,
    )
    checkpoint.stop_on_signal()
    results, seconds = train_runs(
        prompts,
        runs,
        Distillation(job.backbone, source_tasks(job, jobs), job.config.mpt.distillation_weight),
        steps,
        job.settings,
        job.size,
        mean_validation(jobs),
        Progress(f"{pack.method} source training on {pack.title}", steps),
        checkpoint,
    )
    wall_seconds = checkpoint.seconds_before + time.perf_counter() - started
    costs = {"train_seconds": seconds, "wall_seconds": wall_seconds}
    _write(job, jobs, prompts, runs, results, costs)
    shutil.rmtree(pack.checkpoints, ignore_errors=True)


def source_tasks(job: Job, jobs: list[Job]) -> list[SourceTask]:
    """The source tasks with their teachers, the trained prompts of the pack's candidates, as they stand."""
    seed = job.pack.seeds[0]
    teachers = candidate_prompts(job).prompt.detach().split(1)
    return [
        SourceTask(
            task.train,
            BatchOrder(task.train.lengths, task.train_rows(seed)[None], [seed], task.settings.batch_size),
            teacher,
        )
        for task, teacher in zip(jobs, teachers, strict=True)
    ]


def mean_validation(jobs: list[Job]) -> Validate:
    """The mean over the source tasks of their first metric, each with its own prompt [ours]."""
    tasks = [validation(job) for job in jobs]

    def validate(prompts: SharedPrompt, alive: list[int]) -> np.ndarray:
        scores = [scores_of(partial(prompts.of_task, task), alive) for task, scores_of in enumerate(tasks)]
        return np.mean(scores, axis=0)

    return validate


def _write(
    job: Job, jobs: list[Job], prompts: SharedPrompt, runs: list[Run], results: list[RunResult], costs: dict[str, float]
) -> None:
    """Keep the run with the best validation score: its best checkpoint is what target tasks start from."""
    pack = job.pack
    best = max(range(len(runs)), key=lambda run: results[run].best_score)
    if results[best].best_tensors:
        prompts.load_tensors(best, results[best].best_tensors)
    tensors = prompts.target_tensors(best)
    save_prompt(pack.source_prompt, tensors, prompts.collapse(best), prompt_metadata(job, runs[best].seed))
    record = {
        **record_head(pack, job.config.backbone.name),
        "source": pack.title,
        "learning_rates": runs[best].learning_rates,
        "trained_parameters": prompts.trained_parameters,
        "stored_parameters": sum(tensor.numel() for tensor in tensors.values()),
        "data_fingerprints": {
            job.task.name: {"train": job.train.fingerprint, "validation": job.validation.fingerprint} for job in jobs
        },
        **job.conditions(),
        **costs,
        "runs": [
            run_record(run, result, number == best)
            for number, (run, result) in enumerate(zip(runs, results, strict=True))
        ],
    }
    write_settings(pack, record)
    write_json(pack.folder / "runs.json", record)
