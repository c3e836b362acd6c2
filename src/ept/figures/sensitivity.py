"""EPT's sensitivity to the number of spaces and to the length of the short prompt."""

from matplotlib.figure import Figure

from ept.figures.data import Results, intervals
from ept.figures.style import legend_below, majority_line, new_figure, plot_method

AXES = {"N": "number of spaces", "s": "short length (tokens)"}


def draw(results: Results) -> Figure:
    """One panel for the spaces N and one for the short length s; what the configuration has is ringed."""
    config = results.experiment.config
    configured = {"N": config.ept.spaces, "s": config.prompt.short_length}
    rows = results.averages("ablation")
    curves = {key: [row for row in rows if str(row["variant"]).startswith(f"{key} = ")] for key in AXES}
    curves = {key: curve for key, curve in curves.items() if len(curve) > 1}
    figure = new_figure(2.1)
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axes, (key, curve) in zip(panels, curves.items(), strict=True):
        numbers = [int(str(row["variant"]).split(" = ")[1]) for row in curve]
        means = [row["mean"] for row in curve]
        plot_method(axes, "ept", numbers, means, intervals(curve))
        if configured[key] in numbers:
            chosen = means[numbers.index(configured[key])]
            axes.plot(
                configured[key], chosen, "o", markersize=11, fillstyle="none", color="black", label="as configured"
            )
        majority_line(axes, curve[0]["majority_baseline"])
        axes.set_xticks(numbers)
        axes.set_xlabel(AXES[key])
    panels[0].set_ylabel("average test score (%)")
    legend_below(figure, 3)
    return figure
