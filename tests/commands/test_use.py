"""predict, evaluate and share by hand: files in, files out, mistakes as one sentence."""

import csv
import io
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.metrics import accuracy_score

import ept
from ept.cli import main
from ept.config.configuration import parse_configuration
from ept.data.fetch import read_raw
from ept.plan.experiment import Experiment
from ept.tasks.registry import get_task


@pytest.fixture
def rows(texts, tmp_path, monkeypatch):
    """The texts as files of every format, in the working directory."""
    monkeypatch.chdir(tmp_path)
    rows = [{"id": str(number), "sentence": f'{text}, "{number}"'} for number, text in enumerate(texts)]
    for ending, delimiter in (("csv", ","), ("tsv", "\t")):
        with open(f"rows.{ending}", "w", newline="") as file:
            writer = csv.DictWriter(file, ["id", "sentence"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    with open("rows.jsonl", "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    pq.write_table(pa.Table.from_pylist(rows), "rows.parquet")
    return rows


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_gives_what_python_gives(ending, rows, prompt_files, model):
    file = prompt_files["ept"]
    assert main(["predict", "--prompt", str(file), "--input", f"rows.{ending}", "--output", "out.jsonl"]) == 0
    found = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    expected = model.predict(rows, ept.Prompt.from_pretrained(file))
    assert found == [{**row, "prediction": answer} for row, answer in zip(rows, expected, strict=True)]


ODD = {
    "byte order mark": b"\xef\xbb\xbfsentence,id\na good film,1\na poor plot,2\n",
    "line ends of Windows": b"sentence,id\r\na good film,1\r\na poor plot,2\r\n",
    "blank lines": b"sentence,id\n\na good film,1\n\n\na poor plot,2\n\n",
    "line breaks in quotes": b'sentence,id\n"a ""good""\nfilm",1\n"a poor\r\n\r\nplot",2\n',
    "a long text": b"sentence,id\n" + b"a good film " * 9000 + b",1\na poor plot,2\n",
    "an empty text": b'sentence,id\n"",1\na poor plot,2\n',
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD.keys())
def test_odd_files_have_one_answer_for_each_row(content, tmp_path, prompt_files, model):
    (tmp_path / "odd.csv").write_bytes(content)
    out = tmp_path / "out.jsonl"
    arguments = ["--prompt", str(prompt_files["pt"]), "--input", str(tmp_path / "odd.csv"), "--output", str(out)]
    assert main(["predict", *arguments]) == 0
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in found] == ["1", "2"]
    expected = model.predict([row["sentence"] for row in found], ept.Prompt.from_pretrained(prompt_files["pt"]))
    assert [row["prediction"] for row in found] == expected


def test_a_row_without_its_label_is_named(rows, prompt_files, capsys):
    Path("labeled.csv").write_text("sentence,label\na good film,1\na poor plot,\n")
    assert main(["evaluate", "--prompt", str(prompt_files["pt"]), "--input", "labeled.csv"]) == 2
    error = capsys.readouterr().err
    assert "labeled.csv, row 2" in error and "'label'" in error and error.count("\n") == 1


def test_standard_input_to_standard_output(rows, prompt_files, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO(Path("rows.csv").read_text()))
    assert main(["predict", "--prompt", str(prompt_files["pt"]), "--input", "-"]) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [row["id"] for row in rows]


def test_a_column_chooses_the_prompt_of_each_row(rows, prompt_files, model):
    names = ["pt", "dept", "ept"]
    with open("mixed.jsonl", "w") as file:
        file.writelines(json.dumps({**row, "prompt": names[place % 3]}) + "\n" for place, row in enumerate(rows))
    given = [f"{name}={prompt_files[name]}" for name in names]
    assert main(["predict", "--prompt", *given, "--input", "mixed.jsonl", "--output", "out.csv"]) == 0
    prompts = [ept.Prompt.from_pretrained(prompt_files[names[place % 3]]) for place in range(len(rows))]
    with open("out.csv", newline="") as file:
        assert [row["prediction"] for row in csv.DictReader(file)] == model.predict(rows, prompts)


def test_scores_are_those_of_scikit_learn(rows, prompt_files, model, capsys):
    file = prompt_files["ept"]
    labels = [str(place % 2) for place in range(len(rows))]
    with open("labeled.jsonl", "w") as out:
        out.writelines(json.dumps({**row, "mood": label}) + "\n" for row, label in zip(rows, labels, strict=True))
    assert main(["evaluate", "--prompt", str(file), "--input", "labeled.jsonl", "--label", "mood"]) == 0
    printed = capsys.readouterr().out
    answers = model.predict(rows, ept.Prompt.from_pretrained(file), decoding="open")
    accuracy = 100 * accuracy_score(labels, [str(answer) for answer in answers])
    assert f"accuracy: {accuracy:.1f} " in printed


def test_a_runs_own_test_split_gives_its_stored_predictions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {
        "data": {"source_length": {"default": 64}},
        "tasks": {"target": ["cb"]},
        "methods": ["ept"],
        "seeds": [0],
        "prompt": {"length": 16, "short_length": 10, "reference_length": 64},
        "training": {"steps": 4, "warmup_steps": 1, "evaluate_every": 2, "validation_rows": 10, "runs_per_pass": 1},
        "few_shot": {"k": [4], "initialize_from": ["scratch"]},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    for command in ("fetch --task cb", "tokenize --task cb", "train --method ept --task cb --regime full"):
        verb, *words = command.split()
        assert main([verb, "--config", "config.yaml", *words]) == 0
    experiment = Experiment(parse_configuration(values))
    pack = experiment.pack("ept", "cb", "full", "scratch")
    stored = pq.read_table(pack.folder / "predictions.parquet").to_pylist()
    raw = read_raw(get_task("cb"), experiment.raw_folder("cb"))
    places = [row["id"].split(":") for row in stored]
    rows = [raw[split].slice(int(number), 1).to_pylist()[0] for split, number in places]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompt = pack.prompts / "seed0.safetensors"
    arguments = ["--prompt", str(prompt), "--input", "test.jsonl", "--output", "out.jsonl", "--decoding", "open"]
    assert main(["predict", *arguments]) == 0
    labels = get_task("cb").labels
    found = [json.loads(line)["prediction"] for line in Path("out.jsonl").read_text().splitlines()]
    assert found == [None if row["prediction"] < 0 else labels[int(row["prediction"])] for row in stored]


BAD = {
    "no file": ("--input none.csv", "none.csv"),
    "unknown ending": ("--input rows.xml", "xml"),
    "a missing column": ("--input other.csv", "sentence"),
    "a short line": ("--input short.csv", "line 3"),
    "a column twice": ("--input twice.csv", "sentence"),
    "an empty file": ("--input empty.csv", "empty.csv"),
    "no JSON": ("--input bad.jsonl", "line 2"),
    "no object": ("--input list.jsonl", "line 1"),
    "no Parquet": ("--input bad.parquet", "bad.parquet"),
    "no UTF-8": ("--input latin.csv", "latin.csv"),
    "no prompt file": ("--input rows.csv --prompt none.safetensors", "none.safetensors"),
    "an unknown output": ("--input rows.csv --output out.xlsx", "xlsx"),
    "semicolons": ("--input semicolons.csv", "semicolons.csv, row 1"),
    "no value": ("--input null.jsonl", "null.jsonl, row 2"),
    "half a character": ("--input half.jsonl", "half.jsonl, row 1"),
    "a prompt that is not there": ("--input rows.csv --prompt a=PROMPT b=PROMPT", "rows.csv, row 1"),
    "a folder": ("--input folder.csv", "folder.csv"),
}


@pytest.mark.parametrize(("words", "named"), BAD.values(), ids=BAD.keys())
def test_mistakes_are_one_sentence_and_nothing_is_written(words, named, rows, prompt_files, tmp_path, capsys):
    files = {
        "other.csv": b"text\nhello\n",
        "short.csv": b"id,sentence\n1,a\n2\n",
        "twice.csv": b"sentence,sentence\na,b\n",
        "empty.csv": b"",
        "bad.jsonl": b'{"sentence": "a"}\n{"sentence"\n',
        "list.jsonl": b'["a"]\n',
        "bad.parquet": b"PAR1 not really PAR1",
        "latin.csv": "id,sentence\n1,caf\xe9\n".encode("latin-1"),
        "rows.xml": b"<a/>",
        "semicolons.csv": b"id;sentence\n1;a\n",
        "null.jsonl": b'{"sentence": "a"}\n{"sentence": null}\n',
        "half.jsonl": b'{"sentence": "a\\ud800"}\n',
    }
    Path("folder.csv").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    arguments = ["--prompt", str(prompt_files["pt"]), "--output", "out.jsonl", *words.split()]
    if "--prompt" in words:
        arguments = ["--output", "out.jsonl", *words.replace("PROMPT", str(prompt_files["pt"])).split()]
    assert main(["predict", *arguments]) == 2
    out, error = capsys.readouterr()
    assert named in error and error.count("\n") == 1 and out == ""
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "words",
    ["predict --input rows.csv --batch-size 0", "serve --port 70000", "serve --max-rows -1", "serve --max-queue many"],
)
def test_sizes_that_cannot_be_are_one_sentence(words, prompt_files, capsys):
    verb, *others = words.split()
    with pytest.raises(SystemExit) as ended:
        main([verb, "--prompt", str(prompt_files["pt"]), *others])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and others[-2] in error and error.count("\n") == 1


def test_share_writes_a_folder_that_loads(prompt_files, tmp_path, capsys):
    target = tmp_path / "shared"
    assert main(["share", "--prompt", str(prompt_files["dept"]), "--to", str(target)]) == 0
    assert ept.Prompt.from_pretrained(target).method == "dept"
    assert main(["share", "--prompt", str(prompt_files["dept"]), "--to", str(target)]) == 2


def test_share_scores_first_where_rows_are_given(rows, prompt_files, tmp_path, capsys):
    with open("labeled.jsonl", "w") as out:
        out.writelines(json.dumps({**row, "label": str(place % 2)}) + "\n" for place, row in enumerate(rows))
    arguments = ["--prompt", str(prompt_files["pt"]), "--input", "labeled.jsonl", "--data-license", "cc0-1.0"]
    assert main(["share", *arguments, "--to", "shared"]) == 0
    assert main(["evaluate", "--prompt", str(prompt_files["pt"]), "--input", "labeled.jsonl"]) == 0
    printed = capsys.readouterr().out
    card = Path("shared/README.md").read_text()
    for name, score in json.loads(Path("shared/config.json").read_text())["scores"].items():
        said = f"{score['value']:.1f} (95 % interval {score['ci_low']:.1f} to {score['ci_high']:.1f})"
        assert f"| {name} | {said} |" in card and f"{name}: {said}" in printed
    assert main(["share", *arguments, "--label", "mood", "--to", "other"]) == 2
    assert "mood" in capsys.readouterr().err and not Path("other").exists()
