"""Further tasks of DePT's paper on real rows, with the T5 tokenizer and a small T5 made here, scored by other code."""

import csv
import json
import re
import shutil
import string
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tokenizers import Tokenizer

from tiny_models import make_t5

# Some minutes.
pytestmark = pytest.mark.long

TASKS = ("scitail", "hotpotqa", "nq")


@pytest.fixture(scope="module")
def data(tmp_path_factory, real_data):
    """The real rows in the layout of a local copy, those of a single published file cut in two."""
    folder = tmp_path_factory.mktemp("data")

    def write(place, train, validation):
        (folder / place).mkdir(parents=True)
        pq.write_table(train, folder / place / "train.parquet")
        pq.write_table(validation, folder / place / "validation-00000-of-00001-351a3f8a155ba171.parquet")

    for source, place, cut in (
        ("scitail/tsv_format/test", "scitail/tsv_format", 1500),
        ("naturalquestions_derived/gold_passage/validation", "nq/data", 2500),
    ):
        rows = pq.read_table(real_data / f"{source}.parquet")
        write(place, rows.slice(0, cut), rows.slice(cut))
    hotpotqa = [pq.read_table(real_data / f"hotpotqa/distractor/{split}.parquet") for split in ("train", "validation")]
    write("hotpotqa/data", *hotpotqa)
    return folder


@pytest.fixture(scope="module")
def finished(shared_workflow, data, tmp_path_factory, real_data):
    """The folder of a complete run with few steps."""
    backbone = tmp_path_factory.mktemp("backbone")
    make_t5(std=None, vocab_size=32128, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2).save_pretrained(
        backbone
    )
    for path in (real_data.parent / "tokenizer/t5").iterdir():
        shutil.copy(path, backbone)
    few = {"steps": 20, "warmup_steps": 1, "evaluate_every": 20, "validation_rows": 16, "batch_size": 4}
    values = {
        "output": "results/dept",
        "backbone": {"name": "local-t5", "source": "local", "id": str(backbone), "dtype": "float32"},
        "data": {"source": "local", "path": str(data)},
        "tasks": {"target": list(TASKS)},
        "methods": ["pt"],
        "seeds": [0],
        "prompt": {"length": 10, "short_length": 8},
        "training": {**few, "learning_rates": {"pt": {"prompt": [0.3]}}},
        "few_shot": {"k": []},
    }
    shared_workflow.run("results/dept/main.csv", config=shared_workflow.configure(values))
    return shared_workflow.folder


def _normalized(text):
    """SQuAD's: lower case, no punctuation, no articles, single blanks."""
    text = "".join(sign for sign in text.lower() if sign not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def _exact_match(found, answers):
    return float(any(_normalized(found) == _normalized(answer) for answer in answers))


def _f1(found, answers):
    best = 0.0
    for answer in answers:
        words, wanted = _normalized(found).split(), _normalized(answer).split()
        shared = sum((Counter(words) & Counter(wanted)).values())
        if shared:
            precision, recall = shared / len(words), shared / len(wanted)
            best = max(best, 2 * precision * recall / (precision + recall))
        elif words == wanted:
            best = 1.0
    return best


def _folder(finished, task):
    (path,) = finished.glob(f"runs/local-t5/pt/{task}/full/*/runs.json")
    return path.parent


@pytest.mark.parametrize("task", TASKS)
def test_scores_are_those_of_the_rules_written_out_here(finished, data, task):
    predictions = pq.read_table(_folder(finished, task) / "predictions.parquet").to_pylist()
    published = pq.read_table(next((data / task).glob("*/validation*.parquet"))).to_pylist()
    with open(finished / "results/dept/main.csv", newline="") as file:
        table = {row["metric"]: float(row["mean"]) for row in csv.DictReader(file) if row["task"] == task}
    rows = [(row, published[int(row["id"].removeprefix("validation:"))]) for row in predictions]
    if task == "scitail":
        expected = {"accuracy": [("entails", "neutral")[int(row["label"])] == there["label"] for row, there in rows]}
        assert all(expected["accuracy"]) and len(rows) == 313
        expected["accuracy"] = [row["prediction"] == row["label"] for row, _ in rows]
    else:
        assert len(rows) == len(published)
        expected = {
            "f1": [_f1(row["text"], there["answers"]) for row, there in rows],
            "exact_match": [_exact_match(row["text"], there["answers"]) for row, there in rows],
        }
    assert set(table) == set(expected)
    for metric, scores in expected.items():
        assert table[metric] == pytest.approx(100 * sum(scores) / len(scores), abs=0.01), metric


@pytest.mark.parametrize("task", ["hotpotqa", "nq"])
def test_answers_behind_the_cut_are_counted(finished, data, real_data, task):
    """By decoding the pieces that are kept."""
    (path,) = finished.glob(f"data/tokenized/local-t5/{task}/*/test.arrow")
    with pa.ipc.open_file(path) as file:
        batch = file.get_batch(0)
        metadata = json.loads(batch.schema.metadata[b"ept"])
    published = pq.read_table(next((data / task).glob("*/validation*.parquet"))).to_pylist()
    tokenizer = Tokenizer.from_file(str(real_data.parent / "tokenizer/t5/tokenizer.json"))

    def plain(text):
        return "".join(text.lower().split())

    cut = missing = 0
    for number, ids in zip(batch["id"].to_pylist(), batch["input_ids"].to_pylist(), strict=True):
        row = published[int(number.split(":")[1])]
        read = plain(tokenizer.decode(ids)).split("context:", 1)[1]
        there = any(" ".join(a.lower().split()) in " ".join(row["context"].lower().split()) for a in row["answers"])
        missing += not there
        cut += there and not any(plain(answer) in read for answer in row["answers"])
    assert metadata["answers_missing"] == missing
    # An answer that ends in the last piece that is kept may be read in part, and signs that T5 cannot write are lost.
    assert metadata["answers_cut"] == pytest.approx(cut, abs=3)
    assert (metadata["answers_cut"] > 0) == (task == "hotpotqa")
    # Readers of the run and of the table learn of them.
    record = json.loads((_folder(finished, task) / "runs.json").read_text())
    assert [record[key] for key in ("answers_cut", "answers_missing")] == [metadata["answers_cut"], missing]
    below = (finished / "results/dept/main.md").read_text().splitlines()[-5:]
    said = [line for line in below if "HotpotQA" in line and f"{metadata['answers_cut']} of {len(published)} " in line]
    assert len(said) == (task == "hotpotqa")


def test_sources_are_targets_that_start_from_each_other(workflow, project):
    """config/demo_qa.yaml with few steps: SQuAD and ReCoRD, elsewhere sources of prompts only, as targets."""
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
