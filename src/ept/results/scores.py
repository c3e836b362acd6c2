"""Scores of methods and of variants of EPT: rows with intervals, and averages over tasks."""

import itertools

import numpy as np

from ept.evaluation import metrics
from ept.experiment import Experiment
from ept.pack import Pack
from ept.results.collect import PackResult, collect
from ept.results.intervals import Estimate, estimate, estimate_average
from ept.results.layout import Layout
from ept.results.scores_layout import scores_layout
from ept.tasks import get_task

# The averages that papers print, over the first metric of each task.
AVERAGES = {"average_glue": "glue", "average_super_glue": "super_glue", "average": None}


def make_table(_: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
    """The rows of the main table, of a few-shot one or of the ablations, and the papers' form."""
    rows = table_rows(collect(packs))
    return rows, scores_layout(rows)


def table_rows(results: list[PackResult]) -> list[dict]:
    """One row a method, variant, start, task and metric, then the averages over tasks. Scores in percent.

    Beside its columns a row holds `variant`, its name in the table `ablation`, and `diverged`, the number of its runs
    that count as the majority baseline; tables made for reading mark it.
    """
    rows = []
    for _, group in itertools.groupby(results, key=_row_key):
        members = list(group)
        estimates = [_estimates(result) for result in members]
        for result, by_metric in zip(members, estimates, strict=True):
            rows += [_row(result, metric, found) for metric, found in by_metric.items()]
        rows += _average_rows(members, [next(iter(by_metric.values())) for by_metric in estimates])
    return rows


def _row_key(result: PackResult) -> tuple[str, str, str]:
    return result.pack.method, result.pack.variant.name, result.start


def _estimates(result: PackResult) -> dict[str, Estimate]:
    task = get_task(result.pack.task)
    predictions = list(result.predictions.values())
    return {
        name: estimate(
            metrics.scorer(name, predictions, result.truth, task), len(predictions), metrics.clusters(result.truth)
        )
        for name in task.metrics
    }


def _row(result: PackResult, metric: str, found: Estimate) -> dict:
    record = result.record
    return {
        **_common(result, found),
        "task": result.pack.task,
        "source": record["source"],
        "metric": metric,
        "diverged": result.diverged,
        "majority_baseline": record["majority_baseline"][metric],
    }


def _common(result: PackResult, found: Estimate) -> dict:
    return {
        "backbone": result.record["backbone"],
        "method": result.pack.method,
        "variant": result.pack.variant.name,
        "regime": result.pack.regime,
        "mean": found.mean,
        "std": found.std,
        "seeds": len(result.pack.seeds),
        "ci_low": found.mean - found.half_width,
        "ci_high": found.mean + found.half_width,
        "trained_parameters": result.record["trained_parameters"],
        "stored_parameters": result.record["stored_parameters"],
    }


def _average_rows(results: list[PackResult], estimates: list[Estimate]) -> list[dict]:
    """Averages over the tasks of GLUE, of SuperGLUE and of both, where there are any."""
    rows = []
    for name, suite in AVERAGES.items():
        chosen = [i for i, result in enumerate(results) if suite in (None, get_task(result.pack.task).suite)]
        if not chosen:
            continue
        firsts = [get_task(results[i].pack.task).metrics[0] for i in chosen]
        scores = np.array([_seed_scores(results[i], metric) for i, metric in zip(chosen, firsts, strict=True)])
        baselines = [results[i].record["majority_baseline"][metric] for i, metric in zip(chosen, firsts, strict=True)]
        found = estimate_average([estimates[i] for i in chosen], scores)
        rows.append(
            {
                **_common(results[chosen[0]], found),
                "task": name,
                "source": results[0].start,
                "metric": "average",
                "diverged": sum(results[i].diverged for i in chosen),
                "majority_baseline": float(np.mean(baselines)),
                "trained_parameters": max(results[i].record["trained_parameters"] for i in chosen),
                "stored_parameters": max(results[i].record["stored_parameters"] for i in chosen),
            }
        )
    return rows


def _seed_scores(result: PackResult, metric: str) -> list[float]:
    return [run["test"][metric] for run in result.record["runs"] if run["selected"]]
