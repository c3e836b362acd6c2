"""EPT with parts left out and with other readings of the paper."""

from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from ept.config.variants import WHOLE
from ept.figures.data import Results, Row, intervals
from ept.figures.style import NEUTRAL, legend_below, majority_line, new_figure, plot_method
from ept.methods.registry import METHODS, SUBJECT


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
        color=[to_rgba(METHODS[SUBJECT].color, 1.0 if row["variant"] == WHOLE else 0.45) for row in rows],
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


AXES = {"N": "number of spaces", "s": "short length (tokens)"}


def draw_sensitivity(results: Results) -> Figure:
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
        plot_method(axes, SUBJECT, numbers, means, intervals(curve))
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
