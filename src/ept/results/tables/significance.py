"""Paired tests: EPT against every other method in every regime, and against its own variants."""

import dataclasses
import itertools
import math

from ept.config.variants import PARTS_LEFT_OUT, WHOLE
from ept.methods.registry import METHODS, PRIMARY_RIVALS, SUBJECT
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.results.records import PackResult, collect
from ept.results.render import Cell, Layout, p_text, signed
from ept.results.statistics import (
    AVERAGE,
    LEAST_SEEDS,
    LEVEL,
    Sample,
    distinct_averages,
    estimate,
    group,
    holm,
    metric_sample,
    paired_difference,
    tested_p,
)
from ept.results.tables.scores import column_order, column_title, row_title, table_notes
from ept.results.tables.scores import make_table as make_scores_table

PRIMARY, EXPLORATORY = "primary", "exploratory"
PRIMARY_SIGN = "§"
NOTES = (
    f"{METHODS[SUBJECT].title} minus the other method in points, with its 95 % interval and the corrected p value, "
    "paired by seed and test example. Methods with different seeds are compared on the seeds that both have.",
    f"Bold: p < {LEVEL} after Holm's correction within its family. Both families are those of one regime.",
    f"{PRIMARY_SIGN} Primary family, named beforehand: {METHODS[SUBJECT].title} against "
    f"{', '.join(METHODS[name].title for name in PRIMARY_RIVALS)} on the average over all tasks.",
    f"All other tests ({METHODS[SUBJECT].title} against every other row, on every task and average) are one family, "
    "which is exploratory.",
    "Intervals and p values are about the methods: they allow for seeds and test examples. The columns p_prompts and "
    "p_prompts_corrected of the CSV file are about these trained prompts alone: they allow for test examples only.",
)
UNTESTED_NOTE = (
    f"With fewer than {LEAST_SEEDS} seeds in common no corrected p value is given: what differs between seeds cannot "
    "be estimated."
)
ABLATION_NOTE = (
    f"Last column: {METHODS[SUBJECT].title} minus the variant on the average over all tasks, in points, with its 95 % "
    f"interval and p value, paired by seed and test example; bold: p < {LEVEL}. Holm-corrected: the variants without a "
    "part are one family, named beforehand, and all others another one, which is exploratory."
)
# What every pack of a group shares: method and start.
Contestant = tuple[str, str]


