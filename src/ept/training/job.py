"""One job: train a pack, choose its learning rates on validation, report on test, write everything down."""

import time

import numpy as np
import torch

from ept.evaluation.split import predict_split, references, score
from ept.experiment import Experiment, Pack
from ept.prompts.base import PromptPack
from ept.training.load import load_job, runs_of
from ept.training.loop import train_pack
from ept.training.progress import Progress
from ept.training.report import write_results
from ept.training.settings import steps_for
from ept.training.start import starting_prompts


def train_job(experiment: Experiment, pack: Pack, threads: int) -> None:
    """Train `pack` on `threads` CPU threads; write prompts, predictions.parquet, settings.json and, last, runs.json."""
    started = time.perf_counter()
    job = load_job(experiment, pack, threads)
    runs = runs_of(pack)
    prompts, source_losses = starting_prompts(job, [run.seed for run in runs])
    rows = np.stack([job.train_rows(run.seed) for run in runs])
    validation_rows = job.validation_rows()
    truth = references(job.validation, validation_rows, job.task)
    steps = steps_for(job.settings, job.train.metadata["rows_published_train"])

    def validate(current: PromptPack) -> np.ndarray:
        with torch.inference_mode():
            output = current()
        predictions = predict_split(job.backbone, output, job.validation, validation_rows, job.answers)
        return np.array([score(job.task, prediction, truth)[job.task.metrics[0]] for prediction in predictions])

    progress = Progress(f"{pack.method} {pack.task} {pack.regime} from {pack.initialise_from}", steps)
    results, seconds = train_pack(job.backbone, prompts, runs, job.train, rows, steps, job.settings, validate, progress)
    costs = {
        "train_seconds": seconds,
        "wall_seconds": time.perf_counter() - started,
        "examples_per_second": sum(result.steps for result in results)
        * min(job.settings.batch_size, rows.shape[1])
        / seconds,
    }
    write_results(job, prompts, runs, results, source_losses, costs)
