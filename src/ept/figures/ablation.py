"""EPT with parts left out and with other readings of the paper."""

from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from ept.figures.data import Results, Row, intervals
from ept.figures.style import NEUTRAL, method_style, new_figure

EPT = "EPT"


def draw(results: Results) -> Figure:
    """One bar a variant of the table `ablation`, except numbers of spaces and short lengths, with its interval."""
    rows = [row for row in results.averages("ablation") if not is_sweep(row)]
    figure = new_figure(0.7 + 0.22 * len(rows))
    axes = figure.subplots()
    places = range(len(rows))
    means = [row["mean"] for row in rows]
    axes.barh(
        places,
        means,
        height=0.7,
        color=[to_rgba(method_style("ept").color, 1.0 if row["variant"] == EPT else 0.45) for row in rows],
        xerr=intervals(rows),
        error_kw={"linewidth": 0.7},
    )
    axes.axvline(rows[0]["majority_baseline"], color=NEUTRAL, linestyle="--", linewidth=0.8)
    axes.set_yticks(places, [row["variant"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("average test score (%)")
    return figure


def is_sweep(row: Row) -> bool:
    """Whether a row's variant is a number of spaces or a short length; they have a figure of their own."""
    return str(row["variant"]).startswith(("N = ", "s = "))
