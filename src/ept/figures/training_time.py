"""Average score against training time. The one figure whose points are times and so differ from run to run."""

from matplotlib.figure import Figure

from ept.figures.data import Results, intervals
from ept.figures.style import legend_below, majority_line, new_figure, plot_method


def draw(results: Results) -> Figure:
    """One point a method of the main table: seconds that one run trains, the mean over runs and tasks."""
    rows = results.averages("main")
    seconds = {row["method"]: row["train_seconds_per_run"] for row in results.rows("efficiency")}
    figure = new_figure(2.6)
    axes = figure.subplots()
    for row in rows:
        plot_method(axes, row["method"], [seconds[row["method"]]], [row["mean"]], intervals([row]), linestyle="")
    majority_line(axes, rows[0]["majority_baseline"])
    axes.set(xlabel="training time (seconds a run)", ylabel="average test score (%)")
    axes.set_xlim(0, 1.1 * max(seconds[row["method"]] for row in rows))
    legend_below(figure, 4)
    return figure
