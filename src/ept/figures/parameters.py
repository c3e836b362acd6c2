"""Average score against trained parameters."""

from collections import Counter

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from ept.figures.data import Results, intervals
from ept.figures.style import legend_below, majority_line, new_figure, plot_method

# The factor between methods with the same count.
NEXT_TO = 1.04


def draw(results: Results) -> Figure:
    """One point a method of the main table, with its interval, over a logarithmic axis."""
    rows = results.averages("main")
    places = side_by_side({row["method"]: row["trained_parameters"] for row in rows})
    figure = new_figure(2.6)
    axes = figure.subplots()
    for row in rows:
        plot_method(axes, row["method"], [places[row["method"]]], [row["mean"]], intervals([row]), linestyle="")
    majority_line(axes, rows[0]["majority_baseline"])
    axes.set(xscale="log", xlabel="trained parameters", ylabel="average test score (%)")
    axes.set_xlim(min(places.values()) / 1.5, max(places.values()) * 1.5)
    few_decades = max(places.values()) < 100 * min(places.values())
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few_decades else (1,)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    legend_below(figure, 4)
    return figure


def side_by_side(counts: dict[str, float]) -> dict[str, float]:
    """Places on a logarithmic axis: equal counts stand 4 % apart, so that no interval hides another."""
    seen: Counter[float] = Counter()
    places = {}
    for method, count in counts.items():
        places[method] = count * NEXT_TO ** seen[count]
        seen[count] += 1
    return places


def draw_training_time(results: Results) -> Figure:
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
