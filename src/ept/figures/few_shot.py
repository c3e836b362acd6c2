"""Few-shot curves: average score over k."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ept.figures.data import Results, Row, intervals
from ept.figures.style import legend_below, majority_line, new_figure, plot_method

TITLES = {"scratch": "from scratch", "source": "from a source prompt"}
# Between neighboring curves, in powers of two.
APART = 0.07


def draw(results: Results) -> Figure:
    """One panel for runs from scratch and one for runs from a source prompt; one curve a method, with its intervals."""
    rows = [row for table in few_shot_tables(results) for row in results.averages(table)]
    starts = [start for start in TITLES if any(row["source"] == start for row in rows)]
    figure = new_figure(2.8)
    panels = figure.subplots(1, len(starts), sharey=True, squeeze=False)[0]
    for axes, start in zip(panels, starts, strict=True):
        methods = list(dict.fromkeys(row["method"] for row in rows if row["source"] == start))
        for place, method in enumerate(methods):
            curve = [row for row in rows if (row["method"], row["source"]) == (method, start)]
            # Curves stand a little apart (in powers of two), so that no interval hides another.
            _plot(axes, method, curve, (place - (len(methods) - 1) / 2) * APART)
        majority_line(axes, rows[0]["majority_baseline"])
        ks = sorted({_k(row) for row in rows})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ks, [f"{k}" for k in ks])
        axes.set(title=TITLES[start], xlabel="examples (k)")
    panels[0].set_ylabel("average test score (%)")
    legend_below(figure, 4)
    return figure


def few_shot_tables(results: Results) -> list[str]:
    """The few-shot tables of the configuration by k."""
    tables = [name for name in results.experiment.default_tables if name.startswith("fewshot_k")]
    return sorted(tables, key=lambda name: int(name.removeprefix("fewshot_k")))


def _plot(axes: Axes, method: str, curve: list[Row], shift: float) -> None:
    means = [row["mean"] for row in curve]
    plot_method(axes, method, [_k(row) * 2**shift for row in curve], means, intervals(curve))


def _k(row: Row) -> int:
    return int(str(row["regime"]).removeprefix("k"))
