"""Our full-data scores next to published ones, with the differences of protocol named."""

import csv
from collections.abc import Sequence
from importlib import resources

from ept.config.configuration import PUBLISHED_BACKBONE, Configuration
from ept.config.settings import TrainingSettings
from ept.methods.registry import METHODS, get_method
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.results.records import collect
from ept.results.render import Layout
from ept.results.tables.scores import (
    Line,
    Score,
    first_metrics,
    lay_out,
    mark_notes,
    spread_notes,
    table_notes,
    table_rows,
)
from ept.tasks.registry import get_task

# What a published score is of.
KEY = ("method", "regime", "task", "metric")
# What is known of the published runs, by source, and of the code they come from, by task (docs/tables.md).
PAPERS_STEPS = "30,000 or 300,000"
# Read in the logs behind the row of this source: batch, steps by task, and short prompt lengths with ranks.
LOGGED = "run by Shi & Lipani 2024; single seed"
LOGGED_BATCH = 32
LOGGED_STEPS = {
    "mrpc": "10,000",
    "wic": "20,000",
    "wsc": "20,000",
    "cola": "40,000",
    "qqp": "100,000",
    "qnli": "100,000",
    "mnli": "250,000",
}
LOGGED_LENGTHS = {
    "cola": "short length and rank of one setting for all tasks, there 80 and 15",
    "boolq": "short length and rank of one setting for all tasks, there 40 and 45",
}
START = {"vocabulary": "pieces of the vocabulary", "labels": "the labels", "uniform": "noise"}
# What no setting changes (docs/training-protocol.md, Departures).
ALWAYS = (
    "gradients clipped by parameter group, there together",
    "no weight decay, there 0.01 in the call",
    "Adam's epsilon 1e-8, there 1e-6",
    "batches of texts of like length",
    "learning rates by the mean validation score over seeds",
)
SOURCES = {
    "reported by Shi & Lipani 2024": "taken over there from papers with other lengths, batches and templates",
    LOGGED: "one seed there",
    "reported by Shi & Lipani 2024; quoted by Wu et al. 2025 (ULPT)": "read in the later paper's table",
    "independent re-run by the ULPT authors": "settings of the re-run not known here",
    "run by Wu et al. 2025 (ULPT)": "100,000 steps there, for the large sets too",
    "reported by Wu et al. 2025 (ULPT)": "100,000 steps there, for the large sets too",
    "reported by Lin et al. 2024 (ACCEPT); read off a figure": "prompts start from trained ones there",
}
TASKS = {
    "stsb": "targets on the 0.2 grid and scores against raw values, in earlier code on 0.1",
    "cb": "checkpoints by accuracy, there by macro-F1",
    "multirc": "halves by paragraph, in earlier code by answer",
    **dict.fromkeys(
        ("nq", "hotpotqa", "searchqa", "newsqa"), "scored against all answers, there against 20 pieces of the first"
    ),
    "winogrande": "both options are shown, there the first one twice",
    "yelp": "another draw of 100,000 training rows",
}
# Tasks whose published scores are of other texts, and so not of the same task.
OTHER_TEXTS = ("winogrande",)


