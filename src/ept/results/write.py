"""A table in all its forms: tidy CSV, Markdown, LaTeX and HTML for readers, and the hashes behind it."""

import csv
import io
import math
from pathlib import Path
from typing import Any

import ept
from ept.config.configuration import write_resolved
from ept.files import DIGESTS, digest, sha256_file, write_json, write_text
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.plan.tables import ZERO_SHOT
from ept.plan.targets import made_from
from ept.results.records import OWN_DIGEST, read_record, software
from ept.results.render import Layout, table_page, to_latex, to_markdown
from ept.results.tables.registry import kind_of, title_of


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
    texts = (to_csv(columns, rows), markdown, to_latex(layout), table_page(title_of(table), markdown))
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
