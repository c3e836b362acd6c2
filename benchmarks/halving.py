"""The learning rate that `halving: 2` chooses against that of the full grid: `python -m benchmarks.halving`.

Settings of config/config.yaml; for each method and task a grid of three rates (those of config/demo_rates.yaml) and
three seeds in one pack, trained in full and with halving. Writes halving.json and halving.md. About 25 minutes of a
core; what is trained already in the folder is not trained again.
"""

import argparse
import contextlib
from pathlib import Path
from typing import Any

from benchmarks import hardware
from benchmarks.trained import ROOT, Rows, Trained
from ept.config.configuration import load_configuration
from ept.files import write_json, write_text
from ept.methods.registry import METHODS
from ept.results.render import signed
from ept.results.statistics import estimate, metric_sample

HERE = Path(__file__).parent
TASKS = ["sst2", "mrpc", "rte", "cb", "cola"]
COMPARED = ["pt", "dept", "ept"]
SEEDS = [0, 1, 2]
# After a quarter of the steps one of three rates goes, after half of them another.
RUNGS = 2


def settings(tasks: list[str], steps: int) -> dict[str, Any]:
    """What differs from config/config.yaml in both ways; `runs_per_pass`: the seeds of one rate."""
    rates = load_configuration(ROOT / "config/demo_rates.yaml").training.learning_rates
    training = {"learning_rates": {method: rates[method] for method in COMPARED}, "runs_per_pass": len(SEEDS)}
    training |= {"steps": steps, "warmup_steps": steps // 10, "evaluate_every": steps // 4}
    return {"tasks": {"target": tasks, "source": []}, "methods": COMPARED, "seeds": SEEDS, "training": training}


def compared(full: Rows, halved: Rows) -> list[dict[str, Any]]:
    """For each method: how often both choose the same rates, and test scores by task, in percent.

    `cost` is the test score with halving minus that of the full grid in the mean over tasks, with its 95 % interval
    over seeds and examples.
    """
    found = []
    for method, by_task in full.items():
        tasks, samples = {}, []
        for task, whole in by_task.items():
            half, metric = halved[method][task], whole.pack.record.metrics[0]
            pair = [metric_sample(result, metric) for result in (whole, half)]
            samples.append(pair[1] - pair[0])
            tasks[task] = {
                "metric": metric,
                "rates": [result.record["learning_rates"] for result in (whole, half)],
                "test": [float(sample.scores.mean()) for sample in pair],
            }
        cost = estimate(samples)
        same = sum(each["rates"][0] == each["rates"][1] for each in tasks.values())
        found.append({"method": method, "same": same, "cost": cost.mean, "interval": cost.interval, "tasks": tasks})
    return found


def markdown(result: dict[str, Any]) -> str:
    """The table, and a line for each choice that differs."""
    machine = result["hardware"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores; {result['steps']} steps.",
        "",
        "| | same rate | test score, full grid | with halving | difference | CPU seconds, full grid | with halving |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    others = []
    for record in result["methods"]:
        title, tasks = METHODS[record["method"]].title, record["tasks"]
        full, halved = (sum(task["test"][way] for task in tasks.values()) / len(tasks) for way in (0, 1))
        low, high = record["interval"]
        difference = f"{signed(record['cost'])} ({signed(low)} to {signed(high)})"
        seconds = " | ".join(f"{seconds:.0f}" for seconds in record["cpu_seconds"])
        lines.append(
            f"| {title} | {record['same']} of {len(tasks)} | {full:.1f} | {halved:.1f} | {difference} | {seconds} |"
        )
        for name, task in tasks.items():
            wanted, chosen = (f"{rates['prompt']:g}" for rates in task["rates"])
            if wanted != chosen:
                change = signed(task["test"][1] - task["test"][0])
                others.append(f"{title} on {name} {chosen} in place of {wanted} ({change} points)")
    if others:
        lines += ["", f"Other rates of the prompt: {'; '.join(others)}."]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Train both ways, compare them and write halving.json and halving.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.halving", description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the workflow runs (%(default)s)")
    parser.add_argument("--tasks", nargs="+", default=TASKS, help="target tasks of the demonstration (%(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="steps of a run (%(default)s)")
    parser.add_argument("--cores", type=int, default=hardware.cores(), help="jobs at one time (%(default)s)")
    options = parser.parse_args(arguments)
    out, changes = options.out.resolve(), settings(options.tasks, options.steps)
    with contextlib.chdir(options.folder):
        ways = []
        for name, rungs in (("halving/full", 0), ("halving/halved", RUNGS)):
            training = changes["training"] | {"halving": rungs}
            changed = changes | {"training": training}
            ways.append(Trained(ROOT / "config/config.yaml", name, changed, options.cores))
        records = [
            record | {"cpu_seconds": [way.cpu_seconds(record["method"]) for way in ways]}
            for record in compared(*(way.rows() for way in ways))
        ]
    result = {"hardware": hardware.describe(), "steps": options.steps, "seeds": len(SEEDS), "methods": records}
    write_json(out / "halving.json", result)
    write_text(out / "halving.md", markdown(result))


if __name__ == "__main__":
    main()