def make_table(experiment: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
    """The rows of the comparison, and methods with their published versions below them."""
    results = collect(packs)
    precision = {result.pack.hash: precision_of(result.record) for result in results}
    rows = [row | {"precision": precision[row["trainings"][0]]} for row in table_rows(results)]
    rows = comparison_rows(experiment.config, rows)
    return rows, comparison_layout(experiment.config, rows, table_notes(results))


def precision_of(record: dict) -> str:
    """The precision that a pack was trained in, for example float32 (products in TF32)."""
    return record["dtype"] + (" (products in TF32)" if record.get("tf32") else "")


def read_published() -> list[dict[str, str]]:
    """The published scores of the comparison methods on T5-base: `method` as in the registry, the rest as printed.

    All are full-data scores in percent, of tasks or (metric `average`) of suites. Methods that are not in
    the registry are compared with nothing. EPT's and ADePT's scores per task are not known, so they have no row.
    """
    text = resources.files("ept.results").joinpath("published.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def comparison_rows(config: Configuration, rows: list[dict]) -> list[dict]:
    """For each of our rows (of each task's first metric) one row a published score, or one with empty cells.

    `comparable` is `yes` only for the published backbone on the published data sets, and where the published runs read
    the same texts; only then is there a `gap`, ours minus published.
    """
    published = read_published()
    found = []
    for row in first_metrics([row for row in rows if row["metric"] != "average"]):
        scores = [score for score in published if all(score[name] == row[name] for name in KEY)]
        found += [_compared(config, row, score) for score in scores] or [_alone(row)]
    return found


def _alone(row: dict) -> dict:
    return {**row, "difference": "no published score of this method on this task is known here"}


def _compared(config: Configuration, row: dict, score: dict[str, str]) -> dict:
    comparable = config.has_published_backbone and row["task"] not in OTHER_TEXTS
    return {
        **row,
        "published_method": score["printed_as"],
        "published_backbone": score["backbone"],
        "published_parameters": score["trainable_parameters"],
        "published": float(score["value"]),
        "published_source": score["source"],
        "comparable": "yes" if comparable else "no",
        "gap": row["mean"] - float(score["value"]) if comparable else float("nan"),
        "difference": "; ".join(differences(config, row, score)),
    }


def differences(config: Configuration, row: dict, score: dict[str, str]) -> list[str]:
    """How our run differs from a published one.

    Args:
        config: The configuration; its training section is compared with the papers' set-ups, which are its defaults.
        row: Our row, with its `method`, `task` and `precision`.
        score: The published score.

    Returns:
        The differences as phrases: first those of this configuration, then what is always so.
    """
    method, task = row["method"], row["task"]
    ours, papers, record = config.training, TrainingSettings(), get_method(method)
    backbone, length, start = config.backbone.public_name, get_task(task).source_length, config.prompt.init
    logged = score["source"] == LOGGED
    batch, steps = (LOGGED_BATCH, LOGGED_STEPS) if logged else (papers.batch_size, {})
    mine = PAPERS_STEPS if ours.steps == papers.steps else f"{ours.steps}"
    checks: list[tuple[bool, str]] = [
        (backbone.split("/")[-1] != PUBLISHED_BACKBONE, f"backbone {backbone}, there {score['backbone']}"),
        (config.data.source == "demo", "generated data, there the published set"),
        (row["precision"] != "float32", f"{row['precision']}, there float32"),
        (ours.steps != papers.steps or task in steps, f"{mine} steps, there {steps.get(task, PAPERS_STEPS)}"),
        (ours.batch_size != batch, f"batch {ours.batch_size}, there {batch}"),
        (config.source_length(task) != length, f"texts cut at {config.source_length(task)} pieces, there at {length}"),
        (config.learning_rates(ours, method) != record.rates, "learning rates not from the papers' grid"),
        (ours.patience > 0 or ours.halving > 0, "runs may end early"),
        (task in TASKS, TASKS.get(task, "")),
        (score["source"] in SOURCES, SOURCES.get(score["source"], "")),
        (record.packed and start in START, f"prompts start from {START.get(start)}, there from a text"),
        (logged and task in LOGGED_LENGTHS and record.prompt_tokens == "short_length", LOGGED_LENGTHS.get(task, "")),
        (record.packed or not ours.dropout, "backbone dropout 0, there 0.1"),
    ]
    return [text for differs, text in checks if differs] + list(ALWAYS)


def comparison_layout(config: Configuration, rows: list[dict], notes: Sequence[str] = ()) -> Layout:
    """Methods with their published versions below them as rows, tasks as columns. Nothing is marked as best."""
    columns = list(dict.fromkeys((row["task"], row["metric"]) for row in rows))
    here = "" if config.has_published_backbone else f" ({config.backbone.public_name}: not comparable)"
    lines: dict[str, Line] = {}

    def add(title: str, parameters: int | None, row: dict, score: Score) -> None:
        line = lines.setdefault(title, Line(title, parameters, ranked=False))
        line.scores[row["task"], row["metric"]] = score

    for row in rows:
        add(f"{METHODS[row['method']].title} here{here}", row["trained_parameters"], row, Score.of(row))
        if row.get("published_source"):
            there = f"{row['published_method']} on {row['published_backbone']}, {row['published_source']}"
            add(there, None, row, Score(row["published"]))
    return lay_out(columns, list(lines.values()), [*spread_notes(rows), *mark_notes(rows), *notes])
