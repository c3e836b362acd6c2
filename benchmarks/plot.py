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

# Methods have their colors as everywhere, paler in float32; what others do is gray and hatched.
GRAYS = {"peft_pt": "#DDDDDD", "recipe_dept": "#9A9A9A"}
SHOWN = ("peft_pt", "peft_pt_grouped", "peft_pt_bf16", "recipe_dept_bf16", "pt", "pt_bf16", "ept", "ept_bf16")
TASK_TITLES = {"rte": "RTE", "sst2": "SST-2", "mnli": "MNLI"}
WIDTH = 0.105


def style(variant: str) -> dict:
    """The look of a variant's bars."""
    record = VARIANTS[variant]
    if not record.ours:
        hatch = "////" if record.padded else "...." if record.dtype == "float32" else ""
        return {"color": GRAYS[record.method], "hatch": hatch}
    return {"color": METHODS[record.method].color, "alpha": 0.5 if record.dtype == "float32" else 1.0}


def shown_variants(result: dict) -> list[str]:
    """Those of SHOWN that were measured."""
    measured = {rate["variant"] for rate in result["rates"]}
    return [variant for variant in SHOWN if variant in measured]


def draw(result: dict, grid: int, folder: Path) -> None:
    """Write performance.svg and performance.png: training and evaluation of a grid, with the spread of the rounds."""
    # Without these an unchanged picture would differ from one writing to the next.
    matplotlib.rcParams.update({"svg.hashsalt": "ept", "hatch.linewidth": 0.4, "font.size": 8})
    figure = Figure(figsize=(7.0, 3.3), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), ("training", "evaluation"), strict=True):
        _bars(axes, result, quantity, grid)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, columnspacing=1.2)
    for suffix, metadata in (("svg", {"Date": None}), ("png", {})):
        with write_atomically(folder / f"performance.{suffix}") as temporary:
            figure.savefig(temporary, format=suffix, dpi=200, metadata=metadata)


def _bars(axes: Axes, result: dict, quantity: str, grid: int) -> None:
    tasks = result["plan"]["tasks"]
    shown = shown_variants(result)
    for place, variant in enumerate(shown):
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
        positions = np.arange(len(tasks)) + (place - (len(shown) - 1) / 2) * WIDTH
        bars = axes.bar(
            positions,
            medians,
            WIDTH,
            yerr=spread,
            edgecolor="#333333",
            linewidth=0.5,
            error_kw={"linewidth": 0.7},
            label=VARIANTS[variant].title,
            **style(variant),
        )
        axes.bar_label(bars, fmt="{:.0f}", fontsize=5, padding=1)
    axes.set_xticks(range(len(tasks)), [TASK_TITLES.get(task, task) for task in tasks])
    axes.set_ylabel("examples per second")
    axes.set_title(f"{quantity}, grid of {grid} runs", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
