"""The list of the packs behind a table, the input by which Snakemake knows that a table is out of date."""

import json
from pathlib import Path

from ept import paths
from ept.experiment import Experiment
from ept.files import write_text


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
