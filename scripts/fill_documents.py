"""Write the generated parts of README.md and docs/: `make documents`.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`; PARTS says what each is made from. `--check` writes
nothing and exits with 1 if a part differs from what would be written. `--only NAME` limits either to some parts.
"""

import argparse
import csv
import difflib
import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

import torch

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.t5 import T5
from ept.backbones.t5_config import T5Config
from ept.config.configuration import load_configuration, parse_configuration
from ept.config.settings import BaselineSettings, EptSettings, PromptSettings
from ept.cost.estimate import LABEL_PIECES, backbone_shape
from ept.cost.hardware import GIB, GPUS
from ept.cost.plan import plan_text, priced
from ept.cost.resources import JobResources
from ept.demo.identity import BACKBONE_FOLDER
from ept.errors import InputError
from ept.methods.build import build_prompt_module, build_weight_module
from ept.methods.registry import METHODS
from ept.plan.experiment import Experiment
from ept.results.render import signed
from ept.tasks.registry import TASKS

ROOT = Path(__file__).resolve().parent.parent
PART = re.compile(r"(?P<head><!-- generated: (?P<name>[\w-]+) -->\n)(?P<text>.*?)(?P<tail>\n<!-- end -->)", re.DOTALL)

# What papers print for the same method on T5-base.
PRINTED = {
    "fine_tuning": "220M",
    "adapter": "1.9M",
    "adapterdrop": "1.1M",
    "bitfit": "280K",
    "lora": "3.8M",
    "lst": "3.8M",
    "pt": "76.8K",
    "spot": "76.8K",
    "attempt": "232K",
    "mpt": "77.6K",
    "dept": "76.8K",
    "ulpt": "7.9K",
    "dpt": "9.0K",
    "accept": "74.9K",
}
# Where the learning rates of methods inside the backbone come from.
RATE_SOURCES = {
    "fine_tuning": "released code of ATTEMPT",
    "adapter": "released code of ATTEMPT",
    "adapterdrop": "released code of compacter",
    "bitfit": "released code of ATTEMPT",
    "lora": "released code of LST",
    "lst": "released code of LST",
}


def table(head: list[str], rows: list[list[str]], align: str = "") -> str:
    """A Markdown table; `align` has a letter per column, r for right."""
    rule = ["---:" if letter == "r" else "---" for letter in align.ljust(len(head), "l")]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def experiment(name: str) -> Experiment:
    """The experiment of a shipped configuration."""
    return Experiment(load_configuration(ROOT / "config" / f"{name}.yaml"))


# ---- Tasks and training ----------------------------------------------------------------------------------------------


def tasks() -> str:
    """The task records."""
    rows = []
    for task in TASKS.values():
        labels = " ".join(task.labels) or "the answer"
        if len(task.labels) > 3:
            labels = f"{task.labels[0]} {task.labels[1]} … {task.labels[-1]}"
        data = f"{task.suite}/{task.config}"
        cells = [task.name, data, f"`{task.template}`", labels, ", ".join(task.metrics), task.split]
        rows.append([*cells, str(task.source_length)])
    return table(["task", "data set", "source text", "labels", "metrics", "split", "length"], rows, "llllllr")


def training() -> str:
    """The defaults of full-data and few-shot training."""
    config = parse_configuration({"tasks": {"target": ["rte"], "source": ["mnli"]}})
    full, few = config.training, config.few_shot
    rows = [
        ["batch size", str(full.batch_size), f"{few.batch_size}, or k if k is smaller"],
        [
            "steps",
            "30,000 below 100,000 published training rows (counted before carving), else 300,000",
            str(few.steps),
        ],
        ["warm-up steps", str(full.warmup_steps), str(few.warmup_steps)],
        ["evaluation", *(f"every {section.evaluate_every:,} steps and at the end" for section in (full, few))],
    ]
    groups: dict[tuple, list[str]] = {}
    for name in METHODS:
        found = [config.learning_rates(section, name) for section in (full, few)]
        for group in found[0]:
            grids = tuple(", ".join(f"{rate:g}" for rate in rates[group]) for rates in found)
            groups.setdefault((group, grids), []).append(name)
    for (group, grids), names in groups.items():
        rows.append([f"learning rate `{group}`: {', '.join(names)}", *grids])
    return table(["", "full data and source prompts", "few-shot"], rows)


