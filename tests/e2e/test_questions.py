"""config/demo_qa.yaml with few steps: SQuAD and ReCoRD, elsewhere sources of prompts only, as targets."""

import csv
import json

import pyarrow.parquet as pq
import pytest
import yaml

# A minute or two: a dozen jobs.
pytestmark = pytest.mark.long


def test_sources_are_targets_that_start_from_each_other(workflow, project):
    values = yaml.safe_load((project / "config/demo_qa.yaml").read_text())
    values["tasks"]["target"].remove("hotpotqa")
    values |= {"methods": ["spot"], "seeds": [0]}
    values["training"] |= {"steps": 4, "warmup_steps": 1, "evaluate_every": 4, "validation_rows": 8}
    workflow.run("results/demo_qa/main.csv", config=workflow.configure(values))
    with open(workflow.folder / "results/demo_qa/main.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] != "average"]
    assert {(row["task"], row["metric"], row["source"]) for row in rows} == {
        (task, metric, source)
        for task, source in (("squad", "record"), ("record", "squad"))
        for metric in ("f1", "exact_match")
    }
    for task in ("squad", "record"):
        (path,) = workflow.folder.glob(f"runs/demo-t5/spot/{task}/full/*/runs.json")
        record = json.loads(path.read_text())
        predictions = pq.read_table(path.parent / "predictions.parquet")
        assert record["test_rows"] == predictions.num_rows > 0
        # The generated passages are short and hold their answers.
        assert (record["answers_cut"], record["answers_missing"]) == (0, 0)
        assert all(answers for answers in predictions["answers"].to_pylist())
