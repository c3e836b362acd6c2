"""A table in all its forms: tidy CSV, Markdown, LaTeX and HTML for readers, and the hashes behind it."""

import csv
import io
import math
from pathlib import Path
from typing import Any

from ept import paths
from ept.config import write_resolved
from ept.experiment import Experiment
from ept.files import DIGESTS, sha256_file, write_json, write_text
from ept.results.html import table_page
from ept.results.kinds import kind_of
from ept.results.layout import Layout, to_latex, to_markdown


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
            "start": pack.initialise_from,
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