# ---- Parameters ------------------------------------------------------------------------------------------------------


def t5_base() -> EncoderDecoder:
    """A backbone with the shapes of T5-base and no numbers."""
    sizes = dict(d_model=768, d_ff=3072, num_layers=12, num_decoder_layers=12, num_heads=12)
    with torch.device("meta"):
        model = T5(T5Config(**sizes))
    model.lm_head.weight = model.shared.weight
    return EncoderDecoder(model)


def module(method: str, length: int = 256, sources: int = 5, **options: int | str):
    """The module of a method on T5-base, untrained."""
    if not METHODS[method].packed:
        return build_weight_module(method, t5_base(), BaselineSettings(), seed=0)
    prompts = torch.ones(sources, 100, 768)
    settings = EptSettings(**options)
    return build_prompt_module(method, torch.ones(110, 768), PromptSettings(), settings, length, [0], sources=prompts)


def parameters() -> str:
    """Trained and stored parameters of every method on T5-base with the defaults."""
    rows = []
    for method in METHODS:
        found = module(method)
        counts = [f"{found.trained_parameters:,}", f"{found.stored_parameters:,}"]
        rows.append([f"`{method}`", *counts, PRINTED.get(method, "")])
        found.close()
    return table(["method", "trained", "stored", "printed"], rows, "lrrr")


def sums() -> str:
    """Sums that explain printed numbers."""
    counts = {}
    for method in ("lora", "bitfit", "adapterdrop", "lst"):
        found = module(method)
        counts[method] = {name: tensor.numel() for name, tensor in found.tensors(0).items()}
        found.close()
    head = counts["bitfit"].pop("lm_head.bias")
    biases = sum(counts["bitfit"].values())
    maps = sum(count for name, count in counts["lst"].items() if ".down." in name or ".up." in name)
    rows = [
        ["BitFit: the bias of lm_head", f"{head:,}"],
        ["BitFit: all other biases", f"{biases:,}"],
        ["LoRA and the biases of BitFit without lm_head", f"{sum(counts['lora'].values()) + biases:,}"],
        ["AdapterDrop and the norms of its dropped layers", f"{sum(counts['adapterdrop'].values()) + 768 * 25:,}"],
        ["LST: maps between the sizes", f"{maps:,} ({100 * maps / sum(counts['lst'].values()):.0f} %)"],
    ]
    return table(["sum", "parameters"], rows, "lr")


def prompt_parameters() -> str:
    """Parameters of the prompt methods by source length and option."""
    cases: list[tuple[str, int, dict]] = []
    for method, record in METHODS.items():
        if not record.packed:
            continue
        if record.start_from == "mixture":
            cases += [(method, 256, {"sources": 5}), (method, 256, {"sources": 4})]
        else:
            cases.append((method, 256, {}))
        if record.rank is not None:
            cases += [(method, 348, {}), (method, 512, {})]
        if "ept" in record.options and not record.overrides:
            options = [("budget", "matched"), ("fusion", "none"), ("fusion", "projected"), ("projection", "none")]
            options += [("projection", "elementwise"), ("projection", "full"), ("spaces", 2), ("spaces", 8)]
            cases += [(method, 256, {key: value}) for key, value in options]
    rows = []
    for method, length, options in cases:
        try:
            found = module(method, length, **options)
        except InputError:
            # A method with a fixed budget cannot have every option.
            continue
        shown = ", ".join(f"`{key}: {value}`" for key, value in options.items())
        counts = [f"{found.trained_parameters:,}", f"{found.stored_parameters:,}"]
        rows.append([f"`{method}`", shown, str(length), str(getattr(found, "rank", "")), *counts])
    return table(["method", "options", "m", "r", "trained", "stored"], rows, "llrrrr")


def rates() -> str:
    """Learning rates of the methods inside the backbone."""
    rows = []
    for name, record in METHODS.items():
        if not record.packed:
            grids = [record.rates, record.few_shot_rates]
            shown = ["; ".join(", ".join(f"{rate:g}" for rate in rates) for rates in grid.values()) for grid in grids]
            rows.append([f"`{name}`", *shown, RATE_SOURCES.get(name, "")])
    return table(["method", "full data", "few-shot", "from"], rows)


