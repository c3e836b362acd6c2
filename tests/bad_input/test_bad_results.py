"""Bad records and tables."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bad_input.cases import cases
from bad_input.spoil import content, gone, record, settings, torn

RUN = "out/runs/tiny/pt/rte/full/*/"
CASES = {
    "unknown table": (settings(), "table --table fewshot_k5", "no table fewshot_k5 .. it has main, fewshot_k4"),
    "no run": (
        gone("out/runs/tiny/pt"),
        "table --table main",
        "out/runs/tiny/pt/rte/full/ .. is not there; .. `ept train",
    ),
    "run of other settings": (
        settings(seeds=[0, 1]),
        "table --table main",
        "out/runs/tiny/pt/rte/full/ .. is not there; .. `ept train",
    ),
    "foreign hash": (
        record(RUN + "runs.json", hash="01234567"),
        "table --table main",
        "out/runs/tiny/pt/rte/full/ .. holds the record of settings 01234567, not of .. delete it and run again",
    ),
    "foreign settings": (
        record(RUN + "settings.json", hash="01234567"),
        "table --table main",
        "out/runs/tiny/pt/rte/full/ .. holds the record of settings 01234567, not of .. delete it and run again",
    ),
    "record torn": (torn(RUN + "runs.json"), "table --table main", "runs.json .. delete its folder and run again"),
    "record a list": (content(RUN + "runs.json", "[]"), "table --table main", "runs.json .. delete its folder and run"),
    "record without runs": (
        record(RUN + "runs.json", runs=None),
        "table --table main",
        "runs.json .. 'runs' .. delete",
    ),
    "a seed missing": (
        record(RUN + "runs.json", runs=[]),
        "table --table main",
        "seed 0 is missing; delete the folder",
    ),
    "no predictions": (
        gone(RUN + "predictions.parquet"),
        "table --table main",
        "predictions.parquet: .. delete its folder",
    ),
    "predictions torn": (
        torn(RUN + "predictions.parquet"),
        "table --table main",
        "predictions.parquet: .. delete its folder and run again",
    ),
    "other predictions": (
        lambda: pq.write_table(pa.table({"seed": [0]}), next(Path(".").glob(RUN)) / "predictions.parquet"),
        "table --table main",
        "predictions.parquet lacks the column 'group'; delete its folder and run again",
    ),
    "other data": (
        record(RUN + "runs.json", data_fingerprints={"train": "0", "validation": "0", "test": "0"}),
        "table --table main",
        "the train split of rte has the fingerprint .. delete the older folder and run again",
    ),
    "shown before made": (settings(), "show", "out/main.md is not there yet; make it with `snakemake"),
    "an empty table": (content("out/main.md", ""), "show", "out/main.md is no table; make it again"),
    "a table in Latin-1": (content("out/main.md", "é".encode("latin-1")), "show", "out/main.md is no table; make it"),
    "a file as output": (settings(output="config.yaml"), "show", "config.yaml/main.md is not there yet"),
}


@cases(CASES)
def test_bad_results(refused, spoil, command, words):
    refused(spoil, command, words)
