"""How much the validation score depends on the learning rates."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ept.figures.data import PackRecord, Results
from ept.figures.style import new_figure
from ept.methods.registry import METHODS
from ept.plan.tables import LEARNING_RATES
from ept.results.records import validation_score

LINES = ("-", "--", ":", "-.")


def draw(results: Results) -> Figure:
    """One panel for each method that tried several rates.

    Its first rate with several values lies along the axis; there is one curve for each combination of the others.
    """
    records = results.records(LEARNING_RATES)
    methods = dict.fromkeys(record.pack.method for record in records)
    scores = {name: scores_by_rates([record for record in records if record.pack.method == name]) for name in methods}
    scores = {method: found for method, found in scores.items() if len(found) > 1}
    columns = min(len(scores), 2)
    rows = math.ceil(len(scores) / columns)
    figure = new_figure(0.6 + 1.5 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, (method, found) in zip(panels, scores.items(), strict=False):
        _plot(axes, method, found)
    for axes in panels[len(scores) :]:
        axes.set_visible(False)
    figure.supylabel("validation score (%)", fontsize="medium")
    return figure


def _plot(axes: Axes, method: str, found: dict[tuple, float]) -> None:
    groups = METHODS[method].groups
    varied = next(place for place in range(len(groups)) if len({rates[place] for rates in found}) > 1)
    others = list(dict.fromkeys(_without(rates, varied) for rates in found))
    style = METHODS[method]
    for number, other in enumerate(others):
        points = sorted((rates[varied], score) for rates, score in found.items() if _without(rates, varied) == other)
        names = [
            f"{group.replace('_', '-')} {rate:g}" for group, rate in zip(_without(groups, varied), other, strict=True)
        ]
        label = ", ".join(names)
        axes.plot(
            *zip(*points, strict=True), LINES[number % len(LINES)], color=style.color, marker=style.marker, label=label
        )
    values = sorted({rates[varied] for rates in found})
    axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    axes.set(title=METHODS[method].title, xlabel=f"learning rate ({groups[varied].replace('_', '-')})")
    if others != [()]:
        axes.legend()


def _without(values: tuple, place: int) -> tuple:
    return (*values[:place], *values[place + 1 :])


def scores_by_rates(records: list[PackRecord]) -> dict[tuple[float, ...], float]:
    """The mean over tasks and seeds of the best validation score, by learning rates in the order of the groups.

    A diverged run counts as the majority baseline.
    """
    scores: dict[tuple[float, ...], list[float]] = {}
    for record in records:
        for run in record.runs:
            rates = tuple(run["learning_rates"][group] for group in METHODS[record.pack.method].groups)
            scores.setdefault(rates, []).append(validation_score(record.content, run, record.metric))
    return {rates: float(np.mean(found)) for rates, found in scores.items()}
