"""Validation scores during training on full data."""

import math

from matplotlib.figure import Figure

from ept.figures.data import Results, mean_curve
from ept.figures.style import legend_below, new_figure
from ept.methods.registry import METHODS
from ept.tasks.registry import title_of


def draw(results: Results) -> Figure:
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
