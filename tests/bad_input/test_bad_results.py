"""Bad records and tables."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bad_input.cases import cases
from bad_input.spoil import content, gone, record, settings, signed, torn

RUN = "runs/tiny/pt/rte/full/*/"
CASES = {
    "unknown table": (settings(), "table --table fewshot_k5", "fewshot_k5 .. main, fewshot_k4"),
    "no run": (
        gone("runs/tiny/pt"),
        "table --table main",
        "runs/tiny/pt/rte/full/ .. runs.json .. `ept train",
    ),
    "run of other settings": (
        settings(seeds=[0, 1]),
        "table --table main",
        "runs/tiny/pt/rte/full/ .. runs.json .. `ept train",
    ),
    "foreign hash": (
        signed(record(RUN + "runs.json", hash="01234567"), RUN),
        "table --table main",
        "runs/tiny/pt/rte/full/ .. 01234567",
    ),
    "foreign settings": (
        record(RUN + "settings.json", hash="01234567"),
        "table --table main",
        "runs/tiny/pt/rte/full/ .. 01234567",
    ),
    "record torn": (torn(RUN + "runs.json"), "table --table main", "runs.json .. SHA-256"),
    "record a list": (
        signed(content(RUN + "runs.json", "[]"), RUN),
        "table --table main",
        "runs.json",
    ),
    "record changed": (
        record(RUN + "runs.json", trained_parameters=1),
        "table --table main",
        "runs.json .. SHA-256",
    ),
    "record without runs": (
        signed(record(RUN + "runs.json", runs=None), RUN),
        "table --table main",
        "runs.json .. 'runs'",
    ),
    "a seed missing": (
        signed(record(RUN + "runs.json", runs=[]), RUN),
        "table --table main",
        "seed 0",
    ),
    "no predictions": (
        gone(RUN + "predictions.parquet"),
        "table --table main",
        "predictions.parquet",
    ),
    "predictions torn": (
        torn(RUN + "predictions.parquet"),
        "table --table main",
        "predictions.parquet .. SHA-256",
    ),
    "other predictions": (
        signed(lambda: pq.write_table(pa.table({"seed": [0]}), next(Path(".").glob(RUN)) / "predictions.parquet"), RUN),
        "table --table main",
        "predictions.parquet .. 'group'",
    ),
    "other data": (
        signed(record(RUN + "runs.json", data_fingerprints={"train": "0", "validation": "0", "test": "0"}), RUN),
        "table --table main",
        "train .. rte .. fingerprint",
    ),
    "shown before made": (settings(), "show", "out/main.md .. `snakemake"),
    "an empty table": (content("out/main.md", ""), "show", "out/main"),
    "a table in Latin-1": (content("out/main.md", "é".encode("latin-1")), "show", "out/main"),
    "a file as output": (settings(output="config.yaml"), "show", "config.yaml/main.md"),
}


@cases(CASES)
def test_bad_results(refused, spoil, command, words):
    refused(spoil, command, words)
