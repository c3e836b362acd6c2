"""The table zero_shot: what the backbone answers without any prompt, in the columns of the other tables."""

import numpy as np
import torch

from ept.config.settings import FULL
from ept.evaluation import metrics
from ept.evaluation.score import Answers, majority_predictions, predict_split, references, score
from ept.methods.prompt import PromptOutput
from ept.methods.registry import REFERENCE
from ept.plan.experiment import Experiment
from ept.results.statistics import resample
from ept.results.tables.registry import SCORES_COLUMNS
from ept.results.tables.scores import estimate_columns, scores_layout
from ept.results.write import write_forms
from ept.training.job import Job, load_jobs

ZERO_SHOT = "zero_shot"


def write_zero_shot(experiment: Experiment, threads: int) -> None:
    """Write the table in all its forms: the likeliest label of every test row, by its pieces without the end piece.

    No example is seen and nothing is chosen. The tasks must be tokenized.
    """
    # Any pack of a task has its data; its method plays no part.
    packs = tuple(experiment.pack(REFERENCE, task, FULL, "scratch") for task in experiment.config.tasks.target)
    rows = [row for job in load_jobs(experiment, packs, threads) for row in _rows(job)]
    write_forms(experiment.config.output, ZERO_SHOT, SCORES_COLUMNS, rows, scores_layout(rows))


def zero_shot_predictions(job: Job) -> np.ndarray:
    """The likeliest label of every test row, [rows]."""
    nothing = PromptOutput(torch.zeros(1, 0, job.backbone.hidden_size, device=job.backbone.device), None)
    answers = Answers(job.task, job.answers.pieces, closed=True)
    return predict_split(job.backbone, nothing, job.test, np.arange(len(job.test)), answers, job.size.positions)[0]


def _rows(job: Job) -> list[dict]:
    """One row a metric."""
    test = np.arange(len(job.test))
    found, truth = zero_shot_predictions(job), references(job.test, test, job.task)
    majority = score(job.task, majority_predictions(job.task, job.train, len(test)), truth)
    rows = []
    for metric in job.task.metrics:
        scorer = metrics.scorer(metric, [found], truth, job.task)
        sample = resample(scorer, 1, metrics.clusters(truth), share=metric in metrics.SHARES)
        rows.append(
            {
                "backbone": job.config.backbone.name,
                "method": ZERO_SHOT,
                "variant": "zero-shot",
                "task": job.task.name,
                "regime": ZERO_SHOT,
                "source": "scratch",
                "metric": metric,
                **estimate_columns([sample]),
                "seeds": 1,
                "trained_parameters": 0,
                "stored_parameters": 0,
                "majority_baseline": majority[metric],
                "diverged": 0,
            }
        )
    return rows