# ---- Costs -----------------------------------------------------------------------------------------------------------


def plan_example() -> str:
    """The output of `ept plan` for T5-3B."""
    return f"```\n$ ept plan --config config/t5-3b.yaml\n{plan_text(experiment('t5-3b'))}\n```"


def dequantizing() -> str:
    """What dequantizing adds to a pass on an H100: half a byte read and two written per weight, twice."""
    (rate,) = [gpu.rate("bfloat16") for gpu in GPUS if gpu.name == "H100"]
    seconds = 2.5 / 3.35e12
    lines = [f"- as long as the two operations per weight of {seconds * rate / 2:.0f} positions, at the assumed rate"]
    for name in ("llama2-7b", "t5-3b"):
        plan = experiment(name)
        shape = backbone_shape(plan)
        a_pass = shape.training_flops(16, 132, LABEL_PIECES, 16 * LABEL_PIECES) / rate
        share = 100 * 2 * shape.linear_parameters * seconds / a_pass
        lines.append(f"- {plan.config.backbone.name}: {share:.0f} % of a pass of 16 texts of 32 tokens with PT's 100")
    return "\n".join(lines)


def paper_run() -> str:
    """Memory and hours of the large configurations on an A100."""
    (a100,) = [gpu for gpu in GPUS if gpu.name == "A100"]
    rows = []
    for name in ("paper", "t5-v1_1-base", "t5-3b", "t5-11b", "llama2-7b"):
        plan = experiment(name)
        packs = priced(plan, backbone_shape(plan), gpu=True)
        parts = (
            [found for found in packs if found.pack.regime == "source"],
            [found for found in packs if found.pack.regime == "full"],
            [found for found in packs if found.pack.k is not None],
        )
        hours = [sum(found.cost.hours(a100) for found in part) for part in parts]
        sizes = [max(getattr(found.cost, size) for found in packs) / GIB for size in ("least_bytes", "batch_bytes")]
        memory = max(JobResources(plan).memory_mb(pack) for pack in plan.packs) / 1000
        longest = max(found.cost.hours(a100) for found in packs)
        cells = [f"`{name}.yaml`", f"{len(packs):,}", *(f"{size:.1f}" for size in sizes), f"{memory:g}"]
        rows.append([*cells, *(f"{time:,.0f}" for time in (*hours, longest)), f"{-int(-longest // 24)}"])
    head = ["configuration", "jobs", "GPU GiB, one row", "GPU GiB, batch", "main memory, GB", "hours: source prompts"]
    return table([*head, "full data", "few-shot", "longest job", "attempts"], rows, "l" + "r" * 9)


# ---- Results and speed -----------------------------------------------------------------------------------------------


def main_table() -> str | None:
    """The averages of results/main.md; None before `make run`."""
    # An average over one task is left out of the table; the task itself stands for it.
    return result_table("main", ["method", "GLUE", "SuperGLUE", *titles("superglue"), "All"])


def demo_full(*suites: str, averages: tuple[str, ...] = ()) -> str | None:
    """The tasks of some suites in the main table of config/demo_full.yaml; None before it is made."""
    wanted = [title for suite in suites for title in titles(suite)]
    return result_table("demo_full/main", ["method", "parameters", *averages, *wanted])


def few_shot_averages() -> str | None:
    """The averages of every row over GLUE and SuperGLUE in config/demo_full.yaml, by k; None before any is made.

    The tables are of the thirteen judged tasks alone (docs/results.md has the commands).
    """
    names = {"all data": "main", "k = 4": "fewshot_k4", "k = 16": "fewshot_k16", "k = 32": "fewshot_k32"}
    wanted = ["method", "parameters", "All"]
    tables = {column: result_cells(f"demo_full_judged/{name}", wanted)[1:] for column, name in names.items()}
    found = {column: {method: average for method, _, average in cells} for column, cells in tables.items() if cells}
    # Only few-shot tables have the rows that start from a source.
    rows = max(tables.values(), key=len)
    lines = [[method, count, *(cells.get(method, "") for cells in found.values())] for method, count, _ in rows]
    return table(["method", "parameters", *found], lines, "l" + "r" * (1 + len(found))) if lines else None


