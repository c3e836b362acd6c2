"""The study on SmolLM2: keep the records of finished runs in docs/study/, and write its tables into docs/study.md.

    python scripts/study.py zero-shot    what the backbone answers without a prompt, one file a task
    python scripts/study.py keep         copy finished runs from runs/ to docs/study/runs/
    python scripts/study.py page         write the tables of docs/study.md; --check writes nothing

`zero-shot` needs the backbone, `page` only docs/study/. After `cp -r docs/study/runs .` Snakemake trains only what is
missing.
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ept.config.configuration import Configuration, load_configuration
from ept.config.settings import FULL, SOURCE
from ept.config.variants import WHOLE, Variant, variants
from ept.errors import InputError
from ept.evaluation.metrics import References
from ept.files import parse_json, write_atomically, write_text
from ept.methods.registry import METHODS, SUBJECT
from ept.plan import paths
from ept.plan.packs import method_settings, training_settings
from ept.results.records import PREDICTIONS_FILE, RUNS, SETTINGS, read_predictions, read_record, validation_score
from ept.results.render import Cell, Layout, p_text, signed, to_markdown
from ept.results.statistics import (
    LEAST_SEEDS,
    LEVEL,
    Sample,
    estimate,
    holm,
    paired_difference,
    sample_predictions,
    tested_p,
)
from ept.results.tables.scores import column_title

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "docs/study"
PAGE = ROOT / "docs/study.md"
PILOTS, RATES, FINAL, FEW_SHOT = "smollm2_pilots", "smollm2_rates", "smollm2", "smollm2_fewshot"
CONFIGURATIONS = (PILOTS, RATES, FINAL, FEW_SHOT)
PART = re.compile(r"(?P<head><!-- study: (?P<name>[\w-]+) -->\n)(?P<text>.*?)(?P<tail><!-- end -->)", re.DOTALL)
MISSING = "–"


# ---- What the study asks for -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """One pack of the study, known without the backbone: `settings` are those that its record must have."""

    table: str
    config: Configuration
    method: str
    variant: str
    task: str
    regime: str
    settings: dict[str, Any]

    def fits(self, found: dict[str, Any]) -> bool:
        """Whether a record with these settings is this pack's."""
        backbone, used = self.config.backbone, found["backbone"]
        float32 = METHODS[self.method].float32
        if (used["name"], used["dtype"]) != (backbone.name, backbone.used_dtype(float32)):
            return False
        return all(found.get(key) == value for key, value in self.settings.items())

    @property
    def metric(self) -> str:
        """The metric that selects checkpoints."""
        return self.config.tasks.record(self.task).metrics[0]


def asked(name: str) -> list[Asked]:
    """The packs of one configuration of the study, by table and in the order of its rows."""
    config = load_configuration(ROOT / "config" / f"{name}.yaml")
    plain = Variant("", config.prompt, config.ept)
    if name == PILOTS:
        method = METHODS[config.methods[0]].source_method
        return [_asked("pilots", config, method, plain, task, SOURCE) for task in config.tasks.source]
    if name == RATES:
        return [
            _asked("rates", config, method, plain, task, FULL)
            for method in config.methods
            for task in config.tasks.target
        ]
    if name == FEW_SHOT:
        regimes = [f"k{k}" for k in config.few_shot.k]
        return [
            _asked(regime, config, method, plain, task, regime)
            for regime in regimes
            for method in config.methods
            for task in config.tasks.target
        ]
    return [
        _asked("main", config, method, plain, task, FULL) for method in config.methods for task in config.tasks.target
    ] + [
        _asked("ablation", config, SUBJECT, variant, task, FULL)
        for variant in variants(config.prompt, config.ept, config.ablation)
        for task in config.ablation.tasks
    ]


def _asked(table: str, config: Configuration, method: str, variant: Variant, task: str, regime: str) -> Asked:
    settings = {
        "method": method,
        "task": task,
        "regime": regime,
        "seeds": list(config.seeds_of(method, regime)),
        "source_length": config.source_length(task),
        "training": training_settings(config, method, regime),
        **method_settings(config, method, variant),
    }
    return Asked(table, config, method, variant.name, task, regime, json.loads(json.dumps(settings)))


# ---- What is finished ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finished:
    """The record and the settings of a finished pack, and the folder that they are in."""

    folder: Path
    settings: dict[str, Any]
    record: dict[str, Any]

    @property
    def reported(self) -> list[dict[str, Any]]:
        """The runs with the chosen learning rates."""
        return [run for run in self.record["runs"] if run["selected"]]


