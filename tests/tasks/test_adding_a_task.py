"""docs/adding-a-task.md: its record, as it stands there, is a task that works."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from ept.cli import main
from ept.config.configuration import load_configuration
from ept.data.dataset import TokenizedSplit
from ept.data.tokenizer import load_pieces
from ept.demo.identity import BACKBONE_FOLDER
from ept.plan.experiment import Experiment
from ept.tasks.registry import TASKS, Task

ROWS = [{"sentence1": f"The cat sees dog {row} .", "sentence2": "It runs .", "label": row % 2} for row in range(20)]


@pytest.fixture
def task(project, monkeypatch) -> Task:
    """The record, registered."""
    text = (project / "docs/adding-a-task.md").read_text(encoding="utf-8")
    (record,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    found = eval(record, {"Task": Task})
    assert found.name not in TASKS
    monkeypatch.setitem(TASKS, found.name, found)
    return found


def test_record(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("mine/glue/wnli")
    folder.mkdir(parents=True)
    for split in ("train", "validation"):
        pq.write_table(pa.Table.from_pylist(ROWS), folder / f"{split}.parquet")
    values = {"data": {"source": "local", "path": "mine"}, "tasks": {"target": ["wnli"]}, "methods": ["pt"]}
    Path("config.yaml").write_text(yaml.safe_dump(values | {"few_shot": {"k": []}}))
    for verb in ("fetch", "tokenize"):
        assert main([verb, "--config", "config.yaml", "--task", "wnli"]) == 0
    (pack,) = Experiment(load_configuration("config.yaml")).tables["main"]
    splits = {name: TokenizedSplit(pack.tokenized / f"{name}.arrow") for name in ("train", "validation", "test")}
    assert {name: len(split) for name, split in splits.items()} == {"train": 20, "validation": 10, "test": 10}
    pieces = load_pieces(BACKBONE_FOLDER)
    batch = splits["train"].collate([3])
    expected = "sentence1: The cat sees dog 3 . sentence2: It runs ."
    assert batch.input_ids[0].tolist() == pieces.tokenizer.encode(expected).ids
    assert batch.target_ids[0].tolist() == pieces.tokenizer.encode("1").ids