def ablation() -> str | None:
    """EPT and its variants in config/demo_full.yaml; None before they are made."""
    wanted = [TASKS[name].title for name in experiment("demo_full").config.ablation.tasks]
    return result_table("demo_full/ablation", ["method", "parameters", "All", "EPT − variant", *wanted])


def transfer_gains() -> str | None:
    """Mean gains over targets with 16 examples in config/demo_full.yaml, by source; None before they are made.

    The gains of the first metrics: of the source that was chosen for each target, of all on average, of the best one,
    and of each source. `difference`: chosen minus random, with its standard error over targets.
    """
    path = ROOT / "results/demo_full_transfer/transfer.csv"
    if not path.exists():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        tried = [row for row in csv.DictReader(file) if row["regime"] == "k16"]
    sources = list(dict.fromkeys(row["source"] for row in tried if row["choice"] != "all"))
    # The row of a target's own task is empty.
    found = [row for row in tried if row["gain"] and row["metric"] == TASKS[row["task"]].metrics[0]]
    lines = []
    for method in dict.fromkeys(row["method"] for row in found):
        rows = [row for row in found if row["method"] == method]
        if rows[0]["choice"] == "all":
            together = signed(fmean(float(row["gain"]) for row in rows))
            lines.append([f"{METHODS[method].title}, all others", together, *[""] * (3 + len(sources))])
            continue
        gains: dict[str, dict[str, float]] = {}
        for row in rows:
            gains.setdefault(row["task"], {})[row["source"]] = float(row["gain"])
        chosen = [gains[row["task"]][row["source"]] for row in rows if row["choice"] == "chosen"]
        random = [fmean(each.values()) for each in gains.values()]
        more = [one - other for one, other in zip(chosen, random, strict=True)]
        error = stdev(more) / len(more) ** 0.5
        of_sources = [fmean(each[source] for each in gains.values() if source in each) for source in sources]
        means = [fmean(chosen), fmean(random), fmean(max(each.values()) for each in gains.values())]
        cells = [*map(signed, means), f"{signed(fmean(more))} ({error:.1f})", *map(signed, of_sources)]
        lines.append([METHODS[method].title, *cells])
    head = ["method", "chosen", "random", "best", "difference", *(f"from {TASKS[source].title}" for source in sources)]
    return table(head, lines, "l" + "r" * (len(head) - 1))


def titles(suite: str) -> list[str]:
    """How the columns of a suite's tasks begin."""
    return [task.title for task in TASKS.values() if suite in task.sets]


def result_table(name: str, columns: list[str] | None = None) -> str | None:
    """A finished run's table without the notes below it; None before it is made. `columns` as in `result_cells`."""
    cells = result_cells(name, columns)
    return table(cells[0], cells[1:], "l" + "r" * (len(cells[0]) - 1)) if cells else None


def result_cells(name: str, columns: list[str] | None = None) -> list[list[str]]:
    """The cells of a finished run's table, its head first; none before it is made.

    `columns` has the beginnings of the columns that are wanted, in order; one that is not there is left out.
    """
    path = ROOT / "results" / f"{name}.md"
    if not path.exists():
        return []
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    places = list(range(len(head)))
    if columns is not None:
        places = [place for wanted in columns for place in places if f"{head[place]} ".startswith(f"{wanted} ")]
    return [[cells[place] for place in places] for cells in (head, *rows)]


def performance() -> dict:
    """The committed measurement."""
    return json.loads((ROOT / "benchmarks/performance.json").read_text(encoding="utf-8"))


