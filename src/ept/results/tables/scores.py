"""Scores of methods and of variants of EPT: rows with intervals, and averages over tasks."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ept.methods.registry import METHODS, SUBJECT
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.results.records import PackResult, collect, software
from ept.results.render import MARKS, Cell, Layout
from ept.results.statistics import (
    AVERAGE,
    LEAST_SEEDS,
    LEVEL,
    Sample,
    average_of,
    averaged_tasks,
    distinct_averages,
    estimate,
    group,
    mark_not_separated,
    metric_sample,
    not_averaged,
)
from ept.tasks.registry import TASKS, suite_of, task_sets, title_of


def make_table(_: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
    """The rows of the main table, of a few-shot one or of the ablations, and the papers' form."""
    results = collect(packs)
    rows = table_rows(results)
    mark_not_separated(rows)
    return rows, scores_layout(rows, table_notes(results))


def table_rows(results: list[PackResult]) -> list[dict]:
    """One row a method, variant, start, task and metric, then the averages over tasks. Scores in percent.

    Besides its columns a row holds `variant`, its name in the table `ablation`; `diverged`, the number of its runs that
    count as the majority baseline; `tasks`, which it is estimated from; `samples`, one a task; and `trainings`, the
    hashes of their packs.
    """
    rows = []
    for members in group(results):
        firsts: dict[str, Sample] = {}
        for result in members:
            task = result.pack.task
            for metric in result.pack.record.metrics:
                sample = metric_sample(result, metric)
                firsts.setdefault(task, sample)
                rows.append(_row(result, metric, sample))
        by_task = {result.pack.task: result for result in members}
        for name, tasks in averaged_tasks(by_task).items():
            rows.append(_average_row(name, [by_task[task] for task in tasks], [firsts[task] for task in tasks]))
    return rows


def _row(result: PackResult, metric: str, sample: Sample) -> dict:
    return {
        **_common([result], [sample], [metric]),
        "task": result.pack.task,
        "source": result.record["source"],
        "metric": metric,
    }


def _average_row(name: str, results: list[PackResult], samples: list[Sample]) -> dict:
    """The average over the first metrics of the tasks of GLUE, of SuperGLUE or of both."""
    firsts = [result.pack.record.metrics[0] for result in results]
    return {
        **_common(results, samples, firsts),
        "task": name,
        "source": results[0].start,
        "metric": "average",
    }


def _common(results: Sequence[PackResult], samples: Sequence[Sample], metrics: Sequence[str]) -> dict:
    """What the rows of tasks and of averages have alike; `metrics` has one a task."""
    first, records = results[0], [result.record for result in results]
    each = list(zip(results, metrics, strict=True))
    return {
        "backbone": first.record["backbone"],
        "method": first.pack.method,
        "variant": first.pack.variant.name,
        "regime": first.pack.regime,
        **estimate_columns(samples),
        "seeds": len(first.pack.seeds),
        "trained_parameters": max(record["trained_parameters"] for record in records),
        "stored_parameters": max(record["stored_parameters"] for record in records),
        "majority_baseline": _mean(
            record["majority_baseline"][name] for record, name in zip(records, metrics, strict=True)
        ),
        "combinations": max(result.combinations for result in results),
        "validation_labels": sum(record["validation_labels"] for record in records),
        "open_mean": _mean(result.mean_score("test_open", metric) for result, metric in each),
        "closed_mean": _mean(result.mean_score("test_closed", metric) for result, metric in each),
        "invalid_share": _mean(result.invalid_share for result in results),
        "diverged_sources": sum(len(record["diverged_sources"]) for record in records),
        "diverged": sum(result.diverged for result in results),
        "tasks": tuple(result.pack.task for result in results),
        "samples": samples,
        "trainings": tuple(result.pack.hash for result in results),
    }