def finished(root: Path) -> list[Finished]:
    """Every pack below a folder `runs` whose files are all there and have their digests."""
    found = []
    for path in sorted(root.glob(f"*/*/*/*/*/{SETTINGS}")):
        folder = path.parent
        if all((folder / name).is_file() for name in files_of(folder)):
            record = read_record(folder, folder.name)
            found.append(Finished(folder, parse_json(path.read_text(encoding="utf-8"))["settings"], record))
    return found


def files_of(folder: Path) -> tuple[str, ...]:
    """The files of a pack in the order of writing. The test split of a source prompt is not predicted."""
    return (RUNS, SETTINGS) if folder.parent.name == SOURCE else (RUNS, PREDICTIONS_FILE, SETTINGS)


def matching(packs: list[Asked], found: list[Finished]) -> list[tuple[Asked, Finished | None]]:
    """Each pack with its record, or None."""
    return [(pack, next((each for each in found if pack.fits(each.settings)), None)) for pack in packs]


def predictions(pack: Finished) -> tuple[dict[int, np.ndarray], References, list[str]]:
    """The test predictions [rows] of every seed, what was right, and the rows' ids."""
    table = read_predictions(pack.folder)
    seeds = table["seed"].unique().to_pylist()
    parts = [table.filter(pa.compute.equal(table["seed"], seed)) for seed in seeds]
    truth = References(labels=parts[0]["label"].to_numpy(), groups=parts[0]["group"].to_pylist())
    by_seed = {seed: part["prediction"].to_numpy() for seed, part in zip(seeds, parts, strict=True)}
    return by_seed, truth, parts[0]["id"].to_pylist()


def sample(by_seed: dict[int, np.ndarray], truth: References, pack: Asked) -> Sample:
    """The scores of the task's first metric, with bootstrap samples."""
    return sample_predictions(pack.metric, by_seed, truth, pack.config.tasks.record(pack.task))


def pack_sample(pack: Asked, found: Finished) -> Sample:
    """The sample of a finished pack."""
    by_seed, truth, _ = predictions(found)
    return sample(by_seed, truth, pack)


def zero_shot_file(task: str) -> Path:
    """The answers without a prompt."""
    return STUDY / "zero_shot" / f"{task}.parquet"


def zero_shot_sample(pack: Asked, found: Finished | None = None, rule: str = "closed") -> Sample | None:
    """The answers without a prompt, once for each seed of the pack; None before they are made.

    Args:
        pack: The pack that they are compared with.
        found: Its record, if it is finished.
        rule: `closed`, the likeliest labels, or `open`, what the model writes.

    Raises:
        InputError: They are of other test rows than the finished pack.
    """
    path = zero_shot_file(pack.task)
    if not path.is_file():
        return None
    table = pq.read_table(path)
    labels = table["label"].to_numpy()
    if found is not None:
        _, truth, ids = predictions(found)
        if table["id"].to_pylist() != ids or not np.array_equal(labels, truth.labels):
            raise InputError(f"{path} has other test rows than {found.folder}; delete it and run zero-shot again")
    answers = dict.fromkeys(pack.settings["seeds"], table[rule].to_numpy())
    return sample(answers, References(labels=labels, groups=[""] * len(labels)), pack)


# ---- Commands --------------------------------------------------------------------------------------------------------


def keep(source: Path, target: Path) -> list[Path]:
    """Copy every finished pack of the study from `source` to `target` (both `runs`) that is not there yet."""
    packs = [pack for name in CONFIGURATIONS for pack in asked(name)]
    copied = []
    for found in finished(source):
        folder = target / found.folder.relative_to(source)
        if folder.is_dir() or not any(pack.fits(found.settings) for pack in packs):
            continue
        folder.mkdir(parents=True)
        # settings.json last: it has the digests of the others.
        for name in files_of(folder):
            shutil.copyfile(found.folder / name, folder / name)
        copied.append(folder)
    return copied


def write_zero_shot(tasks: list[str], threads: int) -> None:
    """Predict every test row of tasks without a prompt (no tasks: all); what is there already is left out."""
    from ept.plan.experiment import Experiment
    from ept.results.tables.zero_shot import zero_shot_predictions
    from ept.training.job import load_jobs

    experiment = Experiment(load_configuration(ROOT / "config" / f"{FINAL}.yaml"))
    tasks = [task for task in tasks or experiment.config.tasks.target if not zero_shot_file(task).is_file()]
    packs = tuple(experiment.pack(experiment.config.methods[0], task, FULL, "scratch") for task in tasks)
    for job in load_jobs(experiment, packs, threads) if packs else ():
        found = zero_shot_predictions(job)
        columns = {"id": list(job.test.ids), "label": job.test.labels, "open": found.open[0]}
        columns["closed"] = found.open[0] if found.closed is None else found.closed[0]
        table = pa.table(columns).replace_schema_metadata({"fingerprint": job.test.fingerprint})
        with write_atomically(zero_shot_file(job.task.name)) as path:
            pq.write_table(table, path)


