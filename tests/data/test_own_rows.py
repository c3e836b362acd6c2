"""Rows of a task of one's own: every format, bad files, carved splits, shared rows, data sets of the Hub."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from ept.cli import main
from ept.data.dataset import TokenizedSplit
from ept.data.fetch import fetch, read_raw
from ept.data.prepare import CARVED_ROWS, permutation, split
from ept.data.source import DataSource, identity
from ept.errors import InputError
from ept.tasks.define import TaskDefinition

DEMO = DataSource("demo")
WORDS = ["no complaint", "complaint"]
ROWS = [{"text": f"Order {number}, “ok”\tfine", "verdict": WORDS[number % 2]} for number in range(20)]


def _task(files, name="reviews", **values):
    definition = {"files": files, "template": "text: {text}", "label": "verdict", "labels": WORDS, **values}
    return TaskDefinition.model_validate(definition).task(name)


def _write(path, rows):
    path = Path(path)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        between = "\t" if path.suffix == ".tsv" else ","
        lines = [list(rows[0]), *(list(row.values()) for row in rows)]
        cells = [['"' + str(cell).replace('"', '""') + '"' for cell in line] for line in lines]
        path.write_text("".join(between.join(line) + "\n" for line in cells), encoding="utf-8")
    return str(path)


def _fetched(task, folder):
    fetch(task, DEMO, folder)
    return {name: table.to_pylist() for name, table in read_raw(task, folder).items()}


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path, ending):
    task = _task({"train": _write(tmp_path / f"train.{ending}", ROWS)})
    found = _fetched(task, tmp_path / "raw")
    expected = [{"text": row["text"], "label": WORDS.index(row["verdict"])} for row in ROWS]
    assert found == {"train": expected}


def test_columns_that_nobody_needs_may_hold_anything(tmp_path):
    path = tmp_path / "train.parquet"
    table = pa.Table.from_pylist(ROWS)
    table = table.append_column("when", pa.array([10**15] * len(ROWS), pa.timestamp("s")))
    pq.write_table(table.append_column("image", pa.array([b"\xff"] * len(ROWS))), path)
    assert len(_fetched(_task({"train": str(path)}), tmp_path / "raw")["train"]) == len(ROWS)
    pq.write_table(table.append_column("text", table["when"]).drop_columns("verdict"), path)
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}\b[^\n]*$"):
        _fetched(_task({"train": str(path)}), tmp_path / "again")


READ = """
import re, sys
from pathlib import Path
from ept.data.rows import read_rows
print(sum(len(rows) for rows in read_rows(sys.argv[1])))
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.parametrize("dictionary", [True, False], ids=["stored once", "stored each"])
def test_long_texts_of_a_small_file_are_read_piece_by_piece(tmp_path, dictionary):
    path = tmp_path / "long.parquet"
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int32()), ["x" * 999_999])
    pq.write_table(pa.table({"text": texts}), path, compression="zstd", use_dictionary=dictionary, store_schema=False)
    assert path.stat().st_size < 1e6
    done = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, check=True)
    rows, megabytes = map(int, done.stdout.split())
    assert rows == 400 and megabytes < 1000


def test_what_a_table_library_takes_for_a_missing_value_stays_text(tmp_path):
    rows = [{"text": text, "verdict": "complaint"} for text in ("NA", "null", "None", "nan", "007", "1e5")]
    found = _fetched(_task({"train": _write(tmp_path / "train.csv", rows)}), tmp_path / "raw")
    assert [row["text"] for row in found["train"]] == [row["text"] for row in rows]


def test_labels_of_the_file_may_stand_for_words(tmp_path):
    rows = [{"text": "a", "verdict": number % 2} for number in range(4)]
    path = _write(tmp_path / "train.parquet", rows)
    task = _task({"train": path}, labels={0: "fine", 1: "bad"})
    assert [row["label"] for row in _fetched(task, tmp_path / "raw")["train"]] == [0, 1, 0, 1]
    assert task.labels == ("fine", "bad")


def test_scores_and_answers(tmp_path):
    scores = _write(tmp_path / "scores.csv", [{"text": "a", "verdict": "3.4"}, {"text": "b", "verdict": "-1"}])
    task = _task({"train": scores}, kind="regression", range=[-1, 4], labels=[])
    assert [row["label"] for row in _fetched(task, tmp_path / "scores")["train"]] == [3.4, -1.0]
    # Every 0.2 from the lowest to the highest.
    assert [float(label) for label in task.labels] == pytest.approx(np.arange(26) / 5 - 1)
    answers = _write(tmp_path / "a.jsonl", [{"text": "a", "verdict": ["x", "y"]}, {"text": "b", "verdict": "z"}])
    task = _task({"train": answers}, kind="generation", labels=[])
    assert [row["answers"] for row in _fetched(task, tmp_path / "answers")["train"]] == [["x", "y"], ["z"]]


