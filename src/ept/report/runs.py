"""From a cell of a table to its run and on to the single predictions: pages that link to each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ept.config.configuration import Configuration
from ept.evaluation.metrics import INVALID, exact_match
from ept.files import write_text
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.plan.tables import headline_tables
from ept.results.records import read_own_table, read_predictions
from ept.results.render import html_table, page, parse_table, to_html, to_markdown
from ept.results.tables.registry import title_of
from ept.results.tables.scores import column_title, row_title
from ept.results.trace import explain
from ept.tasks.record import Task

INDEX = "index.html"
# Of a run's test rows so many are shown, and so many characters of each text.
SHOWN_ROWS, SHOWN_CHARACTERS = 100, 1000
NO_TEXTS = (
    "Single predictions are not shown, because the data are your own. If everybody who gets this report may see the "
    "texts, set report_texts: true and make the report again."
)


@dataclass(frozen=True)
class Prediction:
    """A test row: its place in the published data, what is right, and what was answered, one a seed.

    `wrong` is the share of seeds that were wrong; for scores the mean distance in points of the score.
    """

    id: str
    gold: str
    answers: tuple[str, ...]
    wrong: float
    text: str = ""


def write_run_pages(experiment: Experiment, folder: Path) -> None:
    """Write `folder`/index.html with the main table and the few-shot ones, and a page for each run that they link to.

    Raises InputError where a table is missing or was changed since it was made.
    """
    output, parts, written = experiment.config.output, [], set()
    for name in headline_tables(experiment.config):
        table = read_own_table(experiment, name)
        packs = {_cell_of(pack): pack for pack in experiment.table_packs(name)}
        markdown = paths.table_file(output, name).with_suffix(".md").read_text(encoding="utf-8")
        parts.append(f"<h2>{escape(title_of(name))}</h2>\n<div>{linked(markdown, packs)}</div>")
        runs = {run["hash"]: run for run in table.runs}
        for pack in packs.values():
            if pack.hash not in written:
                write_text(folder / f"{pack.hash}.html", run_page(experiment, pack, explain(table, runs[pack.hash])))
                written.add(pack.hash)
    text = "<p>A score links to its runs: seeds, learning rates, prompts, data and the single predictions.</p>\n"
    write_text(folder / INDEX, page("From a score to its runs", text + "\n".join(parts), sortable=True))


def linked(markdown: str, packs: dict[tuple[str, str], Pack]) -> str:
    """A table as HTML whose scores link to the pages of their packs, by the titles of row and column."""
    layout = parse_table(markdown)
    lines = [
        [
            replace(cell, link=f"{pack.hash}.html") if (pack := packs.get((line[0].text, column))) else cell
            for column, cell in zip(layout.head, line, strict=True)
        ]
        for line in layout.lines
    ]
    return to_html(to_markdown(replace(layout, lines=lines)))


def _cell_of(pack: Pack) -> tuple[str, str]:
    """The titles of the row and the column of a pack's score."""
    row = {"method": pack.method, "variant": pack.variant.name, "source": pack.initialize_from}
    return row_title(row), column_title(pack.task, pack.record.metrics[0])


def run_page(experiment: Experiment, pack: Pack, record: Sequence[str]) -> str:
    """The page of a pack: what `ept trace` prints of it, then its predictions where the data may be shown."""
    title = f"{_cell_of(pack)[0]} on {pack.record.title}, {pack.regime}"
    body = f'<p><a href="{INDEX}">All scores</a></p>\n<pre>{escape(chr(10).join(record))}</pre>\n'
    return page(title, body + _predictions(experiment, pack), sortable=True)


def _predictions(experiment: Experiment, pack: Pack) -> str:
    if not may_show(experiment.config, pack.record):
        return f"<p>{escape(NO_TEXTS)}</p>\n"
    found = sorted(predictions(pack), key=lambda row: -row.wrong)
    shown = with_texts(found[:SHOWN_ROWS], pack.record, experiment.raw_folder(pack.task))
    scores = pack.record.kind == "regression"
    head = ["row", "text", "gold", *(f"seed {seed}" for seed in pack.seeds), "distance" if scores else "wrong"]
    lines = [
        [row.id, row.text, row.gold, *row.answers, f"{row.wrong:.2f}" if scores else f"{100 * row.wrong:.0f} %"]
        for row in shown
    ]
    note = (
        f"{len(shown)} of {len(found)} test rows, those with the most wrong answers first; "
        f"{'distance: mean over seeds' if scores else 'wrong: share of the seeds'}. A click on a title sorts. All "
        f"predictions are in {pack.folder}/predictions.parquet."
    )
    wrapped = range(1, len(head) - 1) if pack.record.kind == "extraction" else (1,)
    return f"<h2>Predictions</h2>\n<p>{escape(note)}</p>\n{html_table(head, lines, wrapped)}"


def may_show(config: Configuration, task: Task) -> bool:
    """Whether pages may show texts of a task: those of published data, and others if the configuration says so."""
    if config.report_texts is not None:
        return config.report_texts
    return config.data.source != "local" and task.own is None and not task.code


def predictions(pack: Pack) -> list[Prediction]:
    """The test rows of a pack with the answers of all seeds, without texts, in the order of the test split."""
    table = read_predictions(pack.folder)
    seeds = [table.filter(pa.compute.equal(table["seed"], seed)).to_pylist() for seed in pack.seeds]
    task = pack.record
    found = []
    for rows in zip(*seeds, strict=True):
        gold = " / ".join(dict.fromkeys(rows[0]["answers"])) if rows[0]["answers"] else _written(task, rows[0]["label"])
        answers = tuple(row["text"] if task.kind == "extraction" else _written(task, row["prediction"]) for row in rows)
        found.append(Prediction(rows[0]["id"], gold, answers, float(np.mean([_wrong(task, row) for row in rows]))))
    return found


def _written(task: Task, label: float | None) -> str:
    if label is None or math.isnan(label) or (task.kind == "classification" and label == INVALID):
        return "(not a label)"
    return f"{label:g}" if task.kind == "regression" else task.written(label)


def _wrong(task: Task, row: dict) -> float:
    """1 for a wrong answer and 0 for a right one; for scores the distance."""
    if task.kind == "extraction":
        return 1.0 - max(exact_match(row["text"], answer) for answer in row["answers"])
    if task.kind == "regression":
        prediction = row["prediction"]
        return math.inf if prediction is None or math.isnan(prediction) else abs(prediction - row["label"])
    return float(row["prediction"] != row["label"])


def with_texts(rows: Sequence[Prediction], task: Task, raw_folder: Path) -> list[Prediction]:
    """The rows with the texts that the model read, where the published splits are on this machine."""
    places = [row.id.rpartition(":") for row in rows]
    splits: dict[tuple[str, int], str] = {}
    for split in {split for split, _, _ in places}:
        file = raw_folder / f"{split}.parquet"
        if not file.is_file():
            return list(rows)
        numbers = [int(number) for name, _, number in places if name == split]
        published = pq.read_table(file).take(pa.array(numbers, pa.int64())).to_pylist()
        splits |= {(split, number): task.example(row).source for number, row in zip(numbers, published, strict=True)}
    texts = [splits[split, int(number)] for split, _, number in places]
    return [
        replace(row, text=text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ...")
        for row, text in zip(rows, texts, strict=True)
    ]
