"""Paired tests between EPT and every other method, in every regime, per task and over tasks."""

import itertools

from ept.methods.registry import METHODS, SUBJECT
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.results.records import PackResult, collect
from ept.results.render import Cell, Layout, signed
from ept.results.statistics import (
    LEVEL,
    Sample,
    averaged_tasks,
    estimate,
    group,
    holm,
    metric_sample,
    paired_difference,
)
from ept.results.tables.scores import column_order, column_title
from ept.tasks.registry import get_task

NOTES = (
    "EPT minus the other method in points, paired by seed and test example.",
    f"Bold: a paired test over seeds and test examples finds a difference (p < {LEVEL} after Holm's correction over "
    "all tests of the regime, single tasks and averages apart).",
)
# What every pack of a group shares: method and start.
Contestant = tuple[str, str]


def make_table(_: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
    """A row a comparison, task and average, and comparisons as rows below tasks as columns."""
    rows = significance_rows(collect(packs))
    layout = significance_layout(rows)
    # Small p values need more places than scores.
    return [row | {name: f"{row[name]:.3g}" for name in ("p", "p_corrected")} for row in rows], layout


def significance_rows(results: list[PackResult]) -> list[dict]:
    """EPT (`method_a`) against others (`method_b`) on the first metric of each task, and on the averages.

    p values are corrected within a regime, those of single tasks and those of averages apart: averages repeat what the
    tasks have shown.
    """
    rows = []
    for regime, groups in itertools.groupby(group(results), key=lambda members: members[0].pack.regime):
        members = {(part[0].pack.method, part[0].start): part for part in groups}
        samples = {contestant: _samples(part) for contestant, part in members.items()}
        found = []
        for first, second in pairs(list(members)):
            for task, metric, tasks in _columns(samples[first]):
                a, b = ([samples[contestant][name] for name in tasks] for contestant in (first, second))
                backbone = members[first][0].record["backbone"]
                found.append(
                    {"backbone": backbone, "regime": regime, "task": task, "metric": metric}
                    | dict(zip(("method_a", "start_a", "method_b", "start_b"), first + second, strict=True))
                    | _test(a, b)
                )
        for is_average in (False, True):
            family = [row for row in found if (row["metric"] == "average") == is_average]
            for row, corrected in zip(family, holm([row["p"] for row in family]), strict=True):
                row["p_corrected"] = float(corrected)
        rows += found
    return rows


def pairs(contestants: list[Contestant]) -> list[tuple[Contestant, Contestant]]:
    """What is compared: EPT with every other method from the same start, or from the only one that the method has;
    and EPT from a source with EPT from scratch.
    """
    starts: dict[str, list[str]] = {}
    for method, start in contestants:
        starts.setdefault(method, []).append(start)
    found = []
    for start in starts[SUBJECT]:
        for method, theirs in starts.items():
            if method != SUBJECT:
                found += [((SUBJECT, start), (method, other)) for other in theirs if other == start or len(theirs) == 1]
    if len(starts[SUBJECT]) > 1:
        found.append(((SUBJECT, "source"), (SUBJECT, "scratch")))
    return found


def _samples(members: list[PackResult]) -> dict[str, Sample]:
    """Of the first metric, by task."""
    return {result.pack.task: metric_sample(result, get_task(result.pack.task).metrics[0]) for result in members}


def _columns(samples: dict[str, Sample]) -> list[tuple[str, str, list[str]]]:
    """Each task and each average over several with its metric and the tasks in it.

    The average over one task would be the same test again, in another family.
    """
    single = [(task, get_task(task).metrics[0], [task]) for task in samples]
    averages = averaged_tasks(samples).items()
    return single + [(name, "average", tasks) for name, tasks in averages if len(tasks) > 1]


def _test(a: list[Sample], b: list[Sample]) -> dict:
    difference = paired_difference(a, b)
    low, high = difference.interval
    return {
        "mean_a": estimate(a).mean,
        "mean_b": estimate(b).mean,
        "difference": difference.mean,
        "ci_low": low,
        "ci_high": high,
        "p": difference.p,
        "seeds": len(a[0].scores),
    }


def significance_layout(rows: list[dict]) -> Layout:
    """A line a comparison, differences that a test finds in bold."""
    columns = sorted(dict.fromkeys((row["task"], row["metric"]) for row in rows), key=column_order)
    lines: dict[tuple[str, str], dict] = {}
    for row in rows:
        line = lines.setdefault((row["regime"], _title(row)), {})
        line[row["task"], row["metric"]] = Cell(signed(row["difference"]), bold=row["p_corrected"] < LEVEL)
    return Layout(
        head=["regime", "comparison", *(column_title(*column) for column in columns)],
        lines=[
            [Cell(regime), Cell(title), *(line.get(column, Cell()) for column in columns)]
            for (regime, title), line in lines.items()
        ],
        notes=NOTES,
    )


def _title(row: dict) -> str:
    a, b = ((METHODS[row[f"method_{side}"]].title, row[f"start_{side}"]) for side in "ab")
    return f"{a[0]} from {a[1]} − {b[0]} from {b[1]}"