def test_the_identity_follows_the_content_and_what_is_read_out_of_it(tmp_path):
    first, second = _write(tmp_path / "a.csv", ROWS), _write(tmp_path / "b.csv", ROWS)
    changed = _write(tmp_path / "c.csv", [*ROWS[:-1], {**ROWS[-1], "text": "another"}])
    known = identity(DEMO, _task({"train": first}))
    assert identity(DEMO, _task({"train": second}, name="other", template="read: {text}")) == known
    others = [
        _task({"train": changed}),
        _task({"train": first}, labels=WORDS[::-1]),
        _task({"train": first, "test": changed}),
        _task({"train": first}, template="{text} {more}"),
        _task({"train": first}, label="more"),
    ]
    assert len({known, *(identity(DEMO, task) for task in others)}) == 6
    # The configured source of shipped tasks makes no difference.
    assert identity(DataSource("hub"), _task({"train": first})) == known


@pytest.mark.parametrize("rows", [8, 40, 5000])
@pytest.mark.parametrize("given", [(), ("test",), ("validation",), ("test", "validation")])
def test_missing_splits_are_carved_from_training(rows, given):
    published = {name: pa.record_batch({"text": ["a"] * rows}) for name in ("train", *given)}
    parts, rule = split(
        _task(dict.fromkeys(("train", *given), "a.csv") | {"test": "b.csv", "validation": "c.csv"}), published
    )
    missing = [name for name in ("test", "validation") if name not in given]
    count = min(CARVED_ROWS, rows // 4)
    assert rule == (f"carved {' and '.join(missing)}" if missing else "given")
    for name in given:
        assert (parts[name].split, parts[name].numbers.tolist()) == (name, list(range(rows)))
    for name in missing:
        assert (parts[name].split, len(parts[name])) == ("train", count)
    taken = [number for name in ("train", *missing) for number in parts[name].numbers]
    assert sorted(taken) == list(range(rows))
    # A task that lacks validation alone has the rows of the protocol's rule.
    if missing == ["validation"]:
        assert parts["validation"].numbers.tolist() == permutation(rows)[:count].tolist()


def test_rows_that_train_and_test_share_are_counted_and_said(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    train = [{"text": f"Order {number}", "verdict": "complaint"} for number in range(12)]
    texts = ["Order 3", "order  4", " ORDER 5", "Order 30", "Order 3", "Orde r 3"]
    test = [{"text": text, "verdict": "no complaint"} for text in texts]
    files = {"train": _write("train.csv", train), "validation": _write("val.csv", train), "test": _write("t.csv", test)}
    _configure(files)
    for verb in ("fetch", "tokenize"):
        assert main([verb, "--config", "own.yaml", "--task", "reviews"]) == 0
    (path,) = Path("data/tokenized").rglob("test.arrow")
    split_ = TokenizedSplit(path)
    assert split_.metadata["shared_rows"] == {"exact": 2, "nearly": 2}
    assert split_.metadata["split_rule"] == "given"
    assert [record.args for record in caplog.records if record.name == "ept"] == [("reviews", 6, 2, 2)]


def _configure(files, **values):
    definition = {"files": files, "template": "text: {text}", "label": "verdict", "labels": WORDS, **values}
    tasks = {"define": {"reviews": definition}, "target": ["reviews"]}
    Path("own.yaml").write_text(yaml.safe_dump({"methods": ["pt"], "tasks": tasks}))


GOOD = "text,verdict\nfine,no complaint\n"
SCORES = {"kind": "regression", "range": [0, 5], "labels": []}
# File, its content, settings, and what the sentence names.
BAD = {
    "no file": ("train.csv", None, {}, ["train.csv", "tasks.define.reviews.files.train"]),
    "missing column": ("train.csv", "body,verdict\nfine,complaint\n", {}, ["row 1", "'text'", "body, verdict"]),
    "missing label column": ("train.csv", "text,label\nfine,complaint\n", {}, ["row 1", "'verdict'", "text, label"]),
    "unknown label": ("train.csv", GOOD + "bad,complant\n", {}, ["row 2", "'verdict'", "'complant'", "no complaint"]),
    "another kind of label": ("train.csv", "text,verdict\nfine,0.73\n", {}, ["row 1", "'verdict'", "'0.73'"]),
    "word for a score": ("train.csv", "text,verdict\nfine,high\n", SCORES, ["row 1", "'verdict'", "'high'"]),
    "score out of range": ("train.csv", "text,verdict\nfine,4\nbad,5.5\n", SCORES, ["row 2", "5.5", "0 to 5"]),
    "empty text": ("train.csv", GOOD + '" ",complaint\n', {}, ["row 2", "'text'", "empty"]),
    "missing value": ("train.jsonl", '{"text": null, "verdict": "complaint"}\n', {}, ["row 1", "'text'", "empty"]),
    "list for a text": ("train.jsonl", '{"text": ["a"], "verdict": "complaint"}\n', {}, ["row 1", "'text'", "list"]),
    "empty file": ("train.csv", "", {}, ["train.csv", "empty"]),
    "no rows": ("train.csv", "text,verdict\n", {}, ["train.csv", "no rows"]),
    "not UTF-8": ("train.csv", GOOD.encode() + "Grüße,complaint\n".encode("latin-1"), {}, ["line 3", "UTF-8"]),
    "too many cells": ("train.csv", GOOD + "a,b,complaint\n", {}, ["line 3", "cells"]),
    "open quote": ("train.csv", GOOD + '"a,complaint\n', {}, ["train.csv", "line 3"]),
    "column twice": ("train.csv", "text,text,verdict\na,b,complaint\n", {}, ["'text'", "twice"]),
    "not JSON": ("train.jsonl", '{"text": "a", "verdict": "complaint"}\n{text: b}\n', {}, ["line 2", "JSON"]),
    "half a character": ("train.jsonl", '{"text": "a\\ud800", "verdict": "complaint"}\n', {}, ["row 1", "'text'"]),
    "not Parquet": ("train.parquet", GOOD, {}, ["train.parquet", "Parquet"]),
    "too few rows": ("train.csv", GOOD, {}, ["reviews", "test"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_sentence_and_nothing_is_written(tmp_path, monkeypatch, capsys, case):
    monkeypatch.chdir(tmp_path)
    name, content, settings, words = BAD[case]
    if content is not None:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    _configure({"train": name}, **settings)
    status = main(["fetch", "--config", "own.yaml", "--task", "reviews"])
    written = sorted(Path("data").rglob("*")) if status else []
    if case == "too few rows":
        assert status == 0
        status = main(["tokenize", "--config", "own.yaml", "--task", "reviews"])
        written = sorted(Path("data/tokenized").rglob("*"))
    lines = capsys.readouterr().err.strip().splitlines()
    assert status == 2
    assert len(lines) == 1
    assert len(lines[0]) <= 500
    for word in words:
        assert word in lines[0], lines[0]
    assert written == []


REVISION = "0123456789abcdef" * 2 + "01234567"


def _hub_task(**values):
    hub = {"id": "me/reviews", "revision": REVISION, "test": "test", **values}
    return _task(None, hub=hub)


@pytest.fixture
def fetch_from_hub(hub, tmp_path, monkeypatch):
    """Fetches a data set on a stand-in of the Hub, in a process of its own: libraries read HF_ENDPOINT on import."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    files = {"README.md": b"---\n---\n"}
    features = datasets.Features({"text": datasets.Value("string"), "verdict": datasets.ClassLabel(names=WORDS)})
    rows = [{**row, "verdict": WORDS.index(row["verdict"])} for row in ROWS]
    for name in ("train", "test"):
        datasets.Dataset.from_list(rows, features=features).to_parquet(f"{name}.parquet")
        files[f"data/{name}-00000-of-00001.parquet"] = Path(f"{name}.parquet").read_bytes()
    hub.publish("me/reviews", REVISION, files)

    def run(**values):
        _configure(None, hub={"id": "me/reviews", "revision": REVISION, "test": "test", **values})
        command = [sys.executable, "-m", "ept.cli", "fetch", "--config", "own.yaml", "--task", "reviews"]
        return subprocess.run(command, capture_output=True, text=True)

    return run


def test_a_data_set_of_the_hub_is_read_with_its_class_names(fetch_from_hub):
    done = fetch_from_hub()
    assert done.returncode == 0, done.stderr
    (folder,) = Path("data/raw").glob("*/reviews")
    expected = [{"text": row["text"], "label": WORDS.index(row["verdict"])} for row in ROWS]
    found = {name: table.to_pylist() for name, table in read_raw(_hub_task(), folder).items()}
    assert found == {"train": expected, "test": expected}
    assert len({identity(DEMO, _hub_task()), identity(DEMO, _hub_task(revision="0" * 40))}) == 2


def test_a_split_that_the_hub_lacks_is_one_sentence(fetch_from_hub):
    done = fetch_from_hub(validation="dev")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert all(word in last for word in ("me/reviews", REVISION[:8], "dev"))
    assert not Path("data").exists()
