"""Entry of `make bench` and `make bench-full`: measure, then write their files.

Training and evaluation go to performance.json, .md, .svg and .png, prompts in use to serving.json and .md.
"""

import argparse
import datetime
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from benchmarks import hardware, report, sweeps
from benchmarks.backbones import device, has_bfloat16
from benchmarks.costs import beside_prompt_tuning, over_bare_backbone
from benchmarks.data import TaskData, load_tasks
from benchmarks.memory import measure_memory
from benchmarks.plan import Plan
from benchmarks.plot import draw
from benchmarks.rates import measure_rates
from benchmarks.score import Race, time_to_score
from benchmarks.serving import MINIATURE as MINIATURE_SERVING
from benchmarks.serving import ServingPlan, write_serving
from benchmarks.subjects import Subjects
from benchmarks.table import SHORT, Cell, time_to_cell
from benchmarks.theirs import quieten
from ept.files import write_json, write_text

# To see that everything works; its numbers say nothing.
MINIATURE = Plan(
    shape="tiny",
    tasks=("rte", "mnli"),
    grids=(1, 3),
    grid_once=3,
    rounds=1,
    slice_seconds=0.01,
    backbones=("tiny",),
    positions=2048,
    positions_bfloat16=2048,
)
MINIATURE_RACE = Race(score=0.0, runs=3, steps=4, warmup=1, evaluate_every=2, validation_rows=8, positions=2048)
MINIATURE_CELL = Cell(
    steps=4, evaluate_every=1, rates=(0.1, 0.3), seeds=2, batch_size=4, validation_rows=8, test_rows=16, peft_runs=2
)
HERE = Path(__file__).parent


def main(arguments: list[str] | None = None) -> None:
    """Run the comparison and write its files; nothing is written before all is measured."""
    options = _parse(arguments)
    quieten()
    threads = options.threads or hardware.cores()
    torch.set_num_threads(threads)
    plan, race = (MINIATURE, MINIATURE_RACE) if options.miniature else (Plan(), Race())
    cell = MINIATURE_CELL if options.miniature else Cell() if options.full else SHORT
    with tempfile.TemporaryDirectory(prefix="ept-bench-") as folder:
        result, rates = measure(plan, race, cell, options.full, threads, Path(folder))
    write_json(options.out / "performance.json", result)
    write_text(options.out / "performance.md", report.markdown(result, rates))
    draw(result, report.shown_grid(result), options.out)
    write_serving(MINIATURE_SERVING if options.miniature else ServingPlan(), options.out, _Clock())


def measure(plan: Plan, race: Race, cell: Cell, full: bool, threads: int, folder: Path) -> tuple[dict, list]:
    """Everything that performance.json holds, and the rates in it as `Rate`s; `folder` for files in between."""
    say = _Clock()
    data, tasks = load_tasks(plan.tasks, folder)
    subjects = Subjects(plan, str(folder / "trainer"))
    backbone = subjects.backbone()
    say(f"{data} data of {', '.join(plan.tasks)} ready")
    plan = replace(plan, positions=backbone.size.positions)
    if has_bfloat16():
        plan = replace(plan, positions_bfloat16=subjects.backbone("bfloat16").size.positions)
    memory = measure_memory(plan, tasks[-1], threads, plan.grids)
    say("memory done")
    rates = measure_rates(plan, subjects, tasks, say)
    costs = _costs(plan, backbone, tasks)
    say("costs over the bare backbone done")
    arrivals = time_to_score(race)
    say("time to a score done")
    cell = time_to_cell(cell, plan, tasks[0], threads)
    say("time to a table cell done")
    gpu = device() == "cuda"
    swept = _sweeps(plan, subjects, tasks[-1], say) if full else None
    targets = report.targets(rates, costs, plan.tasks, gpu) + report.cell_records(cell)
    if swept and gpu:
        targets.append(report.share_record(swept["rows"]))
    result = {
        "mode": "bench-full" if full else "bench",
        "date": datetime.date.today().isoformat(),
        "hardware": hardware.describe(),
        "threads": threads,
        "device": device(),
        "matrix_gflops": {
            dtype: hardware.matrix_rate(dtype) / 1e9
            for dtype in ("float32", "bfloat16")
            if dtype == "float32" or has_bfloat16()
        },
        "data": data,
        "plan": asdict(plan),
        "backbone": {"shape": plan.shape, "parameters": sum(p.numel() for p in backbone.backbone.model.parameters())},
        "notes": report.NOTES,
        "rates": report.rate_records(rates),
        "memory": memory,
        "costs": costs,
        "time_to_score": arrivals,
        "time_to_cell": cell,
        "targets": targets,
        "sweeps": swept,
        "seconds": say.elapsed(),
    }
    return result, rates


def _costs(plan: Plan, backbone, tasks: list[TaskData]) -> dict:
    seconds = plan.slice_seconds * plan.rounds
    return {
        "over_bare_backbone": {task.name: over_bare_backbone(backbone, task, plan, seconds) for task in tasks},
        "beside_prompt_tuning": {tasks[0].name: beside_prompt_tuning(backbone, tasks[0], plan, seconds)},
    }


def _sweeps(plan: Plan, subjects: Subjects, task: TaskData, say: "_Clock") -> dict:
    rate = hardware.matrix_rate()
    return {
        "task": task.name,
        "matrix_gflops": rate / 1e9,
        "rows": sweeps.measure_sweeps(plan, subjects.backbone(), task, rate, say),
        "over_bare_backbone": sweeps.costs_by_short_length(plan, subjects.backbone(), task),
    }


class _Clock:
    """Says what is done, with the seconds since the start."""

    def __init__(self):
        self.started = time.perf_counter()

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def __call__(self, text: str) -> None:
        print(f"{self.elapsed():6.0f} s  {text}", file=sys.stderr, flush=True)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--full", action="store_true", help="also sweep sizes and lengths (make bench-full)")
    parser.add_argument("--miniature", action="store_true", help="a tiny backbone for seconds, to see that all works")
    parser.add_argument("--threads", type=int, help="threads of every variant; as many as cores by default")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
