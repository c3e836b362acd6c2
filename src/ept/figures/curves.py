"""Curves of scores: test scores over k; validation scores over the steps of training and over learning rates."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ept.figures.data import PackRecord, Results, Row, intervals, mean_curve
from ept.figures.style import legend_below, majority_line, new_figure, plot_method
from ept.methods.registry import METHODS
from ept.plan.tables import LEARNING_RATES
from ept.results.records import validation_score
from ept.tasks.registry import title_of

TITLES = {"scratch": "from scratch", "source": "from a source prompt"}
# Between neighboring curves, in powers of two.
APART = 0.07
LINES = ("-", "--", ":", "-.")


def draw_few_shot(results: Results) -> Figure:
    """One panel for runs from scratch and one for runs from a source prompt; one curve a method, with its intervals."""
    rows = [row for table in few_shot_tables(results) for row in results.averages(table)]
    starts = [start for start in TITLES if any(row["source"] == start for row in rows)]
    figure = new_figure(2.8)
    panels = figure.subplots(1, len(starts), sharey=True, squeeze=False)[0]
    for axes, start in zip(panels, starts, strict=True):
        methods = list(dict.fromkeys(row["method"] for row in rows if row["source"] == start))
        for place, method in enumerate(methods):
            curve = [row for row in rows if (row["method"], row["source"]) == (method, start)]
            # Curves stand a little apart (in powers of two), so that no interval hides another.
            _plot(axes, method, curve, (place - (len(methods) - 1) / 2) * APART)
        majority_line(axes, rows[0]["majority_baseline"])
        ks = sorted({_k(row) for row in rows})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ks, [f"{k}" for k in ks])
        axes.set(title=TITLES[start], xlabel="examples (k)")
    panels[0].set_ylabel("average test score (%)")
    legend_below(figure, 4)
    return figure


def few_shot_tables(results: Results) -> list[str]:
    """The few-shot tables of the configuration by k."""
    tables = [name for name in results.experiment.default_tables if name.startswith("fewshot_k")]
    return sorted(tables, key=lambda name: int(name.removeprefix("fewshot_k")))


def _plot(axes: Axes, method: str, curve: list[Row], shift: float) -> None:
    means = [row["mean"] for row in curve]
    plot_method(axes, method, [_k(row) * 2**shift for row in curve], means, intervals(curve))


def _k(row: Row) -> int:
    return int(str(row["regime"]).removeprefix("k"))


def draw_validation(results: Results) -> Figure:
    """One panel a task, one curve a method: the mean over seeds with the chosen learning rates."""
    tasks = list(dict.fromkeys(record.pack.task for record in results.full_data))
    columns = min(len(tasks), 2 if len(tasks) <= 4 else 3)
    rows = math.ceil(len(tasks) / columns)
    figure = new_figure(0.8 + 1.1 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes, task in zip(panels, tasks, strict=False):
        for record in results.full_data:
            if record.pack.task == task:
                steps, scores = mean_curve(point for run in record.selected for point in run["validation_curve"])
                style = METHODS[record.pack.method]
                title = METHODS[record.pack.method].title
                axes.plot(steps, scores, color=style.color, marker=style.marker, markevery=[-1], label=title)
        axes.set_title(title_of(task))
    for place, axes in enumerate(panels):
        axes.set_visible(place < len(tasks))
        if place + columns >= len(tasks):
            axes.set_xlabel("step")
            axes.tick_params(labelbottom=True)
    figure.supylabel("validation score (%)", fontsize="medium")
    legend_below(figure, 4)
    return figure


def draw_learning_rates(results: Results) -> Figure:
    """One panel for each method that tried several rates.

    Its first rate with several values lies along the axis; there is one curve for each combination of the others.
    """
    records = results.records(LEARNING_RATES)
    methods = dict.fromkeys(record.pack.method for record in records)
    scores = {name: scores_by_rates([record for record in records if record.pack.method == name]) for name in methods}
    scores = {method: found for method, found in scores.items() if len(found) > 1}
    columns = min(len(scores), 2)
    rows = math.ceil(len(scores) / columns)
    figure = new_figure(0.6 + 1.5 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, (method, found) in zip(panels, scores.items(), strict=False):
        _plot_rates(axes, method, found)
    for axes in panels[len(scores) :]:
        axes.set_visible(False)
    figure.supylabel("validation score (%)", fontsize="medium")
    return figure


def _plot_rates(axes: Axes, method: str, found: dict[tuple, float]) -> None:
    groups = METHODS[method].groups
    varied = next(place for place in range(len(groups)) if len({rates[place] for rates in found}) > 1)
    others = list(dict.fromkeys(_without(rates, varied) for rates in found))
    style = METHODS[method]
    for number, other in enumerate(others):
        points = sorted((rates[varied], score) for rates, score in found.items() if _without(rates, varied) == other)
        names = [
            f"{group.replace('_', '-')} {rate:g}" for group, rate in zip(_without(groups, varied), other, strict=True)
        ]
        label = ", ".join(names)
        axes.plot(
            *zip(*points, strict=True), LINES[number % len(LINES)], color=style.color, marker=style.marker, label=label
        )
    values = sorted({rates[varied] for rates in found})
    axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    axes.set(title=METHODS[method].title, xlabel=f"learning rate ({groups[varied].replace('_', '-')})")
    if others != [()]:
        axes.legend()


def _without(values: tuple, place: int) -> tuple:
    return (*values[:place], *values[place + 1 :])


def scores_by_rates(records: list[PackRecord]) -> dict[tuple[float, ...], float]:
    """The mean over tasks and seeds of the best validation score, by learning rates in the order of the groups.

    A diverged run counts as the majority baseline.
    """
    scores: dict[tuple[float, ...], list[float]] = {}
    for record in records:
        for run in record.runs:
            rates = tuple(run["learning_rates"][group] for group in METHODS[record.pack.method].groups)
            scores.setdefault(rates, []).append(validation_score(record.content, run, record.metric))
    return {rates: float(np.mean(found)) for rates, found in scores.items()}
