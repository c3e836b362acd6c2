"""Whether bfloat16 reaches the scores of float32: `python -m benchmarks.equivalence`, about 20 minutes of a core.

A configuration's methods and tasks on all data, once with the backbone in float32 and once in bfloat16, with the same
seeds. For each method the test score in bfloat16 minus that in float32, paired by seed and test example, with its 95 %
interval; equivalent where the mean over tasks lies within one point with its whole interval. Writes equivalence.json
and equivalence.md. `--config` names another configuration: for SmolLM2 config/smollm2.yaml, hours of a GPU.
"""

import argparse
import contextlib
from pathlib import Path
from typing import Any

from benchmarks import hardware
from benchmarks.trained import ROOT, Rows, Trained
from ept.files import write_json, write_text
from ept.methods.registry import METHODS
from ept.results.render import signed
from ept.results.statistics import estimate, metric_sample

HERE = Path(__file__).parent
DTYPES = ("float32", "bfloat16")
WITHIN = 1.0
"""Points that a difference may reach."""


def compared(first: Rows, second: Rows) -> list[dict[str, Any]]:
    """For each method second minus first in points: the mean over tasks and each task, with 95 % intervals."""
    found = []
    for method, by_task in first.items():
        samples = {}
        for task, result in by_task.items():
            metric = result.pack.record.metrics[0]
            samples[task] = metric_sample(second[method][task], metric) - metric_sample(result, metric)
        mean = estimate(list(samples.values()))
        low, high = mean.interval
        alone = {task: estimate([sample]) for task, sample in samples.items()}
        found.append(
            {
                "method": method,
                "difference": mean.mean,
                "interval": [low, high],
                "within": max(-low, high) <= WITHIN,
                "tasks": {task: {"difference": e.mean, "interval": list(e.interval)} for task, e in alone.items()},
            }
        )
    return found


def markdown(result: dict[str, Any]) -> str:
    """The table."""
    machine, records = result["hardware"], result["methods"]
    tasks = list(records[0]["tasks"])
    head = ["", "mean over tasks", f"within {WITHIN:.0f} point", *tasks, *(f"CPU seconds, {dtype}" for dtype in DTYPES)]
    rule = ["---", "---:", "---", *("---:" for _ in tasks), "---:", "---:"]
    rows = [
        [
            METHODS[record["method"]].title,
            _points(record),
            "yes" if record["within"] else "no",
            *(_points(record["tasks"][task]) for task in tasks),
            *(f"{seconds:.0f}" for seconds in record["cpu_seconds"]),
        ]
        for record in records
    ]
    instructions = f"bfloat16 instructions: {machine['bfloat16'] or 'none'}"
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *rows))
    return f"{machine['cpu']}, {machine['cores']} cores, {instructions}.\n\n{table}"


def _points(record: dict[str, Any]) -> str:
    low, high = record["interval"]
    return f"{signed(record['difference'])} ({signed(low)} to {signed(high)})"


def main(arguments: list[str] | None = None) -> None:
    """Train in both precisions, compare them and write equivalence.json and equivalence.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.equivalence", description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "config/config.yaml", help="what is trained")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the workflow runs (%(default)s)")
    parser.add_argument("--tasks", nargs="+", help="target tasks in place of the configuration's")
    parser.add_argument("--steps", type=int, help="steps of a run in place of the configuration's")
    parser.add_argument("--cores", type=int, default=hardware.cores(), help="jobs at one time (%(default)s)")
    options = parser.parse_args(arguments)
    configuration, out = options.config.resolve(), options.out.resolve()
    changes: dict[str, Any] = {"tasks": {"target": options.tasks}} if options.tasks else {}
    if options.steps:
        steps = {"steps": options.steps, "warmup_steps": options.steps // 10, "evaluate_every": options.steps // 4}
        changes["training"] = steps
    with contextlib.chdir(options.folder):
        ways = [
            Trained(configuration, f"equivalence/{dtype}", changes | {"backbone": {"dtype": dtype}}, options.cores)
            for dtype in DTYPES
        ]
        records = [
            record | {"cpu_seconds": [way.cpu_seconds(record["method"]) for way in ways]}
            for record in compared(*(way.rows() for way in ways))
        ]
    result = {"hardware": hardware.describe(), "configuration": configuration.name, "methods": records}
    write_json(out / "equivalence.json", result)
    write_text(out / "equivalence.md", markdown(result))


if __name__ == "__main__":
    main()
