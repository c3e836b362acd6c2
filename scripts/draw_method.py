"""Draw docs/method.svg and docs/method.png: how EPT makes the encoder's input. Needs matplotlib; run by `make docs`.

The result depends on nothing but this file and the version of matplotlib.
"""

import itertools
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

DOCS = Path(__file__).resolve().parent.parent / "docs"
# Fill and edge: kept for use, only needed in training, frozen.
STORED, TRAINING, FROZEN, RESULT = (
    ("#FBD9C5", "#B34700"),
    ("#D6E9F8", "#0072B2"),
    ("#EBEBEB", "#666666"),
    ("#FFFFFF", "#333333"),
)
SETTINGS = {"svg.hashsalt": "ept", "font.size": 8.5, "font.family": "DejaVu Sans", "mathtext.fontset": "dejavusans"}


def matrix(axes: Axes, x: float, y: float, width: float, height: float, name: str, shape: str, kind: tuple) -> None:
    """A tensor with its name inside and its shape below; (x, y) is its center."""
    fill, edge = kind
    axes.add_patch(Rectangle((x - width / 2, y - height / 2), width, height, fc=fill, ec=edge, lw=1.1, zorder=3))
    axes.text(x, y, name, ha="center", va="center", fontsize=10, zorder=4)
    axes.text(x, y - height / 2 - 1.5, shape, ha="center", va="center", fontsize=7, color="#555555", zorder=4)


def step(axes: Axes, x: float, y: float, width: float, height: float, title: str, lines: str, kind: tuple) -> None:
    """A computation with its title and formula; (x, y) is its center."""
    fill, edge = kind
    box = FancyBboxPatch((x - width / 2, y - height / 2), width, height, "round,pad=0,rounding_size=1", zorder=3)
    box.set(facecolor=fill, edgecolor=edge, linewidth=1.1)
    axes.add_patch(box)
    axes.text(x, y + height / 2 - 2.2, title, ha="center", va="center", weight="bold", fontsize=8.5, zorder=4)
    axes.text(x, y - 1.5, lines, ha="center", va="center", fontsize=8.5, linespacing=1.45, zorder=4)


def plus(axes: Axes, x: float, y: float) -> None:
    """A sum."""
    axes.plot(x, y, "o", ms=13, mfc="white", mec="#333333", mew=1.1, zorder=5)
    axes.text(x, y - 0.1, "+", ha="center", va="center", fontsize=11, zorder=6)


def arrow(axes: Axes, *points: tuple[float, float], label: str = "", at: tuple[float, float] = (0, 0)) -> None:
    """A line through the points with a head at the last one."""
    for start, end in itertools.pairwise(points[:-1]):
        axes.plot(*zip(start, end, strict=True), color="#333333", lw=1, solid_capstyle="round", zorder=2)
    head = FancyArrowPatch(points[-2], points[-1], arrowstyle="-|>", mutation_scale=9, shrinkA=0, shrinkB=0)
    head.set(color="#333333", linewidth=1, zorder=2)
    axes.add_patch(head)
    if label:
        axes.text(*at, label, fontsize=7, color="#555555", ha="center", va="center")


def draw() -> Figure:
    """The figure: decomposition, multi-space projection, fusion, reconstructed prompt."""
    figure = Figure(figsize=(9, 4.3))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 108), ylim=(-1, 50.6))
    axes.axis("off")

    # Decomposition: a short prompt and a low-rank pair.
    axes.text(10.5, 42.5, "Decomposition", weight="bold", ha="center", va="center")
    matrix(axes, 10.5, 36.5, 13, 7, "$P_s$", "short prompt [s, d]", STORED)
    matrix(axes, 5.5, 17, 4, 13, "$A$", "[m, r]", STORED)
    matrix(axes, 15, 21.5, 10, 4, "$B$", "[r, d]", STORED)
    matrix(axes, 29, 17, 10, 13, "$C = \\gamma AB$", "update [m, d]", RESULT)
    arrow(axes, (21, 17), (24, 17))

    # The two new parts.
    step(
        axes,
        50,
        41,
        27,
        11,
        "Multi-space projection",
        "$P_m = \\Sigma_n\\, g_n H_n$\n$N$ spaces $H_n$ of $P_s$, gate $g$",
        TRAINING,
    )
    step(
        axes,
        50,
        25.5,
        27,
        11,
        "Prompt fusion",
        "$F$ = attention of $P_s$ over $C$\nqueries $P_s$; keys, values $C$",
        TRAINING,
    )
    arrow(axes, (17, 36.5), (27, 36.5), (27, 41), (36.5, 41))
    arrow(axes, (27, 36.5), (27, 28), (36.5, 28))
    arrow(axes, (34, 20), (36.5, 22.5))

    # Reconstructed prompt and updated text.
    plus(axes, 68.5, 36.5)
    arrow(axes, (63.5, 41), (68.5, 41), (68.5, 38.3))
    arrow(axes, (63.5, 25.5), (68.5, 25.5), (68.5, 34.7))
    matrix(axes, 79, 36.5, 13, 7, "$P^* = P_m + F$", "reconstructed prompt [s, d]", RESULT)
    arrow(axes, (70, 36.5), (72.5, 36.5))
    matrix(axes, 51, 6, 22, 6.5, "$E$", "embeddings of the text [L, d]", FROZEN)
    plus(axes, 68.5, 13)
    arrow(axes, (62, 6), (68.5, 6), (68.5, 11.2))
    arrow(axes, (34, 13), (67, 13), label="first L rows of $C$", at=(50, 14.7))
    matrix(axes, 79, 13, 13, 13, "$E + C_{:L}$", "updated text [L, d]", RESULT)
    arrow(axes, (70, 13), (72.5, 13))

    # What the model reads.
    step(axes, 97, 25, 14, 26, "Backbone", "reads\n$[P^*;\\; E + C_{:L}]$", FROZEN)
    arrow(axes, (85.5, 36.5), (87.8, 36.5), (87.8, 29), (90, 29))
    arrow(axes, (85.5, 13), (87.8, 13), (87.8, 21), (90, 21))
    arrow(axes, (97, 12), (97, 7.8))
    axes.text(97, 6, "label", ha="center", va="center", fontsize=9)

    for x, text, kind in (
        (3.3, "trained", STORED),
        (14, "trained, not needed for prediction", TRAINING),
        (41.5, "frozen", FROZEN),
        (51, "computed", RESULT),
    ):
        axes.add_patch(Rectangle((x, 47.6), 1.8, 1.8, fc=kind[0], ec=kind[1], lw=1))
        axes.text(x + 2.5, 48.4, text, va="center", fontsize=7.5)
    return figure


def main() -> None:
    """Write both files."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        figure = draw()
        figure.savefig(DOCS / "method.svg", metadata={"Date": None})
        figure.savefig(DOCS / "method.png", dpi=200, metadata={"Software": None})


if __name__ == "__main__":
    main()
