"""The samples behind a table's rows: which runs belong together, their metrics, and what is averaged."""

from collections.abc import Iterable

from ept.evaluation import metrics
from ept.results.collect import PackResult
from ept.results.intervals import Sample, resample
from ept.tasks import get_task

# The averages that papers print, over the first metric of each task: suites by name, None for all tasks.
AVERAGES = {"average_glue": "glue", "average_super_glue": "super_glue", "average": None}


def group(results: list[PackResult]) -> list[list[PackResult]]:
    """The packs of one regime, method, variant and start together, in their order: the tasks of a row for readers."""
    found: dict[tuple, list[PackResult]] = {}
    for result in results:
        pack = result.pack
        found.setdefault((pack.regime, pack.method, pack.variant.name, result.start), []).append(result)
    return list(found.values())


def metric_sample(result: PackResult, metric: str) -> Sample:
    """The sample of one metric of a pack."""
    predictions = list(result.predictions.values())
    return resample(
        metrics.scorer(metric, predictions, result.truth, get_task(result.pack.task)),
        len(predictions),
        metrics.clusters(result.truth),
        share=metric in metrics.SHARES,
    )


def averaged_tasks(tasks: Iterable[str]) -> dict[str, list[str]]:
    """The tasks behind each average; an average without tasks is left out."""
    tasks = list(tasks)
    found = {
        name: [task for task in tasks if suite in (None, get_task(task).suite)] for name, suite in AVERAGES.items()
    }
    return {name: members for name, members in found.items() if members}
