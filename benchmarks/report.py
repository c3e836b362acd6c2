"""Medians, ratios and targets out of what was measured, and the Markdown table."""

import math
import statistics
from dataclasses import asdict, dataclass

from benchmarks.plan import PEERS, RUN_BY_RUN, VARIANTS
from benchmarks.rates import Rate

NOTES = {
    "peers": "PEFT and the DePT recipe under the Trainer. As released: float32, every text padded to the source "
    "length, prediction with the Trainer's defaults (3 pieces at most, then a pass for the loss). Grouped: batches "
    "grouped by length and padded to their longest row, prediction sorted by length with the fewest pieces that tell "
    "the labels apart and no pass for the loss. bfloat16: the backbone alone; the prompt is float32.",
    "run_by_run": "PEFT and the recipe are measured on one run; a grid of N runs is assumed to take N times as long, "
    "so that their examples per second stay the same. Start-up and loading, which they repeat, are left out.",
    "examples": "Every variant has batches of the same size from the same rows. Those that pad by batch are timed on "
    "batches whose mean padded length is that of an epoch, and predict the same validation rows.",
    "memory": "Peak of a training step in a process of its own. CPU: resident memory with all libraries; GPU: what "
    "torch allocated.",
    "backbone": "Random weights, without dropout. Prompts, gradients and optimizer are float32 in every variant.",
    "time_to_score": "Demonstration benchmark and backbone in float32, grid of nine: until three seeds of one learning "
    "rate have arrived, the rest of the grid trained as long. PEFT, grouped: the three one after another, times three.",
}


@dataclass(frozen=True)
class Target:
    """A ratio that the project wants to reach: the faster of `ours` over the fastest of `theirs`, on each task."""

    name: str
    quantity: str
    runs: int
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    wanted: float


PT, EPT = ("pt", "pt_bf16"), ("ept", "ept_bf16")
BEST, RELEASED = "best-configured PEFT PT", "PEFT PT as released (float32)"


def _targets(grid: int) -> tuple[Target, ...]:
    return (
        Target(f"training, grid of {grid}: EPT over {BEST}", "training", grid, EPT, PEERS["PT"], 2.0),
        Target(f"training, grid of {grid}: PT over {BEST}", "training", grid, PT, PEERS["PT"], 1.5),
        Target(f"evaluation, grid of {grid}: EPT over {BEST}", "evaluation", grid, EPT, PEERS["PT"], 4.0),
        Target(f"evaluation, grid of {grid}: PT over {BEST}", "evaluation", grid, PT, PEERS["PT"], 3.0),
        Target(f"training, grid of {grid}: EPT over {RELEASED}", "training", grid, ("ept",), ("peft_pt",), 4),
        Target(f"evaluation, grid of {grid}: EPT over {RELEASED}", "evaluation", grid, ("ept",), ("peft_pt",), 6),
    )


CPU_TARGETS, GPU_TARGETS = _targets(9), _targets(27)
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


def fastest(rates: list[Rate], variants: tuple[str, ...], quantity: str, runs: int, task: str) -> float | None:
    """The highest median among variants; None where none was measured."""
    found = [median_rate(rates, variant, quantity, runs, task) for variant in variants]
    return max((rate for rate in found if rate is not None), default=None)


