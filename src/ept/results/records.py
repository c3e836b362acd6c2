"""Read the records behind a table; refuse those of other settings, other data, and damaged ones."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ept.errors import InputError
from ept.evaluation.metrics import References
from ept.files import DIGESTS, digest, parse_json, sha256_file
from ept.plan.experiment import Experiment
from ept.plan.pack import DIVERGED, Pack
from ept.plan.paths import table_file

RUNS, SETTINGS, PREDICTIONS_FILE = "runs.json", "settings.json", "predictions.parquet"
# The remedy for a damaged folder of a pack.
AGAIN = "delete its folder and run again"
# What tables need of a run's record and of its predictions (ept.training.record).
RECORD = (
    "backbone",
    "source",
    "trained_parameters",
    "stored_parameters",
    "data_fingerprints",
    "majority_baseline",
    "majority_validation",
    "train_rows",
    "validation_rows",
    "validation_labels",
    "test_rows",
    "split_rule",
    "device",
    "dtype",
    "threads",
    "versions",
    "commit",
    "diverged_sources",
    "train_seconds",
    "examples_per_second",
    "peak_memory_bytes",
    "runs",
)
# One of these, depending on how the source was chosen.
SELECTION = ("source_similarities", "source_losses")
PREDICTIONS_COLUMNS = ("seed", "group", "label", "prediction", "text", "answers")


@dataclass(frozen=True)
class PackResult:
    """The record of a pack, its test predictions [rows] by seed, and what was right."""

    pack: Pack
    record: dict
    predictions: dict[int, np.ndarray]
    truth: References

    @property
    def start(self) -> str:
        """`scratch`, or `source` whichever source was chosen."""
        return self.pack.initialize_from

    @property
    def reported(self) -> list[dict]:
        """The runs with the chosen learning rates, one a seed."""
        return [run for run in self.record["runs"] if run["selected"]]

    @property
    def diverged(self) -> int:
        """How many of the reported runs diverged (they count as the majority baseline)."""
        return sum(run["status"] == DIVERGED for run in self.reported)

    @property
    def combinations(self) -> int:
        """How many combinations of learning rates were tried."""
        return len({tuple(run["learning_rates"].items()) for run in self.record["runs"]})

    def mean_score(self, rule: str, metric: str) -> float:
        """The mean over seeds of a test score by a rule of the record (`test_open`, `test_closed`); NaN without one."""
        scores = [run[rule][metric] for run in self.reported if run[rule]]
        known = [score for score in scores if score is not None]
        return float(np.mean(known)) if known else math.nan

    @property
    def invalid_share(self) -> float:
        """The percentage of free predictions that are no label, mean over seeds; NaN where any text is an answer."""
        shares = [run["invalid_share"] for run in self.reported if run["invalid_share"] is not None]
        return 100.0 * float(np.mean(shares)) if shares else math.nan


def validation_score(record: dict, run: dict, metric: str) -> float:
    """The best validation score of a run; one that diverged counts as the majority baseline."""
    if run["status"] == DIVERGED or run["best_validation"] is None:
        return float(record["majority_validation"][metric])
    return float(run["best_validation"])


def software(record: dict) -> str:
    """The version of the package that made a record, and the commit where it is known."""
    # The package itself comes first; the libraries that it uses follow.
    version, commit = next(iter(record["versions"].values()), "unknown"), record["commit"]
    if not commit:
        return version
    return f"{version} ({commit['id'][:12]}{'' if commit['clean'] else ', with changes'})"


def collect(packs: list[Pack]) -> list[PackResult]:
    """Read all packs.

    Raises InputError for a foreign hash, a damaged file, a missing seed, or data that differ between methods, or
    between a source prompt and the runs of its task.
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
        raise InputError(f"{source.folder}/runs.json lacks 'data_fingerprints'; {AGAIN}")
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
    """Read the record of a pack's runs.

    Raises InputError for one that is missing, damaged, incomplete or of other settings.
    """
    if not (folder / RUNS).is_file():
        raise InputError(f"{folder / RUNS} does not exist; make it with `ept train --hash {hash_}`")
    stored = _read_pack_settings(folder, hash_)
    _check_digest(folder, stored, RUNS)
    record = _read_json(folder / RUNS)
    _check_hash(folder, record, hash_)
    missing = [key for key in RECORD if key not in record]
    if not any(key in record for key in SELECTION):
        missing += [SELECTION[-1]]
    if missing:
        raise InputError(f"{folder / RUNS} lacks {missing[0]!r}; {AGAIN}")
    return record


def read_settings(folder: Path, hash_: str) -> dict:
    """Read the settings of a pack (Pack.settings).

    Raises InputError for a file that is missing, damaged or of another pack.
    """
    return _read_pack_settings(folder, hash_)["settings"]


def _read_pack_settings(folder: Path, hash_: str) -> dict:
    stored = _read_json(folder / SETTINGS)
    _check_hash(folder, stored, hash_)
    for key in ("settings", DIGESTS):
        if not isinstance(stored.get(key), dict):
            raise InputError(f"{folder / SETTINGS} lacks {key!r}; {AGAIN}")
    if digest(stored["settings"]) != hash_:
        raise InputError(f"{folder / SETTINGS} is damaged: its settings do not have the hash {hash_}; {AGAIN}")
    return stored