# ---- Tables ----------------------------------------------------------------------------------------------------------


def pilots() -> Layout:
    """The pilots: validation scores of short trainings of one prompt method."""
    lines, steps = [], ""
    for pack, found in matching(asked(PILOTS), finished(STUDY / "runs")):
        title = column_title(pack.task, pack.metric)
        if found is None:
            lines.append([Cell(title), Cell(MISSING), Cell("not finished"), Cell()])
            continue
        (run,) = found.reported
        steps = ", ".join(str(step) for step, _ in run["validation_curve"])
        curve = ", ".join(f"{score:.1f}" for _, score in run["validation_curve"])
        majority = found.record["majority_validation"][pack.metric]
        lines.append([Cell(title), Cell(f"{majority:.1f}"), Cell(curve), Cell(f"{found.record['train_seconds']:.0f}")])
    return Layout(["task", "majority", f"validation at step {steps}".strip(), "seconds of training"], lines)


def rates() -> Layout:
    """The grid: the best validation score of every rate, and the step of that checkpoint."""
    lines = []
    for pack, found in matching(asked(RATES), finished(STUDY / "runs")):
        title = METHODS[pack.method].title
        if found is None:
            lines.append([Cell(title), Cell(MISSING), Cell("not finished"), Cell()])
            continue
        for run in found.record["runs"]:
            rate = " ".join(f"{group}={value:g}" for group, value in run["learning_rates"].items())
            score = validation_score(found.record, run, pack.metric)
            cells = [Cell(title), Cell(rate), Cell(f"{score:.1f}", bold=run["selected"]), Cell(str(run["best_step"]))]
            lines.append(cells)
    return Layout(["method", "learning rates", "best validation", "at step"], lines)


def scores(packs: list[Asked]) -> Layout:
    """Test scores by task: majority, no prompt, and every row."""
    found = matching(packs, finished(STUDY / "runs"))
    tasks = list(dict.fromkeys(pack.task for pack in packs))
    columns = {task: column_title(task, next(pack.metric for pack in packs if pack.task == task)) for task in tasks}
    constant: dict[str, str] = {}
    nothing: dict[str, dict[str, str]] = {"closed": {}, "open": {}}
    rows: dict[str, dict[str, str]] = {}
    for pack, each in found:
        cells = rows.setdefault(_title(pack), dict.fromkeys(tasks, MISSING))
        for rule, texts in nothing.items():
            if (without := zero_shot_sample(pack, each, rule)) is not None:
                texts[pack.task] = f"{estimate([without]).mean:.1f}"
        if each is None:
            continue
        constant[pack.task] = f"{each.record['majority_baseline'][pack.metric]:.1f}"
        mean = estimate([pack_sample(pack, each)])
        cells[pack.task] = f"{mean.mean:.1f} ± {mean.std:.1f}"
    titles = {"closed": "no prompt: the likelier label", "open": "no prompt: what it writes"}
    named = {"majority": constant, **{titles[rule]: texts for rule, texts in nothing.items()}, **rows}
    lines = [[Cell(name), *(Cell(cells.get(task, MISSING)) for task in tasks)] for name, cells in named.items()]
    return Layout(["method", *columns.values()], lines)


def gains(packs: list[Asked]) -> Layout:
    """Every finished row minus the model without a prompt, paired by test example, Holm-corrected over the table."""
    pairs = [
        (pack, pack_sample(pack, each), without)
        for pack, each in matching(packs, finished(STUDY / "runs"))
        if each is not None and (without := zero_shot_sample(pack, each)) is not None
    ]
    return _differences([(_title(pack), pack, first, second) for pack, first, second in pairs])


def parts() -> Layout:
    """EPT minus each of its variants."""
    found = [
        (pack, pack_sample(pack, each))
        for pack, each in matching(_of(FINAL, "ablation"), finished(STUDY / "runs"))
        if each is not None
    ]
    whole = {pack.task: each for pack, each in found if pack.variant == WHOLE}
    return _differences(
        [
            (f"{METHODS[SUBJECT].title} − {pack.variant}", pack, whole[pack.task], each)
            for pack, each in found
            if pack.task in whole and pack.variant != WHOLE
        ]
    )


def _differences(rows: list[tuple[str, Asked, Sample, Sample]]) -> Layout:
    found = [paired_difference([first], [second]) for _, _, first, second in rows]
    corrected = holm([tested_p(difference) for difference in found])
    lines = []
    for (title, pack, *_), difference, p in zip(rows, found, corrected, strict=True):
        low, high = difference.interval
        text = p_text(p) or MISSING
        cells = [title, column_title(pack.task, pack.metric), signed(difference.mean)]
        lines.append([*map(Cell, cells), Cell(f"{signed(low)} to {signed(high)}"), Cell(text, bold=bool(p < LEVEL))])
    return Layout(["row", "task", "difference", "95 % interval", "p"], lines)