def _mean(values: Iterable[float]) -> float:
    """The mean of the values that are known; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def estimate_columns(samples: Sequence[Sample]) -> dict[str, float]:
    """Mean, spread over seeds and interval of the average of samples, one a task."""
    found = estimate(samples)
    low, high = found.interval
    return {"mean": found.mean, "std": found.std, "ci_low": low, "ci_high": high}


# What readers call the suites; one that is not named here is called by its name.
SUITE_TITLES = {"glue": "GLUE", "superglue": "SuperGLUE", "mrqa": "MRQA", "dept_other": "Others"}
METRIC_TITLES = {
    "accuracy": "acc.",
    "matthews": "Matthews",
    "pearson": "Pearson",
    "f1": "F1",
    "exact_match": "EM",
    "cider": "CIDEr",
    "bleu4": "BLEU-4",
    "vqa_accuracy": "acc.",
}
# What follows the title of a method that can start from scratch too.
FROM_SOURCE = " from source"
DIVERGED, NOT_SEPARATED, FROM_DIVERGED = "†", "≈", "‡"
SPREAD_NOTE = "Mean ± standard deviation over seeds, in percent."
ONE_SEED_NOTE = "Scores of one seed, in percent."
STORED_NOTE = "Parameters: all that are trained. Stored: those that inference needs."
MARKS_NOTE = f"{MARKS}; nothing at or below the majority baseline is marked."
INVALID_NOTE = (
    "Invalid: the percentage of freely generated answers that are not a label, mean over tasks. The CSV file has the "
    "scores of free answers (open_mean) and of the likeliest label (closed_mean)."
)
DIVERGED_NOTE = f"{DIVERGED} a run diverged; it counts as the majority baseline."
FROM_DIVERGED_NOTE = f"{FROM_DIVERGED} a source prompt that it could have started from diverged and was left out."
NOT_SEPARATED_NOTE = (
    f"{NOT_SEPARATED} not significantly different from the best of its column (paired test over seeds and test "
    f"examples, {100 * LEVEL:.0f} % level, Holm-corrected for all pairs of rows of the column)."
)
UNTESTED_NOTE = f"With fewer than {LEAST_SEEDS} seeds nothing is tested: a missing {NOT_SEPARATED} means nothing."
READING_NOTE = (
    f"{METHODS[SUBJECT].title}: fusion and projection are our reading of the paper, which gives no equations for them "
    "in the text that was available."
)


def table_notes(results: Sequence[PackResult]) -> list[str]:
    """What a reader must know of a table's methods and tasks, and of the software that made its runs."""
    notes = reading_notes(result.pack.method for result in results)
    tasks = [TASKS[task] for task in dict.fromkeys(result.pack.task for result in results) if task in TASKS]
    notes += [f"{task.title}: {task.note}." for task in tasks if task.note]
    if left_out := not_averaged(task.name for task in tasks):
        titles = " and ".join(f"{title_of(task)} ({_metric_title(TASKS[task].metrics[0])})" for task in left_out)
        notes.append(f"Averages leave out {titles}, whose scores can exceed 100.")
    notes += dict.fromkeys(_sample_note(result) for result in results if result.record.get("test_rows_sampled_from"))
    notes += dict.fromkeys(_cut_note(result) for result in results if result.record.get("answers_cut"))
    found = list(dict.fromkeys(software(result.record) for result in results))
    if len(found) > 1:
        notes.append(f"The runs were made by different versions of the software: {'; '.join(found)}.")
    return notes


def _sample_note(result: PackResult) -> str:
    record = result.record
    return (
        f"{title_of(result.pack.task)}: scored on {record['test_rows']:,} of {record['test_rows_sampled_from']:,} test "
        "rows, drawn once (data.test_rows)."
    )


def _cut_note(result: PackResult) -> str:
    record = result.record
    return (
        f"{title_of(result.pack.task)}: {record['answers_cut']:,} of {record['test_rows']:,} test rows lose every "
        f"answer to the cut at {result.pack.settings['source_length']} pieces; they are scored as all others."
    )


