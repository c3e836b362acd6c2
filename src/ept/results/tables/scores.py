"""Scores of methods and of variants of EPT: rows with intervals, and averages over tasks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ept.methods.registry import METHODS
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.results.records import PackResult, collect
from ept.results.render import Cell, Layout
from ept.results.statistics import Sample, averaged_tasks, estimate, group, mark_not_separated, metric_sample
from ept.tasks.registry import get_task


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


AVERAGE_TITLES = {"average_glue": "GLUE", "average_super_glue": "SuperGLUE", "average": "All"}
METRIC_TITLES = {"accuracy": "acc.", "matthews": "Matthews", "pearson": "Pearson", "f1": "F1", "exact_match": "EM"}
DIVERGED, NOT_SEPARATED = "†", "≈"
SPREAD_NOTE = "Mean ± standard deviation over seeds, in percent."
STORED_NOTE = "Parameters are those that are trained; stored are those that use needs."
MARKS_NOTE = "Best in bold, second underlined."
DIVERGED_NOTE = f"{DIVERGED} a run diverged; it counts as the majority baseline."
NOT_SEPARATED_NOTE = (
    f"{NOT_SEPARATED} not told from the best of its column by a paired test over seeds and test examples (5 % level, "
    "Holm's correction within the column)."
)

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
        signs = DIVERGED * (row["diverged"] > 0) + NOT_SEPARATED * row.get("not_separated", False)
        return Score(row["mean"], row["std"], signs)

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

    Lines that are not `ranked` take no part in the marks.
    """

    title: str
    parameters: int | None
    stored: int | None = None
    ranked: bool = True
    scores: dict[Column, Score] = field(default_factory=dict)


def scores_layout(rows: list[dict]) -> Layout:
    """Lay out tidy rows below the majority baseline; of tasks with several metrics the first one is shown."""
    firsts: dict[str, Column] = {}
    lines: dict[str, Line] = {"majority": Line("majority", None, ranked=False)}
    for row in rows:
        column = (row["task"], row["metric"])
        firsts.setdefault(row["task"], column)
        title, parameters = _row_title(row), (row["trained_parameters"], row["stored_parameters"])
        line = lines.setdefault(title, Line(title, *parameters))
        line.scores[column] = Score.of(row)
        lines["majority"].scores[column] = Score(row["majority_baseline"])
    notes = [SPREAD_NOTE, MARKS_NOTE]
    notes += [NOT_SEPARATED_NOTE] * any(row.get("not_separated") for row in rows)
    notes += [DIVERGED_NOTE] * any(row["diverged"] for row in rows)
    return lay_out(sorted(firsts.values(), key=column_order), list(lines.values()), notes)


def lay_out(columns: list[Column], lines: list[Line], notes: list[str]) -> Layout:
    """Lines with their parameters below the columns' titles, the two best ranked scores of a column marked.

    A column has the stored parameters where those of a line are not the trained ones.
    """
    stored = any(line.stored not in (None, line.parameters) for line in lines)
    best = {column: _two_best([line.scores[column] for line in lines if _ranked(line, column)]) for column in columns}
    return Layout(
        head=["method", "parameters", *["stored"] * stored, *(column_title(*column) for column in columns)],
        lines=[
            [
                Cell(line.title),
                _count(line.parameters),
                *[_count(line.stored)] * stored,
                *(
                    line.scores[column].cell(best[column] if line.ranked else ()) if column in line.scores else Cell()
                    for column in columns
                ),
            ]
            for line in lines
        ],
        notes=[*notes, *[STORED_NOTE] * stored],
    )


def _count(parameters: int | None) -> Cell:
    return Cell("" if parameters is None else f"{parameters:,}")


def _ranked(line: Line, column: Column) -> bool:
    return line.ranked and column in line.scores


def _two_best(scores: list[Score]) -> list[float]:
    """Rounded as printed: what looks equal is marked alike."""
    return sorted({round(score.mean, 1) for score in scores}, reverse=True)[:2]


def column_order(column: Column) -> tuple[int, int]:
    """GLUE's tasks and its average, SuperGLUE's and its average, the rest, the average over all."""
    task = column[0]
    if task in AVERAGE_TITLES:
        return ({"average_glue": 0, "average_super_glue": 1, "average": 3}[task], 1)
    return ({"glue": 0, "super_glue": 1}.get(get_task(task).suite, 2), 0)


def column_title(task: str, metric: str) -> str:
    """The title of a task's or an average's column."""
    if task in AVERAGE_TITLES:
        return AVERAGE_TITLES[task]
    return f"{get_task(task).title} {METRIC_TITLES.get(metric, metric)}"


def _row_title(row: dict) -> str:
    if row["variant"]:
        return row["variant"]
    title = METHODS[row["method"]].title
    started = row["source"] != "scratch" and METHODS[row["method"]].start == "optional"
    return f"{title} from source" if started else title
