"""Scores of methods and of variants of EPT: rows with intervals, and averages over tasks."""

from collections.abc import Sequence

import numpy as np

from ept.experiment import Experiment
from ept.pack import Pack
from ept.results.collect import PackResult, collect
from ept.results.intervals import Sample, estimate
from ept.results.layout import Layout
from ept.results.paired import mark_not_separated
from ept.results.samples import averaged_tasks, group, metric_sample
from ept.results.scores_layout import scores_layout
from ept.tasks import get_task


def make_table(_: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
    """The rows of the main table, of a few-shot one or of the ablations, and the papers' form."""
    rows = table_rows(collect(packs))
    mark_not_separated(rows)
    return rows, scores_layout(rows)


def table_rows(results: list[PackResult]) -> list[dict]:
    """One row a method, variant, start, task and metric, then the averages over tasks. Scores in percent.

    Beside its columns a row holds `variant`, its name in the table `ablation`; `diverged`, the number of its runs that
    count as the majority baseline; `samples`, from which it is estimated, and `trainings`, the hashes of their packs,
    one a task.
    """
    rows = []
    for members in group(results):
        firsts: dict[str, Sample] = {}
        for result in members:
            task = result.pack.task
            for metric in get_task(task).metrics:
                sample = metric_sample(result, metric)
                firsts.setdefault(task, sample)
                rows.append(_row(result, metric, sample))
        by_task = {result.pack.task: result for result in members}
        for name, tasks in averaged_tasks(by_task).items():
            rows.append(_average_row(name, [by_task[task] for task in tasks], [firsts[task] for task in tasks]))
    return rows


def _row(result: PackResult, metric: str, sample: Sample) -> dict:
    record = result.record
    return {
        **_common([result], [sample]),
        "task": result.pack.task,
        "source": record["source"],
        "metric": metric,
        "diverged": result.diverged,
        "majority_baseline": record["majority_baseline"][metric],
    }


def _average_row(name: str, results: list[PackResult], samples: list[Sample]) -> dict:
    """The average over the first metrics of the tasks of GLUE, of SuperGLUE or of both."""
    records = [result.record for result in results]
    firsts = [get_task(result.pack.task).metrics[0] for result in results]
    baselines = [record["majority_baseline"][metric] for record, metric in zip(records, firsts, strict=True)]
    return {
        **_common(results, samples),
        "task": name,
        "source": results[0].start,
        "metric": "average",
        "diverged": sum(result.diverged for result in results),
        "majority_baseline": float(np.mean(baselines)),
        "trained_parameters": max(record["trained_parameters"] for record in records),
        "stored_parameters": max(record["stored_parameters"] for record in records),
    }


def _common(results: Sequence[PackResult], samples: Sequence[Sample]) -> dict:
    result = results[0]
    return {
        "backbone": result.record["backbone"],
        "method": result.pack.method,
        "variant": result.pack.variant.name,
        "regime": result.pack.regime,
        **estimate_columns(samples),
        "seeds": len(result.pack.seeds),
        "trained_parameters": result.record["trained_parameters"],
        "stored_parameters": result.record["stored_parameters"],
        "samples": samples,
        "trainings": tuple(result.pack.hash for result in results),
    }


def estimate_columns(samples: Sequence[Sample]) -> dict[str, float]:
    """Mean, spread over seeds and interval of the average of samples, one a task."""
    found = estimate(samples)
    low, high = found.interval
    return {"mean": found.mean, "std": found.std, "ci_low": low, "ci_high": high}
