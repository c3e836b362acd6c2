"""A table in all its forms (CSV, Markdown, LaTeX, HTML, the hashes behind it), and the summary of all tables."""

import csv
import io
import math
from pathlib import Path
from typing import Any

import ept
from ept.config.configuration import write_resolved
from ept.files import DIGESTS, digest, sha256_file, write_json, write_text
from ept.methods.registry import METHODS
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.plan.pack import DIVERGED
from ept.plan.paths import headline_file, summary_file
from ept.plan.tables import SUMMARY, ZERO_SHOT, headline_tables
from ept.plan.targets import made_from
from ept.results.records import OWN_DIGEST, read_own_table, read_record, software
from ept.results.render import Layout, table_page, to_latex, to_markdown
from ept.results.statistics import AVERAGE
from ept.results.tables.registry import kind_of, title_of

BASELINE = "majority_baseline"


def write_table(experiment: Experiment, table: str) -> None:
    """Write a table in all its forms. Raises InputError where a run is missing or not of this configuration."""
    packs = experiment.table_packs(table)
    kind = kind_of(table)
    rows, layout = kind.make(experiment, packs)
    files = write_forms(experiment.config.output, table, kind.columns, rows, layout)
    write_table_settings(experiment, table, files)


def write_forms(output: str, table: str, columns: tuple[str, ...], rows: list[dict], layout: Layout) -> list[Path]:
    """Write the CSV of the rows and the layout as Markdown, LaTeX and HTML; the files."""
    path = paths.table_file(output, table)
    markdown = to_markdown(layout)
    texts = (to_csv(columns, rows), markdown, to_latex(layout), table_page(title_of(table), markdown, layout.groups))
    files = [path.with_suffix(f".{ending}") for ending in paths.TABLE_ENDINGS]
    for file, text in zip(files, texts, strict=True):
        write_text(file, text)
    return files


def write_table_settings(experiment: Experiment, table: str, files: list[Path]) -> None:
    """Write what a table was made from, the configuration that makes it again, and its files' digests.

    The workflow makes a table again if this is not what the configuration asks for (ept.plan.targets).
    """
    output = experiment.config.output
    configuration = write_resolved(experiment.config, paths.configurations_folder(output))
    settings: dict[str, Any] = {
        "table": table,
        "configuration": str(configuration),
        "written_by": ept.__version__,
        DIGESTS: {file.name: sha256_file(file) for file in files},
    }
    if table == ZERO_SHOT:
        settings["made_from"] = made_from(experiment, table)
    else:
        packs = experiment.packs_behind(table)
        records = [read_record(pack.folder, pack.hash) for pack in packs]
        settings["runs_made_by"] = sorted({software(record) for record in records})
        settings["runs"] = [
            {
                "method": pack.method,
                "variant": pack.variant.name,
                "task": pack.task,
                "regime": pack.regime,
                "start": pack.initialize_from,
                "hash": pack.hash,
                "folder": str(pack.folder),
                "prompts": str(pack.prompts),
            }
            for pack in packs
        ]
    write_json(paths.table_settings_file(output, table), settings | {OWN_DIGEST: digest(settings)})


def to_csv(columns: tuple[str, ...], rows: list[dict]) -> str:
    """Tidy rows as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4f}"
    return value


def write_summary(experiment: Experiment) -> None:
    """Write the averages of the main table and of the few-shot ones, and how many of their runs diverged.

    Keys are <regime>.<method> and <regime>.<method>_from_source. The headline has the average over all tasks alone, for
    `dvc metrics show`. Raises InputError where a table or a record is missing or of another configuration.
    """
    packs = experiment.packs_behind(SUMMARY)
    runs = [run for pack in packs for run in read_record(pack.folder, pack.hash)["runs"]]
    summary: dict = {"runs": len(runs), "diverged_runs": sum(run["status"] == DIVERGED for run in runs)}
    for table in headline_tables(experiment.config):
        for row in read_own_table(experiment, table).rows:
            if row["metric"] == AVERAGE:
                _add(summary.setdefault(row["regime"], {}), row)
    headline = {
        name: {method: numbers["average"] for method, numbers in values.items()} if isinstance(values, dict) else values
        for name, values in summary.items()
    }
    output = experiment.config.output
    files = {summary_file(output): summary, headline_file(output): headline}
    for path, numbers in files.items():
        write_json(path, numbers)
    write_table_settings(experiment, SUMMARY, list(files))


def _add(regime: dict[str, dict], row: dict[str, str]) -> None:
    """Add an average of a method, and that of the majority baseline."""
    chosen = METHODS[row["method"]].start == "optional" and row["source"] == "source"
    numbers = regime.setdefault(f"{row['method']}_from_source" if chosen else row["method"], {})
    for column, ending in (("mean", ""), ("ci_low", "_ci_low"), ("ci_high", "_ci_high")):
        numbers[row["task"] + ending] = float(row[column])
    for column in ("trained_parameters", "stored_parameters"):
        numbers[column] = int(row[column])
    regime.setdefault(BASELINE, {})[row["task"]] = float(row[BASELINE])
