"""Average score against training time. The one figure whose points are times and so differ from run to run."""

import statistics

from matplotlib.figure import Figure

from ept.figures.data import Results, intervals
from ept.figures.style import legend_below, majority_line, new_figure, plot_method


def draw(results: Results) -> Figure:
    """One point a method of the main table: seconds of training a run, as the mean over tasks."""
    rows = results.averages("main")
    figure = new_figure(2.6)
    axes = figure.subplots()
    for row in rows:
        plot_method(
            axes, row["method"], [_seconds(results, row["method"])], [row["mean"]], intervals([row]), linestyle=""
        )
    majority_line(axes, rows[0]["majority_baseline"])
    axes.set(xlabel="training time (seconds a run)", ylabel="average test score (%)")
    axes.set_xlim(left=0)
    legend_below(figure, 4)
    return figure


def _seconds(results: Results, method: str) -> float:
    """A pack's seconds of training, divided by the number of its runs; the mean over tasks."""
    return statistics.mean(record.content["train_seconds"] / len(record.runs) for record in results.of_method(method))
