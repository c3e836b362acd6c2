"""Medians, ratios and targets out of what was measured, and the Markdown table."""

import math
import statistics
from dataclasses import asdict, dataclass

from benchmarks.plan import OURS, RUN_BY_RUN, VARIANTS
from benchmarks.rates import Rate

NOTES = {
    "run_by_run": "PEFT and the recipe are measured on one run; a grid of N runs is reckoned to take N times as long, "
    "so that their examples per second stay the same (start-up and loading, which they also repeat, are left out).",
    "examples": "Every variant sees batches of the same size from the same rows. Ours are timed on batches whose mean "
    "padded length is that of an epoch; the others pad every batch to the source length, so that all cost the same.",
    "evaluation": "PEFT and the recipe: the Trainer's predict_with_generate, 3 pieces at most, then a forward pass for "
    "the loss. Ours: predict_split.",
    "memory": "Peak of a training step in a process of its own. CPU: resident memory with all libraries; GPU: what "
    "torch allocated.",
    "backbone": "Random weights, without dropout, of the same type for every variant.",
    "time_to_score": "Demonstration benchmark and backbone, grid of nine: until three seeds of one learning rate have "
    "arrived, the rest of the grid trained as long. PEFT: the three one after another, times three.",
}


@dataclass(frozen=True)
class Target:
    """A ratio that the project wants to reach."""

    name: str
    quantity: str
    runs: int
    ours: str
    theirs: str
    wanted: float


CPU_TARGETS = (
    Target("training, grid of 9: EPT over PEFT PT", "training", 9, "ept", "peft_pt", 4.0),
    Target("training, grid of 9: EPT over DePT recipe", "training", 9, "ept", "recipe_dept", 3.0),
    Target("training, grid of 9: PT over PEFT PT", "training", 9, "pt", "peft_pt", 2.5),
    Target("evaluation, grid of 9: EPT over PEFT PT", "evaluation", 9, "ept", "peft_pt", 6.0),
)
GPU_TARGETS = (Target("training, grid of 27: EPT over PEFT PT", "training", 27, "ept", "peft_pt", 10.0),)
MOST_OVER_BARE, MOST_OVER_PT, LEAST_SHARE = 1.03, 0.80, 0.40


def geometric_mean(values: list[float]) -> float:
    """The geometric mean of positive numbers."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def median_rate(rates: list[Rate], variant: str, quantity: str, runs: int, task: str) -> float | None:
    """Median examples per second; None where it was not measured. Run-by-run variants have one rate for all `runs`."""
    wanted = 1 if variant in RUN_BY_RUN else runs
    for rate in rates:
        if (rate.variant, rate.quantity, rate.runs, rate.task) == (variant, quantity, wanted, task):
            return statistics.median(rate.rounds)
    return None


def rate_records(rates: list[Rate]) -> list[dict]:
    """The rates for performance.json, each with its median."""
    return [asdict(rate) | {"median": statistics.median(rate.rounds), "unit": "examples per second"} for rate in rates]


def ratio_record(rates: list[Rate], target: Target, tasks: tuple[str, ...]) -> dict | None:
    """Our rate over theirs by task, its geometric mean, and whether that is enough; None where not measured."""
    by_task = {}
    for task in tasks:
        ours, theirs = (
            median_rate(rates, variant, target.quantity, target.runs, task) for variant in (target.ours, target.theirs)
        )
        if ours is None or theirs is None:
            return None
        by_task[task] = ours / theirs
    reached = geometric_mean(list(by_task.values()))
    return {
        "name": target.name,
        "by_task": by_task,
        "reached": reached,
        "at_least": target.wanted,
        "met": reached >= target.wanted,
    }


def cost_record(name: str, measured: dict[str, dict], most: float) -> dict:
    """A time ratio by task, its geometric mean, and whether that is little enough."""
    by_task = {task: found["ratio"] for task, found in measured.items()}
    reached = geometric_mean(list(by_task.values()))
    return {"name": name, "by_task": by_task, "reached": reached, "at_most": most, "met": reached <= most}


def targets(rates: list[Rate], costs: dict[str, dict[str, dict]], tasks: tuple[str, ...], gpu: bool) -> list[dict]:
    """Every target with what was reached; the share of the matrix rate, of `share_record`, is not among them."""
    ratios = [ratio_record(rates, target, tasks) for target in (GPU_TARGETS if gpu else CPU_TARGETS)]
    return [
        *(record for record in ratios if record),
        cost_record("EPT's step over a bare backbone's", costs["over_bare_backbone"], MOST_OVER_BARE),
        cost_record("EPT's step over PT's at equal padding", costs["beside_prompt_tuning"], MOST_OVER_PT),
    ]


def share_record(rows: list[dict]) -> dict:
    """The largest pack's share of the matrix rate, wanted on a GPU; `rows` of the sweeps."""
    reached = max((row for row in rows if row["sweep"] == "pack size"), key=lambda row: row["value"])["matrix_share"]
    return {
        "name": "share of the matrix rate, largest pack",
        "by_task": {},
        "reached": reached,
        "at_least": LEAST_SHARE,
        "met": reached >= LEAST_SHARE,
    }