def reading_notes(methods: Iterable[str]) -> list[str]:
    """The note on what is our reading of a paper, where one of the methods is such a reading."""
    return [READING_NOTE] * any(METHODS[method].module == METHODS[SUBJECT].module for method in methods)


# A task or an average, and a metric.
Column = tuple[str, str]


@dataclass(frozen=True)
class Score:
    """What a cell shows: a mean, its spread over seeds (NaN: unknown), and signs behind it."""

    mean: float
    std: float = math.nan
    signs: str = ""

    @staticmethod
    def of(row: dict) -> "Score":
        """The score in a tidy row."""
        return Score(row["mean"], row["std"], Score.signs_of(row))

    @staticmethod
    def signs_of(row: dict) -> str:
        """The signs behind the score of a tidy row."""
        signs = {
            DIVERGED: row["diverged"] > 0,
            FROM_DIVERGED: row["diverged_sources"] > 0,
            NOT_SEPARATED: row.get("not_separated", False),
        }
        return "".join(sign for sign, stands in signs.items() if stands)

    def cell(self, best: Sequence[float]) -> Cell:
        """In bold if it is the first of `best`, the two best means of its column as printed; underlined if the second.

        `best` is empty where nothing is marked.
        """
        text = f"{self.mean:.1f}" if math.isnan(self.std) else f"{self.mean:.1f} ± {self.std:.1f}"
        rank = list(best).index(round(self.mean, 1)) if round(self.mean, 1) in best else None
        return Cell(text, bold=rank == 0, underlined=rank == 1, signs=self.signs)


@dataclass
class Line:
    """A row before it is laid out, with its trained `parameters` and, where they are known, the `stored` ones.

    Lines that are not `ranked` take no part in the marks. `invalid` are the percentages of invalid predictions by task.
    """

    title: str
    parameters: int | None
    stored: int | None = None
    ranked: bool = True
    scores: dict[Column, Score] = field(default_factory=dict)
    invalid: dict[str, float] = field(default_factory=dict)


def scores_layout(rows: list[dict], notes: Sequence[str] = ()) -> Layout:
    """Lay out tidy rows below the majority baseline; of tasks with several metrics the first one is shown."""
    firsts: dict[str, Column] = {}
    majority = Line("majority", None, ranked=False)
    lines: dict[str, Line] = {"majority": majority}
    tasks = dict.fromkeys(task for row in rows for task in row["tasks"])
    for row in rows:
        column = (row["task"], row["metric"])
        if row["metric"] == AVERAGE and row["task"] not in distinct_averages(tasks):
            continue
        firsts.setdefault(row["task"], column)
        title, parameters = row_title(row), (row["trained_parameters"], row["stored_parameters"])
        line = lines.setdefault(title, Line(title, *parameters))
        line.scores[column] = Score.of(row)
        if row["metric"] != AVERAGE:
            line.invalid[row["task"]] = row["invalid_share"]
        majority.scores[column] = Score(row["majority_baseline"])
    marked = any(row.get("not_separated") for row in rows)
    untested = any("not_separated" in row and row["seeds"] < LEAST_SEEDS for row in rows)
    notes = [
        *spread_notes(rows),
        MARKS_NOTE,
        *[NOT_SEPARATED_NOTE] * marked,
        *[UNTESTED_NOTE] * untested,
        *mark_notes(rows),
        *notes,
    ]
    return lay_out(sorted(firsts.values(), key=column_order), list(lines.values()), notes, majority.scores)


def spread_notes(rows: Sequence[dict]) -> list[str]:
    """What a cell shows: with one seed there is no spread."""
    return [ONE_SEED_NOTE if all(math.isnan(row["std"]) for row in rows) else SPREAD_NOTE]


def mark_notes(rows: Sequence[dict]) -> list[str]:
    """What the signs behind scores mean, of those that occur."""
    diverged, started = (any(row.get(name, 0) > 0 for row in rows) for name in ("diverged", "diverged_sources"))
    return [DIVERGED_NOTE] * diverged + [FROM_DIVERGED_NOTE] * started


