"""Our full-data scores beside published ones, with the differences of protocol named."""

import csv
from importlib import resources

from ept.config.configuration import PUBLISHED_BACKBONE, Configuration
from ept.config.settings import TrainingSettings
from ept.methods.registry import METHODS, get_method
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.results.records import collect
from ept.results.render import Layout
from ept.results.tables.scores import DIVERGED_NOTE, SPREAD_NOTE, Line, Score, lay_out, table_rows
from ept.tasks.registry import get_task

# What a published score is of.
KEY = ("method", "regime", "task", "metric")
# What is known of the published runs, by source, and of the code they come from, by task (docs/tables.md).
SOURCES = {
    "reported by Shi & Lipani 2024": "taken over there from papers with other lengths, batches and templates",
    "run by Shi & Lipani 2024; single seed": "one seed there",
    "independent re-run by the ULPT authors": "settings of the re-run not known here",
}
TASKS = {
    "stsb": "targets on the 0.2 grid, in earlier code on 0.1",
    "multirc": "halves by paragraph, in earlier code by answer",
}


def make_table(experiment: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
    """The rows of the comparison, and methods with their published versions below them."""
    rows = comparison_rows(experiment.config, table_rows(collect(packs)))
    return rows, comparison_layout(experiment.config, rows)


def read_published() -> list[dict[str, str]]:
    """The published scores of the comparison methods on T5-base: `method` as in the registry, the rest as printed.

    All are full-data scores in percent. EPT's scores per task are not known, so it has no row.
    """
    text = resources.files("ept.results").joinpath("published.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def comparison_rows(config: Configuration, rows: list[dict]) -> list[dict]:
    """For each of our rows (of each task's first metric) one row a published score, or one with empty cells.

    `comparable` is `yes` only for the published backbone on the published data sets; only then is there a `gap`, ours
    minus published.
    """
    published = read_published()
    found = []
    for row in rows:
        if row["metric"] == "average" or row["metric"] != get_task(row["task"]).metrics[0]:
            continue
        scores = [score for score in published if all(score[name] == row[name] for name in KEY)]
        found += [_beside(config, row, score) for score in scores or [None]]
    return found


def _beside(config: Configuration, row: dict, score: dict[str, str] | None) -> dict:
    if score is None:
        return {**row, "difference": "no published score of this method on this task is known here"}
    comparable = config.has_published_backbone
    return {
        **row,
        "published_method": score["printed_as"],
        "published_backbone": score["backbone"],
        "published_parameters": score["trainable_parameters"],
        "published": float(score["value"]),
        "published_source": score["source"],
        "comparable": "yes" if comparable else "no",
        "gap": row["mean"] - float(score["value"]) if comparable else float("nan"),
        "difference": "; ".join(differences(config, row["method"], row["task"], score)),
    }


def differences(config: Configuration, method: str, task: str, score: dict[str, str]) -> list[str]:
    """How our run differs from a published one: the configuration from the papers' set-ups, then what is always so.

    The defaults of the training section are the papers' set-ups (docs/tables.md).
    """
    ours, papers = config.training, TrainingSettings()
    backbone, length = config.backbone.public_name, get_task(task).source_length
    checks = [
        (backbone.split("/")[-1] != PUBLISHED_BACKBONE, f"backbone {backbone}, there {score['backbone']}"),
        (config.data.source == "demo", "generated data, there the published set"),
        (ours.steps != papers.steps, f"{ours.steps} steps, there 30,000 or 300,000"),
        (ours.batch_size != papers.batch_size, f"batch {ours.batch_size}, there {papers.batch_size}"),
        (config.source_length(task) != length, f"texts cut at {config.source_length(task)} pieces, there at {length}"),
        (
            config.learning_rates(ours, method) != get_method(method).rates,
            "learning rates not from the papers' grid",
        ),
        (ours.patience > 0 or ours.halving > 0, "runs may end early"),
        (task in TASKS, TASKS.get(task)),
        (score["source"] in SOURCES, SOURCES.get(score["source"])),
    ]
    always = "backbone dropout 0; learning rates by the mean validation score over seeds"
    return [text for differs, text in checks if differs] + [always]


def comparison_layout(config: Configuration, rows: list[dict]) -> Layout:
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
    notes = [SPREAD_NOTE] + [DIVERGED_NOTE] * any(row["diverged"] for row in rows)
    return lay_out(columns, list(lines.values()), notes)
