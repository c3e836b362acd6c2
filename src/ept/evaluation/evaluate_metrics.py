"""The tasks' metrics as modules of Hugging Face `evaluate`, which need no hub (HF_HUB_OFFLINE=1).

In a module of its own because importing `evaluate` takes seconds: training calls ept.evaluation.metrics.
"""

import datasets
import evaluate
import numpy as np

from ept.evaluation import metrics
from ept.tasks.record import Task


def task_metric(task: Task) -> evaluate.Metric:
    """The metrics of `task` as one `evaluate.Metric`.

    `.compute(predictions=..., references=...)` gives {metric: percent}, and `.add_batch(...)` works as
    everywhere. A prediction is a class index (-1: no label), a score, or a text; a reference is a class
    index, a score, or the list of all gold answers. Exact match per question (MultiRC) wants `groups` too:
    the question of each row.
    """
    return {"classification": ClassMetric, "regression": ScoreMetric, "extraction": AnswerMetric}[task.kind](task)


class _TaskMetric(evaluate.Metric):
    """Common part: subclasses say what predictions and references are."""

    prediction_type: object
    reference_type: object

    def __init__(self, task: Task):
        self.task = task
        # In memory: nothing is written below ~/.cache, and no lock is needed.
        super().__init__(config_name=task.name, keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": self.prediction_type, "references": self.reference_type}
        if self.needs_groups:
            features["groups"] = datasets.Value("string")
        return evaluate.MetricInfo(
            description=f"{self.task.title}: {', '.join(self.task.metrics)} in percent",
            citation="",
            inputs_description=task_metric.__doc__,
            features=datasets.Features(features),
        )

    @property
    def needs_groups(self) -> bool:
        return self.task.kind == "classification" and "exact_match" in self.task.metrics

    def _compute(self, predictions: list, references: list, groups: list[str] | None = None) -> dict[str, float]:
        extraction = self.task.kind == "extraction"
        truth = metrics.References(
            labels=np.full(len(references), np.nan) if extraction else np.asarray(references),
            groups=groups or [],
            answers=references if extraction else [],
        )
        found = np.array(predictions, dtype=object if extraction else None)
        return {name: metrics.compute(name, found, truth, self.task) for name in self.task.metrics}


class ClassMetric(_TaskMetric):
    """Class indices against class indices."""

    prediction_type = datasets.Value("int64")
    reference_type = datasets.Value("int64")


class ScoreMetric(_TaskMetric):
    """Scores against scores."""

    prediction_type = datasets.Value("float64")
    reference_type = datasets.Value("float64")


class AnswerMetric(_TaskMetric):
    """Texts against lists of gold answers."""

    prediction_type = datasets.Value("string")
    reference_type = datasets.Sequence(datasets.Value("string"))
