"""The table zero_shot: what the backbone answers without any prompt, in the columns of the other tables."""

import math

import numpy as np
import torch

from ept.config.settings import FULL
from ept.evaluation.score import Predictions, constant_predictions, predict_split_both, references, score
from ept.methods.prompt import PromptOutput
from ept.methods.registry import REFERENCE
from ept.plan.experiment import Experiment
from ept.plan.tables import ZERO_SHOT
from ept.results.statistics import sample_predictions
from ept.results.tables.registry import SCORES_COLUMNS
from ept.results.tables.scores import estimate_columns, scores_layout
from ept.results.write import write_forms, write_table_settings
from ept.training.job import Job, load_jobs


def write_zero_shot(experiment: Experiment, threads: int) -> None:
    """Write the table in all its forms: the likeliest label of every test row.

    The scores by free generation are in the CSV file too (`open_mean`). No example is seen and nothing is chosen. The
    tasks must be tokenized.
    """
    # Any pack of a task has its data; its method plays no part.
    packs = tuple(experiment.pack(REFERENCE, task, FULL, "scratch") for task in experiment.config.tasks.target)
    rows = [row for job in load_jobs(experiment, packs, threads) for row in _rows(job)]
    files = write_forms(experiment.config.output, ZERO_SHOT, SCORES_COLUMNS, rows, scores_layout(rows))
    write_table_settings(experiment, ZERO_SHOT, files)


def zero_shot_predictions(job: Job) -> Predictions:
    """What the backbone answers for every test row without a prompt, by both rules, [1, rows]."""
    nothing = PromptOutput(
        torch.zeros(1, 0, job.backbone.hidden_size, device=job.backbone.device), None, job.projections([0]), job.images
    )
    rows = np.arange(len(job.test))
    return predict_split_both(job.backbone, nothing, job.test, rows, job.answers, job.size.positions)


def _rows(job: Job) -> list[dict]:
    """One row a metric."""
    found, truth = zero_shot_predictions(job), references(job.test, np.arange(len(job.test)), job.task)
    answers = found.open[0] if found.closed is None else found.closed[0]
    majority = score(job.task, constant_predictions(job.majority, len(answers)), truth)
    opened = score(job.task, found.open[0], truth)
    closed = {} if found.closed is None else score(job.task, answers, truth)
    (invalid,) = found.invalid_shares() or [math.nan]
    rows = []
    for metric in job.task.metrics:
        sample = sample_predictions(metric, {0: answers}, truth, job.task)
        rows.append(
            {
                "backbone": job.config.backbone.name,
                "method": ZERO_SHOT,
                "variant": "zero-shot",
                "task": job.task.name,
                "tasks": (job.task.name,),
                "regime": ZERO_SHOT,
                "source": "scratch",
                "metric": metric,
                **estimate_columns([sample]),
                "seeds": 1,
                "trained_parameters": 0,
                "stored_parameters": 0,
                "majority_baseline": majority[metric],
                "combinations": 0,
                "validation_labels": 0,
                "open_mean": opened[metric],
                "closed_mean": closed.get(metric, math.nan),
                "invalid_share": 100.0 * invalid,
                "diverged_sources": 0,
                "diverged": 0,
            }
        )
    return rows
