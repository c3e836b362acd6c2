"""The weights that EPT's gate gives to its spaces."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ept.figures.data import PackRecord, Results, mean_curve
from ept.figures.style import SERIES, SMALL, legend_below, new_figure
from ept.methods.registry import SUBJECT

# Moments of a training and the place of their entry in a run's diagnostics.
MOMENTS = {"start": 0, "end": -1}


def draw(results: Results) -> Figure:
    """Two heat maps, at the start and at the end: tasks as rows, spaces as columns, means over seeds."""
    records = results.of_method(SUBJECT)
    figure = new_figure(0.8 + 0.2 * len(records))
    panels = figure.subplots(1, len(MOMENTS), sharey=True)
    for axes, (moment, place) in zip(panels, MOMENTS.items(), strict=True):
        weights = np.array([gate_weights(record, place) for record in records])
        image = axes.imshow(weights, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (row, column), weight in np.ndenumerate(weights):
            axes.text(column, row, f"{weight:.2f}".lstrip("0"), ha="center", va="center", fontsize=SMALL)
            axes.texts[-1].set_color("black" if weight > 0.55 else "white")
        axes.set_xticks(range(weights.shape[1]), [f"{space + 1}" for space in range(weights.shape[1])])
        axes.set(title=moment, xlabel="space")
        axes.spines[:].set_visible(False)
    panels[0].set_yticks(range(len(records)), [record.pack.record.title for record in records])
    figure.colorbar(image, ax=panels, label="weight")
    return figure


def gate_weights(record: PackRecord, place: int) -> np.ndarray:
    """The mean over seeds of the weights [spaces] in one entry of the runs' diagnostics."""
    return np.mean([run["diagnostics"][place]["gate_weights"] for run in record.selected], axis=0)


def draw_fusion(results: Results) -> Figure:
    """One curve a task over the steps: the mean over seeds of ‖F‖ / ‖P_s‖."""
    figure = new_figure(2.5)
    axes = figure.subplots()
    for number, record in enumerate(results.of_method(SUBJECT)):
        entries = [entry for run in record.selected for entry in run["diagnostics"]]
        steps, ratios = mean_curve((entry["step"], entry["fusion_ratio"]) for entry in entries)
        axes.plot(steps, ratios, label=record.pack.record.title, **SERIES[number % len(SERIES)])
    axes.set(xlabel="step", ylabel="‖$F$‖ / ‖$P_s$‖", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, 4)
    return figure