def markdown(result: dict, rates: list[Rate]) -> str:
    """The tables for reading."""
    hardware, tasks = result["hardware"], result["plan"]["tasks"]
    grid = shown_grid(result)
    processor = hardware["gpu"] or f"{hardware['cpu']}, {hardware['cores']} cores"
    lines = [
        f"{processor}; {result['backbone']['shape']} ({result['backbone']['parameters'] / 1e6:.1f} M parameters), "
        f"{result['dtype']}, {result['data']} lengths, grid of {grid}; examples per second, medians of "
        f"{result['plan']['rounds']} rounds.",
        "",
        f"| | {' | '.join(f'train {task}' for task in tasks)} | × PEFT | {' | '.join(f'evaluate {t}' for t in tasks)} "
        "| × PEFT | peak MiB |",
        f"| --- {'| ---: ' * (2 * len(tasks) + 3)}|",
    ]
    lines += [_row(variant, result, rates, grid) for variant in VARIANTS]
    lines += ["", "| target | wanted | reached | |", "| --- | ---: | ---: | --- |"]
    for record in result["targets"]:
        wanted = f"≥ {record['at_least']:.2f}" if "at_least" in record else f"≤ {record['at_most']:.2f}"
        met = "met" if record["met"] else "not met"
        lines.append(f"| {record['name']} | {wanted} | {record['reached']:.2f} | {met} |")
    lines += ["", *_arrival_lines(result["time_to_score"])]
    if result["sweeps"]:
        lines += ["", *_sweep_lines(result["sweeps"])]
    return "\n".join(lines) + "\n"


def shown_grid(result: dict) -> int:
    """The grid of the table and the plot: nine on a CPU, the largest on a GPU."""
    grids = result["plan"]["grids"]
    return 9 if 9 in grids and not result["hardware"]["gpu"] else max(grids)


def _row(variant: str, result: dict, rates: list[Rate], grid: int) -> str:
    tasks, cells = result["plan"]["tasks"], []
    for quantity in ("training", "evaluation"):
        own, theirs = (
            [median_rate(rates, name, quantity, grid, task) for task in tasks] for name in (variant, "peft_pt")
        )
        mean = geometric_mean([one / other for one, other in zip(own, theirs, strict=True)])
        cells += [*(f"{rate:.1f}" for rate in own), f"{mean:.2f}"]
    peaks = [each for each in result["memory"] if each["variant"] == variant]
    shown = [each for each in peaks if each["runs"] == (grid if variant in OURS else 1)]
    cells.append(f"{shown[0]['peak_mib']:.0f}" if shown else "")
    return f"| {VARIANTS[variant]} | {' | '.join(cells)} |"


def _arrival_lines(race: dict) -> list[str]:
    lines = [
        f"Seconds until a grid of {race['runs']} reaches {race['score']:.0f} % validation accuracy on the "
        f"demonstration's {race['task']}:",
        "",
        "| | seconds | steps of the three seeds |",
        "| --- | ---: | --- |",
    ]
    for variant, found in race["arrivals"].items():
        seconds = "not reached" if found["seconds"] is None else f"{found['seconds']:.0f}"
        steps = ", ".join("–" if step is None else str(step) for step in found["steps"])
        lines.append(f"| {VARIANTS[variant]} | {seconds} | {steps} |")
    return lines


def _sweep_lines(sweeps: dict) -> list[str]:
    lines = ["| EPT against | value | ms per example | share of matrix rate |", "| --- | --- | ---: | ---: |"]
    lines += [
        f"| {row['sweep']} | {row['value']} | {1000 / row['examples_per_second']:.1f} | {row['matrix_share']:.0%} |"
        for row in sweeps["rows"]
    ]
    lines += ["", "| s | EPT's step over a bare backbone's |", "| ---: | ---: |"]
    return lines + [f"| {row['short_length']} | {row['ratio']:.3f} |" for row in sweeps["over_bare_backbone"]]