def variance(packs: list[Asked]) -> Layout:
    """The standard error of every mean over several seeds: from the seeds, and from the test examples alone."""
    lines = []
    for pack, found in matching(packs, finished(STUDY / "runs")):
        if found is None or len(found.reported) < LEAST_SEEDS:
            continue
        each = pack_sample(pack, found)
        of_seeds = estimate([each]).std / len(each.seeds) ** 0.5
        errors = [f"{of_seeds:.2f}", f"{estimate([each], examples_alone=True).error:.2f}"]
        chosen = sum(run["start_chosen"] for run in found.reported)
        lines.append([*map(Cell, [_title(pack), column_title(pack.task, pack.metric), *errors, str(chosen)])])
    head = ["method", "task", "error from seeds", "error from test examples", "runs that stay at the start"]
    return Layout(head, lines)


def costs() -> Layout:
    """What every finished pack took."""
    lines = []
    for name in CONFIGURATIONS:
        for pack, found in matching(asked(name), finished(STUDY / "runs")):
            if found is None or (pack.table == "ablation" and pack.variant == WHOLE):
                continue
            record = found.record
            steps = sum(run["steps"] for run in record["runs"])
            lines.append(
                [
                    Cell(pack.table),
                    Cell(_title(pack)),
                    Cell(column_title(pack.task, pack.metric)),
                    Cell(str(len(record["runs"]))),
                    Cell(f"{record['trained_parameters']:,}"),
                    Cell(f"{record['train_seconds'] / steps:.2f}"),
                    Cell(f"{record['wall_seconds'] / 60:.0f}"),
                    Cell(f"{record['peak_memory_bytes'] / 2**30:.1f}"),
                ]
            )
    head = ["table", "method", "task", "runs", "parameters", "seconds a step", "minutes in all", "GiB"]
    return Layout(head, lines)


def progress() -> Layout:
    """How many packs of every table are finished."""
    counts: dict[tuple[str, str], list[bool]] = {}
    for name in CONFIGURATIONS:
        for pack, found in matching(asked(name), finished(STUDY / "runs")):
            counts.setdefault((pack.table, column_title(pack.task, pack.metric)), []).append(found is not None)
    lines = [
        [Cell(table), Cell(task), Cell(f"{sum(there)} of {len(there)}")] for (table, task), there in counts.items()
    ]
    return Layout(["table", "task", "finished packs"], lines)


def _of(name: str, table: str) -> list[Asked]:
    return [pack for pack in asked(name) if pack.table == table]


def _title(pack: Asked) -> str:
    return pack.variant or METHODS[pack.method].title


def tables() -> Iterator[tuple[str, Layout]]:
    """The tables of the page by their names in it."""
    yield "progress", progress()
    yield "pilots", pilots()
    yield "rates", rates()
    yield "main", scores(_of(FINAL, "main"))
    yield "main-gains", gains(_of(FINAL, "main"))
    yield "variance", variance(_of(FINAL, "main"))
    yield "ablation", scores(_of(FINAL, "ablation"))
    yield "ablation-gains", parts()
    for table in dict.fromkeys(pack.table for pack in asked(FEW_SHOT)):
        yield table, scores(_of(FEW_SHOT, table))
        yield f"{table}-gains", gains(_of(FEW_SHOT, table))
    yield "costs", costs()


def filled(text: str) -> str:
    """The page with its tables written anew."""
    made = {name: to_markdown(layout) if layout.lines else "Not run yet.\n" for name, layout in tables()}
    return PART.sub(lambda match: match["head"] + made[match["name"]] + match["tail"], text)


def main() -> int:
    """Run one of the commands; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    zero_shot = commands.add_parser("zero-shot", help="predict test rows without a prompt")
    zero_shot.add_argument("tasks", nargs="*", metavar="TASK", help="tasks of config/smollm2.yaml; none: all")
    zero_shot.add_argument("--threads", type=int, default=1, help="CPU threads (%(default)s)")
    commands.add_parser("keep", help="copy finished runs to docs/study/runs")
    page = commands.add_parser("page", help="write the tables of docs/study.md")
    page.add_argument("--check", action="store_true", help="exit with 1 if a table is out of date")
    options = parser.parse_args()
    if options.command == "zero-shot":
        write_zero_shot(options.tasks, options.threads)
    elif options.command == "keep":
        for folder in keep(paths.RUNS, STUDY / "runs"):
            print(folder.relative_to(ROOT))
    else:
        before = PAGE.read_text(encoding="utf-8")
        after = filled(before)
        if options.check:
            return int(after != before)
        write_text(PAGE, after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