def make_table(_: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
    """One row a comparison and task or average; readers get comparisons as rows and tasks as columns."""
    results = collect(packs)
    rows = significance_rows(results)
    layout = significance_layout(rows, table_notes(results))
    # Small p values need more places than scores.
    p_columns = ("p", "p_corrected", "p_prompts", "p_prompts_corrected")
    return [row | {name: _printed(row[name]) for name in p_columns} for row in rows], layout


def _printed(p: float) -> str:
    return "" if p != p else f"{p:.3g}"


def significance_rows(results: list[PackResult]) -> list[dict]:
    """Compare EPT (`method_a`) with others (`method_b`) on the first metric of each task, and on the averages.

    p values are corrected within a regime by `family`: the primary tests, and all others.
    """
    rows = []
    for regime, groups in itertools.groupby(group(results), key=lambda members: members[0].pack.regime):
        members = {(part[0].pack.method, part[0].start): part for part in groups}
        samples = {contestant: _samples(part) for contestant, part in members.items()}
        metrics = {result.pack.task: result.pack.record.metrics[0] for part in members.values() for result in part}
        found: list[dict] = []
        for first, second in pairs(list(members)):
            for task, metric, tasks in _columns(samples[first], metrics):
                a, b = ([samples[contestant][name] for name in tasks] for contestant in (first, second))
                backbone = members[first][0].record["backbone"]
                found.append(
                    {"backbone": backbone, "regime": regime, "task": task, "metric": metric}
                    | dict(zip(("method_a", "start_a", "method_b", "start_b"), first + second, strict=True))
                    | _test(a, b)
                )
        for row in found:
            primary = row["method_b"] in PRIMARY_RIVALS and row["task"] == "average"
            row["family"] = PRIMARY if primary else EXPLORATORY
        for family in (PRIMARY, EXPLORATORY):
            _correct([row for row in found if row["family"] == family])
        rows += found
    return rows


def _correct(family: list[dict]) -> None:
    """Set the corrected p values of a family of tests, of those with enough seeds."""
    for name in ("p", "p_prompts"):
        given = [row[name] if row["seeds"] >= LEAST_SEEDS else math.nan for row in family]
        for row, p in zip(family, holm(given), strict=True):
            row[f"{name}_corrected"] = float(p)


def pairs(contestants: list[Contestant]) -> list[tuple[Contestant, Contestant]]:
    """What is compared.

    EPT with every other method from the same start, or from the only one that the method has; and EPT from a source
    with EPT from scratch.
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
    """The sample of the first metric by task."""
    return {result.pack.task: metric_sample(result, result.pack.record.metrics[0]) for result in members}


def _columns(samples: dict[str, Sample], metrics: dict[str, str]) -> list[tuple[str, str, list[str]]]:
    """Each task and each average with its metric and its tasks; an average that repeats another column is left out.

    `metrics` are the first metrics by task.
    """
    single = [(task, metrics[task], [task]) for task in samples]
    return single + [(name, "average", tasks) for name, tasks in distinct_averages(samples).items()]


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
        "p_prompts": paired_difference(a, b, examples_alone=True).p,
        "seeds": difference.seeds,
    }


def make_ablation_table(experiment: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
    """The scores of EPT and its variants, and what EPT has more than each variant.

    Every row but those of EPT's own training also has `difference`, `difference_low`, `difference_high` and
    `p_corrected`. Readers get those of the average over all tasks.
    """
    rows, layout = make_scores_table(experiment, packs)
    columns: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        columns.setdefault((row["task"], row["metric"]), []).append(row)
    for members in columns.values():
        _subtract_from_ept(members)
    cells = {
        row_title(row): _difference(
            row["difference"], (row["difference_low"], row["difference_high"]), row["p_corrected"]
        )
        for row in rows
        if row["task"] == AVERAGE and "difference" in row
    }
    return rows, dataclasses.replace(
        layout,
        head=[*layout.head, f"{METHODS[SUBJECT].title} − variant"],
        groups=[*layout.groups, ""],
        lines=[[*line, cells.get(line[0].text, Cell())] for line in layout.lines],
        notes=[*layout.notes, ABLATION_NOTE],
    )


def _subtract_from_ept(column: list[dict]) -> None:
    """Add EPT minus each variant to the rows of one task and metric.

    p values are corrected for the trainings without a part of EPT, and for all others.
    """
    (whole,) = (row for row in column if row["variant"] == WHOLE)
    others = {row["trainings"]: row["samples"] for row in column if row["trainings"] != whole["trainings"]}
    found = {trainings: paired_difference(whole["samples"], samples) for trainings, samples in others.items()}
    left_out = {row["trainings"] for row in column if row["variant"] in PARTS_LEFT_OUT}
    corrected: dict[tuple, float] = {}
    for family in (found.keys() & left_out, found.keys() - left_out):
        members = sorted(family)
        corrected |= zip(members, holm([tested_p(found[trainings]) for trainings in members]), strict=True)
    for row in column:
        if (trainings := row["trainings"]) in found:
            low, high = found[trainings].interval
            row |= {
                "difference": found[trainings].mean,
                "difference_low": low,
                "difference_high": high,
                "p_corrected": float(corrected[trainings]),
            }


def significance_layout(rows: list[dict], notes: list[str]) -> Layout:
    """A line a comparison, differences that a test finds in bold."""
    columns = sorted(dict.fromkeys((row["task"], row["metric"]) for row in rows), key=column_order)
    lines: dict[tuple[str, str], dict] = {}
    for row in rows:
        lines.setdefault((row["regime"], _title(row)), {})[row["task"], row["metric"]] = _cell(row)
    untested = any(row["p_corrected"] != row["p_corrected"] for row in rows)
    return Layout(
        head=["regime", "comparison", *(column_title(*column) for column in columns)],
        lines=[
            [Cell(regime), Cell(title), *(line.get(column, Cell()) for column in columns)]
            for (regime, title), line in lines.items()
        ],
        notes=[*NOTES, *[UNTESTED_NOTE] * untested, *notes],
    )


def _cell(row: dict) -> Cell:
    signs = PRIMARY_SIGN * (row["family"] == PRIMARY)
    return _difference(row["difference"], (row["ci_low"], row["ci_high"]), row["p_corrected"], signs)


def _difference(points: float, interval: tuple[float, float], p: float, signs: str = "") -> Cell:
    """A difference in points with its interval, and its p value where there is one; in bold where a test finds it."""
    low, high = interval
    text = f"{signed(points)} ({signed(low)} to {signed(high)})"
    if found := p_text(p):
        text += f", p {found}" if found.startswith("<") else f", p = {found}"
    return Cell(text, bold=p < LEVEL, signs=signs)


def _title(row: dict) -> str:
    a, b = ((METHODS[row[f"method_{side}"]].title, row[f"start_{side}"]) for side in "ab")
    return f"{a[0]} from {a[1]} − {b[0]} from {b[1]}"