def ratio_record(rates: list[Rate], target: Target, tasks: tuple[str, ...]) -> dict | None:
    """Our rate over theirs by task, its geometric mean, and whether that is enough; None where not measured."""
    by_task = {}
    for task in tasks:
        ours, theirs = (
            fastest(rates, variants, target.quantity, target.runs, task) for variants in (target.ours, target.theirs)
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


def cell_records(found: dict) -> list[dict]:
    """How many times as fast as PEFT a table cell is there, with and without halving."""
    records, grid = [], f"{found['runs']} runs of {found['steps']} steps on {found['task']}"
    for way, wanted in (("ept", 3.0), ("ept, halving", 6.0)):
        name = f"time to a table cell, {grid}: {way} over PEFT PT"
        reached = found["ratios"][way]
        records.append({"name": name, "by_task": {}, "reached": reached, "at_least": wanted, "met": reached >= wanted})
    return records


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
    grid, rounds = shown_grid(result), max(len(rate.rounds) for rate in rates)
    processor = hardware["gpu"] or f"{hardware['cpu']}, {hardware['cores']} cores"
    lines = [
        f"{processor}; {result['backbone']['shape']} ({result['backbone']['parameters'] / 1e6:.1f} M parameters), "
        f"{result['data']} lengths, grid of {grid}; examples per second, medians of {rounds} rounds. "
        f"Bfloat16 instructions: {hardware['bfloat16'] or 'none'}. × best: over the fastest PEFT PT on each task.",
        "",
        f"| | {' | '.join(f'train {task}' for task in tasks)} | × best | {' | '.join(f'evaluate {t}' for t in tasks)} "
        "| × best | peak MiB |",
        f"| --- {'| ---: ' * (2 * len(tasks) + 3)}|",
    ]
    measured = {rate.variant for rate in rates}
    lines += [_row(variant, result, rates, grid) for variant in VARIANTS if variant in measured]
    lines += ["", "| target | wanted | reached | |", "| --- | ---: | ---: | --- |"]
    for record in result["targets"]:
        wanted = f"≥ {record['at_least']:.2f}" if "at_least" in record else f"≤ {record['at_most']:.2f}"
        met = "met" if record["met"] else "not met"
        lines.append(f"| {record['name']} | {wanted} | {record['reached']:.2f} | {met} |")
    lines += ["", *_cell_lines(result["time_to_cell"]), "", *_arrival_lines(result["time_to_score"])]
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
        own = [median_rate(rates, variant, quantity, grid, task) for task in tasks]
        theirs = [fastest(rates, PEERS["PT"], quantity, grid, task) for task in tasks]
        mean = geometric_mean([one / other for one, other in zip(own, theirs, strict=True)])
        cells += [*(f"{rate:.1f}" for rate in own), f"{mean:.2f}"]
    peaks = [each for each in result["memory"] if each["variant"] == variant]
    shown = [each for each in peaks if each["runs"] == (grid if VARIANTS[variant].ours else 1)]
    cells.append(f"{shown[0]['peak_mib']:.0f}" if shown else "")
    return f"| {VARIANTS[variant].title} | {' | '.join(cells)} |"


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
        lines.append(f"| {VARIANTS[variant].title} | {seconds} | {steps} |")
    return lines


def _cell_lines(found: dict) -> list[str]:
    assumed = "" if found["peft_runs"] == found["runs"] else f" (of PEFT's, {found['peft_runs']} were trained)"
    lines = [
        f"Seconds to one cell of a table: {found['runs']} runs{assumed} of {found['steps']} steps on {found['task']} "
        f"in {found['dtype']}, validation, choice of the rate, test scores with an interval, start of the process "
        "included:",
        "",
        "| | seconds | × PEFT |",
        "| --- | ---: | ---: |",
    ]
    titles = {"peft_pt": "PEFT PT, grouped, one run after another", "pt": "PT (ours)", "ept": "EPT (ours)"}
    for way, record in found["ways"].items():
        method, _, halving = way.partition(", ")
        title = titles[method] + (", halving: 2" if halving else "")
        lines.append(f"| {title} | {record['seconds']:.0f} | {found['ratios'][way]:.2f} |")
    return lines


def _sweep_lines(sweeps: dict) -> list[str]:
    lines = ["| EPT against | value | ms per example | share of matrix rate |", "| --- | --- | ---: | ---: |"]
    lines += [
        f"| {row['sweep']} | {row['value']} | {1000 / row['examples_per_second']:.1f} | {row['matrix_share']:.0%} |"
        for row in sweeps["rows"]
    ]
    lines += ["", "| s | EPT's step over a bare backbone's |", "| ---: | ---: |"]
    return lines + [f"| {row['short_length']} | {row['ratio']:.3f} |" for row in sweeps["over_bare_backbone"]]
