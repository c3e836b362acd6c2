"""Records of runs written by hand, for tables that are then known."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ept.files import DIGESTS, digest, sha256_file
from ept.results.records import OWN_DIGEST
from ept.tasks.registry import get_task

ROWS = 200


def write_runs(pack, right, **record_of):
    """A record in which seed i has `right[i]` of 200 test examples right; the gold class is always 0.

    `record_of` are keys of the record that differ from those of a start from scratch.
    """
    pack.folder.mkdir(parents=True, exist_ok=True)
    seeds = len(right)
    predictions = [np.arange(ROWS) >= count for count in right]
    table = pa.table(
        {
            "seed": np.repeat(np.arange(seeds), ROWS),
            "id": [str(row) for row in range(ROWS)] * seeds,
            "group": [""] * ROWS * seeds,
            "label": np.zeros(ROWS * seeds),
            "prediction": np.concatenate(predictions).astype(float),
            "text": [""] * ROWS * seeds,
            "answers": pa.array([[]] * ROWS * seeds, pa.list_(pa.string())),
        }
    )
    pq.write_table(table, pack.folder / "predictions.parquet")
    metrics = get_task(pack.task).metrics
    record = {
        "hash": pack.hash,
        "backbone": "demo-t5",
        "source": pack.candidates[0].title if pack.candidates else "scratch",
        "source_losses": {candidate.title: 1.5 for candidate in pack.candidates},
        "trained_parameters": 1000,
        "stored_parameters": 900,
        "data_fingerprints": {"train": "a", "validation": "b", "test": "c"},
        "train_rows": 500,
        "validation_rows": 100,
        "test_rows": ROWS,
        "split_rule": "halve",
        "device": "cpu",
        "dtype": "float32",
        "threads": 1,
        "versions": {"ept": "0", "torch": "2"},
        "train_seconds": 4.0,
        "examples_per_second": 100.0,
        "peak_memory_bytes": 2**20,
        "majority_baseline": dict.fromkeys(metrics, 50.0),
        "majority_validation": dict.fromkeys(metrics, 40.0),
        "validation_labels": 100,
        "commit": None,
        "diverged_sources": [],
        "runs": [
            {
                "seed": seed,
                "selected": True,
                "status": "finished",
                "steps": 30,
                "best_step": 20,
                "learning_rates": {"prompt": 0.3},
                "test": dict.fromkeys(metrics, count / 2),
                "test_open": dict.fromkeys(metrics, count / 2),
                "test_closed": dict.fromkeys(metrics, count / 2 + 1),
                "invalid_share": 0.0,
            }
            for seed, count in enumerate(right)
        ],
        **record_of,
    }
    if "source_similarities" in record:
        # A source is chosen by one or the other.
        del record["source_losses"]
    write_record(pack, record)


def write_record(pack, record):
    """The record of a pack, and its settings with the digests of its files."""
    (pack.folder / "runs.json").write_text(json.dumps(record))
    digests = {file.name: sha256_file(file) for file in pack.folder.iterdir() if file.suffix in (".json", ".parquet")}
    digests.pop("settings.json", None)
    settings = {"hash": pack.hash, "settings": pack.settings, DIGESTS: digests}
    (pack.folder / "settings.json").write_text(json.dumps(settings))


def edit_record(pack, **changes):
    """Change keys of a record as another training would: its digest is that of the new content."""
    write_record(pack, json.loads((pack.folder / "runs.json").read_text()) | changes)


def edit_table(path, text):
    """Change a file of a table as another making of it would: the table's settings name the new content."""
    path.write_text(text)
    sign_table(path)


def sign_table(path):
    """Put the digest of a table's file into its settings, which are made where there are none."""
    settings_file = path.parent / f"{path.stem}.settings.json"
    settings = json.loads(settings_file.read_text()) if settings_file.exists() else {DIGESTS: {}}
    settings.pop(OWN_DIGEST, None)
    settings[DIGESTS][path.name] = sha256_file(path)
    settings_file.write_text(json.dumps(settings | {OWN_DIGEST: digest(settings)}))