def speed() -> str | None:
    """The headline: against the best-configured peer, then as released; None before `make bench` measured both."""
    found = performance()
    reached = {target["name"]: target["reached"] for target in found["targets"]}
    if not any("EPT over best" in name for name in reached):
        return None

    def ratios(theirs: str) -> list[float]:
        names = [name for quantity in ("training", "evaluation") for name in reached if name.startswith(quantity)]
        return [reached[name] for name in names if f"EPT over {theirs}" in name]

    (training_best, evaluation_best), (training_old, evaluation_old) = map(ratios, ("best", "PEFT PT as released"))
    plan, hardware, size = found["plan"], found["hardware"], found["backbone"]["parameters"] / 1e6
    grid = max(size for size in plan["grids"] if f"grid of {size}:" in " ".join(reached))
    machine = hardware["gpu"] or f"{hardware['cpu']}, {hardware['cores']} cores, no GPU"
    return (
        f"A grid of {grid} EPT runs in one pack trains {training_best:.1f} and evaluates {evaluation_best:.1f} times "
        "as many examples per second as PEFT's prompt tuning under the Hugging Face Trainer, configured well "
        f"(grouped by length, bfloat16 where the machine has it). As released, padded to {plan['padding']} tokens in "
        f"float32, the ratios are {training_old:.1f} and {evaluation_old:.1f} ({machine}; a T5 of {size:.1f} M "
        "parameters)."
    )


def speed_tables() -> str:
    """benchmarks/performance.md without its goals."""
    text = (ROOT / "benchmarks/performance.md").read_text(encoding="utf-8").strip()
    blocks = re.split(r"\n{2,}", text)
    return "\n\n".join(block for block in blocks if not block.startswith("| target "))


def backbone_curve() -> str:
    """Accuracy by task on held-out facts during the demonstration backbone's pretraining."""
    with (BACKBONE_FOLDER / "curve.csv").open(encoding="utf-8", newline="") as file:
        majority, *curve = csv.DictReader(file)
    last = int(curve[-1]["step"])
    shown = [row for row in curve if int(row["step"]) in (250, 500, 1000, 2000, 4000, 8000, last)]
    rows = [majority, *shown]
    tasks = [name for name in majority if name not in ("step", "loss")]
    head = ["task", "majority", *(f"{int(row['step']):,} steps" for row in shown)]
    return table(head, [[task, *(f"{float(row[task]):.0f}" for row in rows)] for task in tasks], "l" + "r" * len(rows))


def measured(name: str) -> str | None:
    """The table in benchmarks/<name>.md; None before it was measured."""
    path = ROOT / f"benchmarks/{name}.md"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


PARTS: dict[str, Callable[[], str | None]] = {
    "backbone-curve": backbone_curve,
    "tasks": tasks,
    "training": training,
    "parameters": parameters,
    "sums": sums,
    "prompt-parameters": prompt_parameters,
    "rates": rates,
    "plan-example": plan_example,
    "dequantizing": dequantizing,
    "paper-run": paper_run,
    "main-table": main_table,
    "demo-full-glue": partial(demo_full, "glue", averages=("GLUE",)),
    "demo-full-superglue": partial(demo_full, "superglue", averages=("All", "SuperGLUE")),
    "demo-full-new": partial(demo_full, "dept_other", "mrqa"),
    "demo-full-fewshot": few_shot_averages,
    "demo-full-transfer": transfer_gains,
    "demo-full-ablation": ablation,
    "demo-rates": lambda: result_table("demo_rates/learning_rates"),
    "speed": speed,
    "speed-tables": speed_tables,
    "scale": partial(measured, "scale"),
    "halving": partial(measured, "halving"),
    "equivalence": partial(measured, "equivalence"),
    "serving": partial(measured, "serving"),
}


def filled(text: str, only: list[str] | None = None) -> str:
    """The document with its generated parts as they are today."""

    def fill(match: re.Match) -> str:
        name = match["name"]
        new = PARTS[name]() if not only or name in only else None
        return match[0] if new is None else match["head"] + new + match["tail"]

    return PART.sub(fill, text)


def documents(root: Path = ROOT) -> list[Path]:
    """Every file that may have generated parts."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def main() -> int:
    """Write or check; 1 if a check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; show differences")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="NAME", help="only these parts")
    options = parser.parse_args()
    differs = False
    for path in documents():
        old = path.read_text(encoding="utf-8")
        new = filled(old, options.only)
        if new == old:
            continue
        differs = True
        if options.check:
            name = str(path.relative_to(ROOT))
            sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), name, "generated"))
        else:
            path.write_text(new, encoding="utf-8")
            print(path.relative_to(ROOT))
    return int(differs and options.check)


if __name__ == "__main__":
    sys.exit(main())
