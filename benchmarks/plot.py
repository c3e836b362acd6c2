"""The picture of the comparison."""

import statistics
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.plan import RUN_BY_RUN, VARIANTS
from ept.files import write_atomically
from ept.methods.registry import METHODS

# Methods have their colors as everywhere; what others do is gray and hatched.
STYLES = {
    "peft_pt": dict(color="#C8C8C8", hatch="////"),
    "recipe_dept": dict(color="#8C8C8C", hatch="...."),
    **{name: dict(color=METHODS[name].color) for name in ("pt", "dept", "ept")},
}
TASK_TITLES = {"rte": "RTE", "sst2": "SST-2", "mnli": "MNLI"}
WIDTH = 0.165


def draw(result: dict, grid: int, folder: Path) -> None:
    """Write performance.svg and performance.png: training and evaluation of a grid, with the spread of the rounds."""
    # Without these an unchanged picture would differ from one writing to the next.
    matplotlib.rcParams.update({"svg.hashsalt": "ept", "hatch.linewidth": 0.4, "font.size": 8})
    figure = Figure(figsize=(7.0, 2.9), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), ("training", "evaluation"), strict=True):
        _bars(axes, result, quantity, grid)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(VARIANTS), frameon=False, columnspacing=1.2)
    for suffix, metadata in (("svg", {"Date": None}), ("png", {})):
        with write_atomically(folder / f"performance.{suffix}") as temporary:
            figure.savefig(temporary, format=suffix, dpi=200, metadata=metadata)


def _bars(axes: Axes, result: dict, quantity: str, grid: int) -> None:
    tasks = result["plan"]["tasks"]
    for place, variant in enumerate(VARIANTS):
        runs = 1 if variant in RUN_BY_RUN else grid
        rounds = [
            next(
                rate["rounds"]
                for rate in result["rates"]
                if (rate["variant"], rate["task"], rate["runs"], rate["quantity"]) == (variant, task, runs, quantity)
            )
            for task in tasks
        ]
        medians = np.array([statistics.median(each) for each in rounds])
        spread = [medians - [min(each) for each in rounds], [max(each) for each in rounds] - medians]
        positions = np.arange(len(tasks)) + (place - (len(VARIANTS) - 1) / 2) * WIDTH
        bars = axes.bar(
            positions,
            medians,
            WIDTH,
            yerr=spread,
            edgecolor="#333333",
            linewidth=0.5,
            error_kw={"linewidth": 0.7},
            label=VARIANTS[variant],
            **STYLES[variant],
        )
        axes.bar_label(bars, fmt="{:.0f}", fontsize=6.5, padding=1)
    axes.set_xticks(range(len(tasks)), [TASK_TITLES.get(task, task) for task in tasks])
    axes.set_ylabel("examples per second")
    axes.set_title(f"{quantity}, grid of {grid} runs", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
