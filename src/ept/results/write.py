"""A table in all its forms: tidy CSV, Markdown, LaTeX and HTML for readers, and the hashes behind it."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from ept.config.configuration import write_resolved
from ept.files import DIGESTS, sha256_file, write_json, write_text
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.results.render import Layout, table_page, to_latex, to_markdown
from ept.results.tables.registry import kind_of


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
    texts = (to_csv(columns, rows), to_markdown(layout), to_latex(layout), table_page(table, to_markdown(layout)))
    files = [path.with_suffix(f".{ending}") for ending in paths.TABLE_ENDINGS]
    for file, text in zip(files, texts, strict=True):
        write_text(file, text)
    return files


def write_table_settings(experiment: Experiment, table: str, files: list[Path]) -> None:
    """Write which runs a table was made from, the configuration that makes them again, and its files' digests."""
    output = experiment.config.output
    runs = [
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
        for pack in experiment.packs_behind(table)
    ]
    configuration = write_resolved(experiment.config, paths.configurations_folder(output))
    settings = {
        "table": table,
        "configuration": str(configuration),
        DIGESTS: {file.name: sha256_file(file) for file in files},
        "runs": runs,
    }
    write_json(paths.table_settings_file(output, table), settings)


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


def write_list(experiment: Experiment, table: str) -> Path:
    """Write the list of the packs behind a table, or behind the summary, and return its path.

    A list that has not changed keeps its time stamp, unless the table beside it was made from another: a copy that did
    not keep time stamps cannot tell that this table is older than its list.
    """
    path = paths.table_list_file(experiment.config.output, table)
    folders = [str(pack.folder) for pack in experiment.packs_behind(table)]
    text = "".join(f"{folder}\n" for folder in folders)
    if not path.exists() or path.read_text() != text or _folders_behind(experiment, table) not in (None, folders):
        write_text(path, text)
    return path


def _folders_behind(experiment: Experiment, table: str) -> list[str] | None:
    """The packs' folders that a finished table says it was made from; None where there is no table."""
    path = paths.table_settings_file(experiment.config.output, table)
    if not path.exists():
        return None
    try:
        return [run["folder"] for run in json.loads(path.read_text())["runs"]]
    except (ValueError, KeyError, TypeError):
        return []