def _check_digest(folder: Path, stored: dict, name: str) -> None:
    """Raise InputError for a file of a pack that is not the one that the pack's settings.json names."""
    try:
        found = sha256_file(folder / name)
    except OSError as error:
        raise InputError(f"cannot read {folder / name}: {_reason(error)}; {AGAIN}") from error
    if found != stored[DIGESTS].get(name):
        raise InputError(f"{folder / name} is damaged: its SHA-256 is not the one in {SETTINGS}; {AGAIN}")


def _check_hash(folder: Path, found: dict, hash_: str) -> None:
    if found.get("hash") != hash_:
        raise InputError(f"{folder} holds the record of settings {found.get('hash')}, not of {hash_}; {AGAIN}")


def selection_scores(record: dict) -> tuple[str, dict[str, float | None]]:
    """How a record's source was chosen (loss or similarity) and the score of each candidate, the chosen one first."""
    if "source_similarities" in record:
        return "similarity", record["source_similarities"]
    return "loss", record["source_losses"]


def _read(pack: Pack) -> PackResult:
    record = read_record(pack.folder, pack.hash)
    seeds = {run["seed"] for run in record["runs"] if run["selected"]}
    _check_digest(pack.folder, _read_pack_settings(pack.folder, pack.hash), PREDICTIONS_FILE)
    table = read_predictions(pack.folder)
    for seed in pack.seeds:
        if seed not in seeds or seed not in table["seed"].unique().to_pylist():
            raise InputError(f"{pack.folder}: seed {seed} is missing; {AGAIN}")
    by_seed = {seed: table.filter(pa.compute.equal(table["seed"], seed)) for seed in pack.seeds}
    extraction = pack.record.kind == "extraction"
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


def read_predictions(folder: Path) -> pa.Table:
    """Read the test predictions of a pack: a row for each seed and example (ept.training.record).

    Raises InputError for a file that is missing, damaged or incomplete.
    """
    path = folder / PREDICTIONS_FILE
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot read {path}: {_reason(error)}; {AGAIN}") from error
    if missing := [name for name in PREDICTIONS_COLUMNS if name not in table.column_names]:
        raise InputError(f"{path} lacks the column {missing[0]!r}; {AGAIN}")
    return table


def _read_json(path: Path) -> dict:
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {_reason(error)}; {AGAIN}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a JSON object; {AGAIN}")
    return found


def _reason(error: Exception) -> str:
    """What is wrong, in one line; libraries write several."""
    return str(error).splitlines()[0]


ENDING = ".csv"
RUN = {"method", "variant", "task", "regime", "start", "hash", "folder", "prompts"}
# The key of a settings file with the digest of all its other keys.
OWN_DIGEST = "digest"


@dataclass(frozen=True)
class WrittenTable:
    """A table of this project. `rows` are the CSV's, as text; the rest comes from <table>.settings.json."""

    path: Path
    rows: list[dict[str, str]]
    runs: list[dict[str, str]]
    configuration: str


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table's CSV as text. Raises InputError for a file that is missing or not CSV."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file, strict=True))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; make it with `snakemake {path}`") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV table; make it again with `snakemake --force {path}`") from error


def read_table(path: Path) -> WrittenTable:
    """Read a table's CSV and its settings.

    Raises InputError for a file that is not a table of this project, or is damaged.
    """
    if path.suffix != ENDING:
        raise InputError(f"{path} is not a table; pass its CSV file, for example results/main.csv")
    rows = read_rows(path)
    settings_file = path.with_suffix(".settings.json")
    settings = read_table_settings(settings_file)
    check_table_file(path, settings)
    try:
        runs, configuration = settings.get("runs", []), settings["configuration"]
        complete = all(run.keys() >= RUN for run in runs)
    except (LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{settings_file} is damaged; make {path} again with `snakemake --force {path}`") from error
    if not complete or not rows or not rows[0].keys() & {"method", "method_a"}:
        raise InputError(f"{path} and {settings_file.name} are not what `ept table` writes; make the table again")
    return WrittenTable(path, rows, runs, configuration)


def read_table_settings(path: Path) -> dict:
    """Read the settings file of a table, a summary or figures. Raises InputError if it is missing or damaged."""
    try:
        settings = parse_json(path.read_text(encoding="utf-8"))
        own = settings.pop(OWN_DIGEST)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is missing or damaged; make the table again") from error
    if digest(settings) != own:
        raise InputError(f"{path} is damaged: its content does not have the digest {own}; make the table again")
    return settings


def check_table_file(path: Path, settings: dict) -> None:
    """Raise InputError for a file of a table whose SHA-256 is not the one in the table's settings."""
    try:
        found = sha256_file(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {_reason(error)}") from error
    if settings.get(DIGESTS, {}).get(path.name) != found:
        table = path.with_suffix(ENDING)
        raise InputError(
            f"{path} was changed after it was written: its SHA-256 is not the one in {path.stem}.settings.json; make "
            f"it again with `snakemake --force {table}`"
        )


def read_own_table(experiment: Experiment, table: str) -> WrittenTable:
    """Read a table of this configuration. Raises InputError for one that was made from other runs."""
    written = read_table(table_file(experiment.config.output, table))
    if [run["hash"] for run in written.runs] != [pack.hash for pack in experiment.table_packs(table)]:
        raise InputError(f"{written.path} was made from other settings; make it again with `ept table --table {table}`")
    return written
