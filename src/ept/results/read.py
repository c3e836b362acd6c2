"""Read a table that was written, with the runs that it says it was made from."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from ept.errors import InputError
from ept.experiment import Experiment
from ept.paths import table_file

ENDING = ".csv"
RUN = {"method", "variant", "task", "regime", "start", "hash", "folder", "prompts"}


@dataclass(frozen=True)
class WrittenTable:
    """`rows` are the CSV's, as text; `runs` and `configuration` stand beside it in <table>.settings.json."""

    path: Path
    rows: list[dict[str, str]]
    runs: list[dict[str, str]]
    configuration: str


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table's CSV as text. Raises InputError for a file that is missing or no CSV."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file, strict=True))
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there; make it with `snakemake {path}`") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no table in CSV; make it again with `snakemake --force {path}`") from error


def read_table(path: Path) -> WrittenTable:
    """Read a table's CSV and its settings. Raises InputError for what is no table of this project, or torn."""
    if path.suffix != ENDING:
        raise InputError(f"{path} is no table; name its CSV file, for example results/main.csv")
    rows = read_rows(path)
    beside = path.with_suffix(".settings.json")
    try:
        settings = json.loads(beside.read_text(encoding="utf-8"))
        runs, configuration = settings["runs"], settings["configuration"]
        complete = all(run.keys() >= RUN for run in runs)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{beside} is missing or damaged, so that {path} is no table; make it again") from error
    if not complete or not rows or not rows[0].keys() & {"method", "method_a"}:
        raise InputError(f"{path} or {beside.name} beside it is not what `ept table` writes; make it again")
    return WrittenTable(path, rows, runs, configuration)


def read_own_table(experiment: Experiment, table: str) -> WrittenTable:
    """The same for a table of this configuration. Raises InputError for one that was made from other runs."""
    written = read_table(table_file(experiment.config.output, table))
    if [run["hash"] for run in written.runs] != [pack.hash for pack in experiment.table_packs(table)]:
        raise InputError(f"{written.path} was made from other settings; make it again with `ept table --table {table}`")
    return written
