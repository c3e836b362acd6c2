"""Read the records behind a table and refuse every stranger."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ept.errors import InputError
from ept.evaluation.metrics import References
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.plan.paths import table_file
from ept.tasks.registry import get_task

# What tables need of a run's record and of its predictions (ept.training.report).
RECORD = (
    "backbone",
    "source",
    "trained_parameters",
    "stored_parameters",
    "data_fingerprints",
    "majority_baseline",
    "train_rows",
    "validation_rows",
    "test_rows",
    "split_rule",
    "device",
    "dtype",
    "threads",
    "versions",
    "train_seconds",
    "examples_per_second",
    "peak_memory_bytes",
    "runs",
)
# Of these one, by what the source was chosen.
SELECTION = ("source_similarities", "source_losses")
PREDICTIONS = ("seed", "group", "label", "prediction", "text", "answers")


@dataclass(frozen=True)
class PackResult:
    """The record of a pack, and its test predictions [rows] by seed beside what was right."""

    pack: Pack
    record: dict
    predictions: dict[int, np.ndarray]
    truth: References

    @property
    def start(self) -> str:
        """`scratch`, or `source` whichever source was chosen."""
        return self.pack.initialize_from

    @property
    def diverged(self) -> int:
        """How many of the reported runs diverged (they count as the majority baseline)."""
        return sum(run["selected"] and run["status"] == "diverged" for run in self.record["runs"])


def collect(packs: list[Pack]) -> list[PackResult]:
    """Read all packs.

    Raises InputError for a foreign hash, a missing seed, or data that differ between methods, or between a source
    prompt and what the table holds of its task.
    """
    results = [_read(pack) for pack in packs]
    seen: dict[tuple[str, str], tuple[Path, str]] = {}
    for result in results:
        _check_data(seen, result.pack.folder, result.pack.task, result.record["data_fingerprints"], "the older folder")
    for source in _source_packs(packs):
        # Results that were fetched may lie here without their source prompts.
        if (source.folder / "runs.json").is_file():
            for task, fingerprints in _source_data(source).items():
                what = "the older folder, with every run that started from this source prompt,"
                _check_data(seen, source.folder, task, fingerprints, what)
    return results


def _source_packs(packs: list[Pack]) -> list[Pack]:
    """Every source prompt that these packs may have started from, each once, and the teachers of distilled ones."""
    found: dict[str, Pack] = {}
    for pack in packs:
        for source in pack.candidates:
            found |= {each.hash: each for each in (source, *source.candidates)}
    return list(found.values())


def _source_data(source: Pack) -> dict[str, dict[str, str]]:
    """The fingerprints by task and split of the data that a source prompt was trained on."""
    found = _read_json(source.folder / "runs.json").get("data_fingerprints")
    if not isinstance(found, dict):
        raise InputError(f"{source.folder}/runs.json lacks 'data_fingerprints'; delete its folder and run again")
    return {source.task: found} if source.tokenized else found


def _check_data(
    seen: dict[tuple[str, str], tuple[Path, str]], folder: Path, task: str, fingerprints: dict[str, str], remove: str
) -> None:
    """Raise InputError where a split has another fingerprint than `seen` has of it, else remember it there."""
    for split, mine in fingerprints.items():
        other, theirs = seen.setdefault((task, split), (folder, mine))
        if mine != theirs:
            raise InputError(
                f"{folder}/runs.json: the {split} split of {task} has the fingerprint {mine[:8]}, but {other} was made "
                f"from {theirs[:8]}; delete {remove} and run again"
            )


def read_record(folder: Path, hash_: str) -> dict:
    """The record of a pack's runs. Raises InputError for one that is missing, torn, incomplete or of other settings."""
    if not (folder / "runs.json").is_file():
        raise InputError(f"{folder}/runs.json is not there; make it with `ept train --hash {hash_}`")
    record = _read_json(folder / "runs.json")
    _check_hash(folder, record, hash_)
    read_settings(folder, hash_)
    missing = [key for key in RECORD if key not in record]
    if not any(key in record for key in SELECTION):
        missing += [SELECTION[-1]]
    if missing:
        raise InputError(f"{folder}/runs.json lacks {missing[0]!r}; delete its folder and run again")
    return record


def read_settings(folder: Path, hash_: str) -> dict:
    """The settings of a pack (Pack.settings). Raises InputError for a file that is missing, torn or of another pack."""
    stored = _read_json(folder / "settings.json")
    _check_hash(folder, stored, hash_)
    if not isinstance(stored.get("settings"), dict):
        raise InputError(f"{folder}/settings.json lacks 'settings'; delete its folder and run again")
    return stored["settings"]


def _check_hash(folder: Path, found: dict, hash_: str) -> None:
    if found.get("hash") != hash_:
        raise InputError(
            f"{folder} holds the record of settings {found.get('hash')}, not of {hash_}; delete it and run again"
        )


def selection_scores(record: dict) -> tuple[str, dict[str, float | None]]:
    """How a record's source was chosen (loss or similarity) and the score of each candidate, the chosen one first."""
    if "source_similarities" in record:
        return "similarity", record["source_similarities"]
    return "loss", record["source_losses"]


def _read(pack: Pack) -> PackResult:
    record = read_record(pack.folder, pack.hash)
    seeds = {run["seed"] for run in record["runs"] if run["selected"]}
    table = _read_predictions(pack.folder / "predictions.parquet")
    for seed in pack.seeds:
        if seed not in seeds or seed not in table["seed"].unique().to_pylist():
            raise InputError(f"{pack.folder}: seed {seed} is missing; delete the folder and run again")
    by_seed = {seed: table.filter(pa.compute.equal(table["seed"], seed)) for seed in pack.seeds}
    extraction = get_task(pack.task).kind == "extraction"
    first = by_seed[pack.seeds[0]]
    return PackResult(
        pack=pack,
        record=record,
        predictions={seed: _predictions(part, extraction) for seed, part in by_seed.items()},
        truth=References(
            labels=first["label"].to_numpy(),
            groups=first["group"].to_pylist(),
            answers=first["answers"].to_pylist() if extraction else [],
        ),
    )


def _predictions(table: pa.Table, extraction: bool) -> np.ndarray:
    if extraction:
        return np.array(table["text"].to_pylist(), dtype=object)
    return table["prediction"].to_numpy()


def _read_predictions(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot read {path}: {_reason(error)}; delete its folder and run again") from error
    if missing := [name for name in PREDICTIONS if name not in table.column_names]:
        raise InputError(f"{path} lacks the column {missing[0]!r}; delete its folder and run again")
    return table


def _read_json(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {_reason(error)}; delete its folder and run again") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no JSON object; delete its folder and run again")
    return found


def _reason(error: Exception) -> str:
    """What is wrong, in one line; libraries write several."""
    return str(error).splitlines()[0]


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
