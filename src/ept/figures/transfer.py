"""Gain of every source prompt on every target task."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from ept.figures.data import Results, Row
from ept.figures.style import NEUTRAL, SMALL, new_figure
from ept.methods.registry import METHODS
from ept.results.tables.scores import first_metrics
from ept.results.tables.transfer import ALL, ALL_TITLE, CHOSEN, OWN, source_name
from ept.tasks.registry import title_of

# With more columns the numbers would not fit.
NUMBERED = 7


def draw(results: Results) -> Figure:
    """One heat map for each method and regime: sources as rows, targets as columns, gains over scratch as colors.

    A cell is hatched where source and target are one task, and framed where the protocol chooses the source.
    """
    rows = _first_metrics(results)
    order = list(dict.fromkeys(source_name(row) for row in rows))
    # All panels have the same columns.
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    # One source on a few targets makes no matrix; all source tasks together are a line of their own.
    matrices = [found for found in _by_method(rows) if len(_sources(found, order)) > 1 or found[0]["choice"] == ALL]
    heights = [len(_sources(found, order)) for found in matrices]
    figure = new_figure(0.6 + sum(0.17 * height + 0.35 for height in heights))
    panels = figure.subplots(len(matrices), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    limit = max(abs(row["gain"]) for found in matrices for row in found if not math.isnan(row["gain"]))
    for axes, found in zip(panels, matrices, strict=True):
        image = _heat_map(axes, found, _sources(found, order), tasks, limit)
    figure.colorbar(image, ax=list(panels), label="gain over scratch (points)")
    return figure


def _first_metrics(results: Results) -> list[Row]:
    return first_metrics(results.rows("transfer"))


def _by_method(rows: list[Row]) -> list[list[Row]]:
    """The rows of each method and regime."""
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        found.setdefault((row["method"], row["regime"]), []).append(row)
    return list(found.values())


def _sources(rows: list[Row], order: list[str]) -> list[str]:
    return sorted({source_name(row) for row in rows}, key=order.index)


def _heat_map(axes: Axes, rows: list[Row], sources: list[str], tasks: list[str], limit: float) -> AxesImage:
    gains = np.full((len(sources), len(tasks)), np.nan)
    for row in rows:
        place = sources.index(source_name(row)), tasks.index(row["task"])
        gains[place] = row["gain"]
        _mark(axes, row["choice"], *place)
        if len(tasks) <= NUMBERED and row["choice"] != OWN:
            color = "white" if abs(row["gain"]) > 0.6 * limit else "black"
            axes.text(place[1], place[0], f"{row['gain']:+.0f}", ha="center", va="center", fontsize=SMALL, color=color)
    image = axes.imshow(gains, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_xticks(range(len(tasks)), [title_of(task) for task in tasks], rotation=90)
    titles = [source if source == ALL_TITLE else title_of(source) for source in sources]
    axes.set_yticks(range(len(sources)), titles)
    axes.set_title(_title(rows[0]))
    axes.spines[:].set_visible(False)
    return image


def _mark(axes: Axes, choice: str | float, row: int, column: int) -> None:
    if choice == OWN:
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="////", edgecolor=NEUTRAL, lw=0))
    elif choice == CHOSEN:
        axes.add_patch(Rectangle((column - 0.45, row - 0.42), 0.9, 0.84, fill=False, edgecolor="black", lw=1.0))


def _title(row: Row) -> str:
    regime = "full data" if row["regime"] == "full" else f"k = {str(row['regime']).removeprefix('k')}"
    return f"{METHODS[row['method']].title}, {regime}"
