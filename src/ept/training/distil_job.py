"""The job of MPT's source training: load teachers and data, distil, write the shared prompt and the record."""

import time
from dataclasses import replace
from importlib.metadata import version

from ept.experiment import Experiment, Pack
from ept.files import write_json
from ept.prompts.multitask import SharedPrompt
from ept.prompts.save import save_prompt
from ept.training.distil import SourceTask, distil
from ept.training.load import Job, load_jobs, runs_of
from ept.training.loop import Run, RunResult
from ept.training.progress import Progress
from ept.training.settings import steps_for
from ept.training.start import build_prompts, candidate_prompts


def distil_job(experiment: Experiment, pack: Pack, threads: int) -> None:
    """Train the `multitask` pack on `threads` CPU threads; write the prompt, settings.json and, last, runs.json."""
    started = time.perf_counter()
    jobs = load_jobs(experiment, pack.candidates, threads)
    # Backbone and settings are those of the source tasks; the first one lends its labels where prompts start from them.
    job = replace(jobs[0], pack=pack)
    runs = runs_of(pack)
    prompts = SharedPrompt(build_prompts(job, [run.seed for run in runs], "pt"), len(jobs))
    teachers = candidate_prompts(job).prompt.detach().split(1)
    tasks = [SourceTask.of(job, teacher, job.settings.batch_size) for job, teacher in zip(jobs, teachers, strict=True)]
    steps = steps_for(job.settings, sum(job.train.metadata["rows_published_train"] for job in jobs))
    progress = Progress(f"{pack.method} source training on {pack.title}", steps)
    weight = job.config.mpt.distillation_weight
    results, seconds = distil(job.backbone, prompts, runs, tasks, steps, job.settings, weight, progress)
    costs = {"train_seconds": seconds, "wall_seconds": time.perf_counter() - started}
    _write(job, jobs, prompts, runs, results, costs)


def _write(
    job: Job, jobs: list[Job], prompts: SharedPrompt, runs: list[Run], results: list[RunResult], costs: dict[str, float]
) -> None:
    """Keep the run with the best validation score: its best checkpoint is what target tasks start from."""
    pack = job.pack
    best = max(range(len(runs)), key=lambda index: results[index].best_score)
    if results[best].best_tensors:
        prompts.load_tensors(best, results[best].best_tensors)
    tensors = prompts.target_tensors(best)
    metadata = {
        "backbone": job.config.backbone.public_name,
        "method": pack.method,
        "task": pack.title,
        "hash": pack.hash,
        "seed": runs[best].seed,
    }
    save_prompt(pack.source_prompt, tensors, prompts.collapse(best), metadata)
    for folder in (pack.prompts, pack.folder):
        write_json(folder / "settings.json", {"hash": pack.hash, "settings": pack.settings})
    record = {
        "hash": pack.hash,
        "backbone": job.config.backbone.name,
        "method": pack.method,
        "task": pack.task,
        "regime": pack.regime,
        "source": pack.title,
        "learning_rates": runs[best].learning_rates,
        "trained_parameters": prompts.trained_parameters,
        "stored_parameters": sum(tensor.numel() for tensor in tensors.values()),
        "data_fingerprints": {
            job.pack.task: {"train": job.train.fingerprint, "validation": job.validation.fingerprint} for job in jobs
        },
        "dtype": str(job.backbone.dtype).removeprefix("torch."),
        "threads": job.threads,
        "versions": {name: version(name) for name in ("ept", "torch", "transformers", "numpy")},
        **costs,
        "runs": [
            {
                "seed": run.seed,
                "learning_rates": run.learning_rates,
                "selected": index == best,
                "status": result.status,
                "steps": result.steps,
                "best_step": result.best_step,
                "best_validation": result.best_score if result.validation_curve else None,
                "validation_curve": result.validation_curve,
                "diagnostics": result.diagnostics,
            }
            for index, (run, result) in enumerate(zip(runs, results, strict=True))
        ],
    }
    write_json(pack.folder / "runs.json", record)