def lay_out(
    columns: list[Column], lines: list[Line], notes: Sequence[str], majority: Mapping[Column, Score] | None = None
) -> Layout:
    """Lay out lines with their parameters below the titles of the columns.

    Args:
        columns: The columns, in their order.
        lines: The rows.
        notes: What stands below the table.
        majority: The scores of the majority baseline. The two best ranked scores of a column are marked if they are
            above it.

    Returns:
        The table. It has a column of stored parameters if a line stores others than it trains, and one of invalid
        predictions if there are any.
    """
    stored = any(line.stored not in (None, line.parameters) for line in lines)
    invalid = any(share > 0 for line in lines for share in line.invalid.values())
    floor = majority or {}
    best = {column: _two_best(lines, column, floor.get(column, Score(-math.inf))) for column in columns}
    return Layout(
        head=[
            "method",
            "parameters",
            *["stored"] * stored,
            *(column_title(*column) for column in columns),
            *["invalid"] * invalid,
        ],
        groups=["", "", *[""] * stored, *map(column_group, columns), *[""] * invalid],
        lines=[
            [
                Cell(line.title),
                _count(line.parameters),
                *[_count(line.stored)] * stored,
                *(
                    line.scores[column].cell(best[column] if line.ranked else ()) if column in line.scores else Cell()
                    for column in columns
                ),
                *[_share(_mean(line.invalid.values()))] * invalid,
            ]
            for line in lines
        ],
        notes=[*notes, *[STORED_NOTE] * stored, *[INVALID_NOTE] * invalid],
    )


def _share(percentage: float) -> Cell:
    return Cell("" if math.isnan(percentage) else f"{percentage:.1f}")


def _count(parameters: int | None) -> Cell:
    return Cell("" if parameters is None else f"{parameters:,}")


def _two_best(lines: Sequence[Line], column: Column, floor: Score) -> list[float]:
    """The two best scores of a column above the floor, rounded as printed: what looks equal is marked alike."""
    scores = {round(line.scores[column].mean, 1) for line in lines if line.ranked and column in line.scores}
    return sorted((score for score in scores if score > round(floor.mean, 1)), reverse=True)[:2]


def first_metrics(rows: list[dict]) -> list[dict]:
    """The rows of each task's first metric: tables list a task's metrics in the order of its record."""
    firsts: dict[str, str] = {}
    for row in rows:
        firsts.setdefault(row["task"], row["metric"])
    return [row for row in rows if row["metric"] == firsts[row["task"]]]


def column_order(column: Column) -> tuple[int, int]:
    """The averages, which are next to the methods' names, then the tasks by suite, then those without one."""
    name, suites = column[0], list(task_sets())
    averages = [AVERAGE, *map(average_of, suites)]
    if name in averages:
        return (-1, averages.index(name))
    return (suites.index(suite) if (suite := suite_of(name)) in suites else len(suites), 0)


def column_title(task: str, metric: str) -> str:
    """The title of a task's or an average's column."""
    suites = {average_of(suite): SUITE_TITLES.get(suite, suite) for suite in task_sets()}
    if metric == AVERAGE:
        return suites.get(task, "All")
    return f"{title_of(task)} {_metric_title(metric)}"


def _metric_title(metric: str) -> str:
    return METRIC_TITLES.get(metric, metric)


def column_group(column: Column) -> str:
    """What stands above the columns of one suite; the averages stand together."""
    if column[1] == AVERAGE:
        return "average"
    suite = suite_of(column[0])
    return SUITE_TITLES.get(suite, suite) or "other tasks"


def row_title(row: dict) -> str:
    """The title of a row of scores, by its `method`, `source` and, where there is one, `variant`."""
    if row.get("variant"):
        return row["variant"]
    title = METHODS[row["method"]].title
    started = row["source"] != "scratch" and METHODS[row["method"]].start == "optional"
    return f"{title}{FROM_SOURCE}" if started else title
