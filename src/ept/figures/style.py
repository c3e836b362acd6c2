"""How every figure looks: its width, its text, and one colour and marker per method everywhere."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ept.methods import METHODS

# Inches: one column of a two-column paper. Text is at least 7 pt at that width.
COLUMN_WIDTH = 3.3
SMALL, NORMAL = 7.0, 7.5
# Ink of what is no method: the majority baseline, edges of bars.
NEUTRAL = "#666666"


@dataclass(frozen=True)
class MethodStyle:
    """The colour and the marker of a method."""

    color: str
    marker: str


# Prompt methods have Okabe and Ito's palette, the others the five colours that are farthest from it and from one
# another in the eyes of readers with any of the three colour blindnesses (a test measures that), and black.
STYLES = {
    "fine_tuning": MethodStyle("#000000", "s"),
    "adapter": MethodStyle("#9900CC", "P"),
    "adapterdrop": MethodStyle("#550055", "X"),
    "bitfit": MethodStyle("#773300", "d"),
    "lora": MethodStyle("#005533", "v"),
    "lst": MethodStyle("#330077", "<"),
    "pt": MethodStyle("#56B4E9", "o"),
    "spot": MethodStyle("#0072B2", "^"),
    "attempt": MethodStyle("#CC79A7", ">"),
    "mpt": MethodStyle("#E69F00", "h"),
    "dept": MethodStyle("#009E73", "D"),
    "ept": MethodStyle("#D55E00", "*"),
}
# For curves that are no methods (tasks): Okabe and Ito's colours, first solid, then dashed.
SERIES = [
    {"color": color, "linestyle": line}
    for line in ("-", "--")
    for color in ("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00")
]

_SETTINGS = {
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
def house_style() -> Iterator[None]:
    """Within it figures look the same on every machine, whatever matplotlibrc the user has."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def method_style(method: str) -> MethodStyle:
    """The style of a method; grey for one that was added without an entry in STYLES."""
    return STYLES.get(method, MethodStyle("#999999", "p"))


def new_figure(height: float) -> Figure:
    """An empty figure of one column's width; `height` in inches."""
    return Figure(figsize=(COLUMN_WIDTH, height), layout="constrained")


def plot_method(axes: Axes, method: str, x, y, errors=None, **options) -> None:
    """A method's curve or points in its style, labelled with its title; `errors` are half-widths or (below, above)."""
    style = method_style(method)
    size = {"markersize": 7} if style.marker == "*" else {}
    axes.errorbar(
        x,
        y,
        yerr=errors,
        **{"label": METHODS[method].title, "color": style.color, "marker": style.marker, "elinewidth": 0.7}
        | size
        | options,
    )


def legend_below(figure: Figure, columns: int) -> None:
    """One legend under the figure for all its axes, each name once."""
    entries: dict[str, object] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns)


def majority_line(axes: Axes, score: float) -> None:
    """A dashed line at the score of the majority baseline."""
    axes.axhline(score, color=NEUTRAL, linestyle="--", linewidth=0.8, label="majority", zorder=0)
