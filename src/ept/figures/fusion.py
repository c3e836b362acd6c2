"""How large EPT's fusion term grows beside the short prompt."""

from matplotlib.figure import Figure

from ept.figures.data import Results, mean_curve
from ept.figures.style import SERIES, legend_below, new_figure
from ept.tasks import get_task


def draw(results: Results) -> Figure:
    """One curve a task over the steps: the mean over seeds of ‖F‖ / ‖P_s‖."""
    figure = new_figure(2.5)
    axes = figure.subplots()
    for number, record in enumerate(results.of_method("ept")):
        entries = [entry for run in record.selected for entry in run["diagnostics"]]
        steps, ratios = mean_curve((entry["step"], entry["fusion_ratio"]) for entry in entries)
        axes.plot(steps, ratios, label=get_task(record.pack.task).title, **SERIES[number % len(SERIES)])
    axes.set(xlabel="step", ylabel="‖$F$‖ / ‖$P_s$‖", ylim=(0, None))
    legend_below(figure, 4)
    return figure
