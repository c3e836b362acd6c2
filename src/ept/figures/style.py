"""How every figure looks: its width, its text, and one color and marker per method everywhere."""

import contextlib
from collections.abc import Iterator
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ept.methods.registry import METHODS

# Inches: one column of a two-column paper. Text is at least 7 pt at that width.
COLUMN_WIDTH = 3.3
SMALL, NORMAL = 7.0, 7.5
# Color of what is not a method: the majority baseline, edges of bars.
NEUTRAL = "#666666"


# For curves that are not methods (tasks): Okabe and Ito's colors, first solid, then dashed.
SERIES: list[dict[str, Any]] = [
    {"color": color, "linestyle": line}
    for line in ("-", "--")
    for color in ("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00")
]

_SETTINGS: dict[Any, Any] = {
    # Without a fixed salt an unchanged SVG would differ from one writing to the next.
    "svg.hashsalt": "ept",
    "font.size": NORMAL,
    "axes.titlesize": NORMAL,
    "axes.labelsize": NORMAL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "figure.titlesize": NORMAL,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.0,
    "legend.handletextpad": 0.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 4.5,
    "hatch.linewidth": 0.5,
}


@contextlib.contextmanager
def figure_style() -> Iterator[None]:
    """Within it figures look the same on every machine, whatever matplotlibrc the user has."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def new_figure(height: float) -> Figure:
    """An empty figure of one column's width; `height` in inches."""
    return Figure(figsize=(COLUMN_WIDTH, height), layout="constrained")


def plot_method(axes: Axes, method: str, x: Any, y: Any, errors: Any = None, **options: Any) -> None:
    """Plot a method's curve or points in its style, labeled with its title.

    Args:
        axes: The panel.
        method: The method's name in the registry.
        x: [points].
        y: [points].
        errors: Error bars as half-widths [points] or (below, above).
        **options: Further options of `Axes.errorbar`.
    """
    style = METHODS[method]
    size = {"markersize": 7} if style.marker == "*" else {}
    look: dict[str, Any] = {"label": style.title, "color": style.color, "marker": style.marker, "elinewidth": 0.7}
    axes.errorbar(x, y, yerr=errors, **look | size | options)


def legend_below(figure: Figure, columns: int) -> None:
    """One legend under the figure for all its axes, each name once."""
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns)


def majority_line(axes: Axes, score: float) -> None:
    """A dashed line at the score of the majority baseline."""
    axes.axhline(score, color=NEUTRAL, linestyle="--", linewidth=0.8, label="majority", zorder=0)
