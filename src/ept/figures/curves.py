"""Curves of scores: test scores over k, validation scores over the steps of training."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ept.figures.data import Results, Row, intervals, mean_curve
from ept.figures.style import legend_below, majority_line, new_figure, plot_method
from ept.methods.registry import METHODS
from ept.tasks.registry import title_of

TITLES = {"scratch": "from scratch", "source": "from a source prompt"}
# Between neighboring curves, in powers of two.
APART = 0.07


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
