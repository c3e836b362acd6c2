"""Training from Python: learns, resumes bit for bit, gives a run's prompt, refuses bad rows."""

import doctest
import importlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml

import ept
from ept.cli import main
from ept.config.configuration import parse_configuration
from ept.data.dataset import TokenizedSplit
from ept.data.fetch import read_raw
from ept.data.prepare import permutation
from ept.demo.generator import generate
from ept.errors import InputError
from ept.methods.prompt_file import read_prompt
from ept.methods.registry import METHODS
from ept.plan.experiment import Experiment
from ept.tasks.registry import get_task

SETTINGS = {
    "training": {"steps": 60, "warmup_steps": 6, "evaluate_every": 20, "validation_rows": 60},
    "prompt": {"length": 8, "short_length": 4, "reference_length": 64},
}
WORDS = ["negative", "positive"]
GOOD = {"text": "a good film", "mood": "positive"}


@pytest.fixture(scope="module")
def rows():
    """Rows of the embedded benchmark with words as labels."""
    table = generate("sst2", "train", 0).slice(0, 240).to_pylist()
    return [{"text": row["sentence"], "mood": WORDS[row["label"]]} for row in table]


def fit(model, rows, **options):
    return ept.train(
        rows,
        template="text: {text}",
        label="mood",
        model=model,
        method="pt",
        settings=SETTINGS,
        source_length=64,
        **options,
    )


def test_a_prompt_learns_and_predicts_words(model, rows):
    prompt = fit(model, rows[:180], validation=rows[180:])
    curve = prompt.metadata["validation_curve"]
    assert [step for step, _ in curve] == [20, 40, 60]
    assert max(score for _, score in curve) == prompt.metadata["scores"]["validation accuracy"] > 60
    answers = model.predict(rows[180:], prompt, decoding="open")
    right = sum(answer == row["mood"] for answer, row in zip(answers, rows[180:], strict=True))
    assert 100 * right / 60 == pytest.approx(prompt.metadata["scores"]["validation accuracy"])


def test_the_same_call_gives_the_same_bits_and_the_folder_holds_them(model, rows, tmp_path):
    first, second = fit(model, rows), fit(model, rows, output=tmp_path / "out")
    again = ept.Prompt.from_pretrained(tmp_path / "out")
    for other in (second, again):
        assert all(torch.equal(other.tensors[name], tensor) for name, tensor in first.tensors.items())
    assert again.metadata["scores"] == first.metadata["scores"]
    start = fit(model, rows[:40], init_from=first)
    assert not torch.equal(start.tensors["prompt"], first.tensors["prompt"])


def test_the_example_of_the_documentation_runs():
    found = doctest.testmod(importlib.import_module("ept.api.train"))
    assert found.attempted > 5 and found.failed == 0


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import ept
from api.test_train import fit, generate, WORDS
table = generate("sst2", "train", 0).slice(0, 240).to_pylist()
rows = [{{"text": row["sentence"], "mood": WORDS[row["label"]]}} for row in table]
fit(ept.Prompted.from_pretrained(), rows, output={output!r})
"""


def test_a_killed_training_continues_and_ends_the_same(model, rows, project, tmp_path):
    whole = fit(model, rows)
    code = SCRIPT.format(tests=str(project / "tests"), output=str(tmp_path / "out"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "out/checkpoint/part0.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.exists()
    resumed = fit(model, rows, output=tmp_path / "out")
    assert all(torch.equal(resumed.tensors[name], tensor) for name, tensor in whole.tensors.items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"template": "no column"}, ["no column"]),
        ({"template": "{missing}"}, ["row 0", "missing"]),
        ({"label": "nothing"}, ["row 0", "nothing"]),
        ({"labels": ["positive", "neutral"]}, ["negative", "mood"]),
        ({"kind": "ranking"}, ["ranking", "classification"]),
        ({"kind": "regression"}, ["row 0", "mood"]),
        ({"method": "lorra"}, ["lorra", "lora"]),
        ({"method": "attempt"}, ["attempt", "list of PT prompts", "init_from"]),
        ({"method": "spot"}, ["spot", "PT prompts", "init_from"]),
        ({"method": "mpt"}, ["mpt", "init_from"]),
        ({"settings": {"training": {"stepss": 3}}}, ["stepss"]),
        ({"settings": {"training": {"batch_size": "x"}}}, ["training.batch_size", "x"]),
        ({"settings": {"trainin": {}}}, ["trainin"]),
        ({"rows": []}, ["no rows"]),
        ({"rows": [{"text": "a", "mood": "positive"}] * 8}, ["positive"]),
        ({"rows": [{"text": f"a {n}", "mood": f"label {n}"} for n in range(40)]}, ["mood", "40", "extraction"]),
        ({"labels": ["positive", "negative", "positive"]}, ["positive, negative, positive"]),
        ({"rows": [GOOD, {"text": "a", "mood": ""}]}, ["row 1", "mood", "empty"]),
        ({"rows": [GOOD, {"text": " ", "mood": "negative"}] * 4}, ["row 1", "text", "empty"]),
        ({"rows": [GOOD, {"text": float("nan"), "mood": "negative"}] * 4}, ["row 1", "text", "empty"]),
        ({"rows": [GOOD, {"text": ["a"], "mood": "negative"}] * 4}, ["row 1", "text", "list"]),
        ({"rows": [GOOD, {"\ufefftext": "a", "mood": "negative"}]}, ["row 1", "'text'", "ufefftext"]),
        ({"rows": [{"text;mood": "a;negative"}]}, ["row 0", "'mood'", "text;mood"]),
        ({"rows": ["a good film"] * 8}, ["row 0", "str", "dictionary"]),
        ({"rows": {"text": ["a"], "mood": ["negative"]}}, ["row 0", "dictionary"]),
        ({"validation": []}, ["validation"]),
        ({"validation": [GOOD, {"text": "a", "mood": "neutral"}]}, ["validation row 1", "neutral"]),
    ],
    ids=str,
)
def test_mistakes_are_one_sentence_and_nothing_is_written(model, rows, tmp_path, change, words):
    options = {"template": "text: {text}", "label": "mood", "model": model, "method": "pt", "settings": SETTINGS}
    given = {**options, "rows": rows, "output": tmp_path / "out", **change}
    with pytest.raises(InputError) as error:
        ept.train(given.pop("rows"), **given)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


SHORT = {
    "training": {"steps": 2, "warmup_steps": 1, "evaluate_every": 1, "batch_size": 4, "validation_rows": 10},
    "prompt": {"length": 24, "short_length": 10, "reference_length": 64},
    "baselines": {"adapterdrop_layers": 1},
}


@pytest.fixture(scope="module")
def sources(model, rows):
    """Two PT prompts, as of other tasks."""
    options = {"template": "text: {text}", "label": "mood", "model": model, "method": "pt", "settings": SHORT}
    return [ept.train(rows[:20], seed=seed, source_length=64, **options) for seed in (1, 2)]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_is_saved_and_predicts(model, rows, sources, method, tmp_path):
    record = METHODS[method]
    start = None if record.start != "always" else sources if record.start_from == "mixture" else sources[0]
    rates = {"learning_rates": {group: [0.01] for group in record.rates}}
    settings = {**SHORT, "training": SHORT["training"] | rates}
    options = {"template": "text: {text}", "label": "mood", "model": model, "method": method, "source_length": 64}
    trained = ept.train(rows[:20], settings=settings, init_from=start, output=tmp_path / "out", **options)
    again = ept.Prompt.from_pretrained(tmp_path / "out")
    assert (again.method, again.labels) == (method, WORDS)
    texts = [row["text"] for row in rows[20:30]]
    found = model.predict_proba(texts, again)
    np.testing.assert_array_equal(found, model.predict_proba(texts, trained))
    # Its validation score is what its open answers give on the rows that were set aside.
    places = permutation(20)[:5]
    answers = model.predict([rows[place] for place in places], again, decoding="open")
    right = sum(answer == rows[place]["mood"] for answer, place in zip(answers, places, strict=True))
    assert again.metadata["scores"]["validation accuracy"] == pytest.approx(100 * right / 5)


def test_a_start_is_where_a_training_begins(model, rows, sources):
    """With a learning rate of almost nothing the trained prompt is the one that it started from."""
    options = {"template": "text: {text}", "label": "mood", "model": model, "source_length": 64}
    first, second = (source.tensors["prompt"] for source in sources)
    for method, expected in (("spot", first), ("mpt", first), ("attempt", first)):
        rates = {group: [1e-12] for group in METHODS[method].rates}
        settings = {**SHORT, "training": SHORT["training"] | {"learning_rates": rates}}
        start = sources if method == "attempt" else sources[0]
        trained = ept.train(rows[:20], method=method, settings=settings, init_from=start, **options)
        torch.testing.assert_close(trained.tensors["prompt"], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(trained.tensors["sources"], torch.stack([first, second]), rtol=0, atol=0)


def test_starts_that_do_not_fit_are_one_sentence(model, rows, sources, save_random_prompt, tmp_path):
    options = {"template": "text: {text}", "label": "mood", "model": model, "settings": SHORT, "source_length": 64}
    longer = {**SHORT, "prompt": {**SHORT["prompt"], "length": 25}}
    other = ept.Prompt.from_pretrained(
        save_random_prompt(tmp_path / "other.safetensors", "pt", backbone="t5-small", backbone_identity="t5-small@1")
    )
    dept = ept.Prompt.from_pretrained(save_random_prompt(tmp_path / "dept.safetensors", "dept"))
    for change, words in (
        ({"method": "pt", "init_from": other}, ["t5-small@1"]),
        ({"method": "attempt", "init_from": [sources[0], dept]}, ["attempt", "DePT"]),
        ({"method": "attempt", "init_from": sources, "settings": longer}, ["25 tokens", "24x"]),
        ({"method": "spot", "init_from": sources}, ["spot", "2"]),
        ({"method": "ept", "init_from": sources[0]}, ["lacks"]),
    ):
        with pytest.raises(InputError) as error:
            ept.train(rows[:20], **{**options, **change})
        assert all(word in str(error.value) for word in words) and "\n" not in str(error.value), str(error.value)


@pytest.mark.parametrize("method", ["pt", "ept"])
def test_with_a_runs_settings_it_gives_that_runs_prompt(model, method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {
        "data": {"source_length": {"default": 64}},
        "tasks": {"target": ["cb"]},
        "methods": [method],
        "seeds": [3],
        "prompt": {"length": 16, "short_length": 10, "reference_length": 64},
        "training": {"steps": 6, "warmup_steps": 1, "evaluate_every": 2, "validation_rows": 1000, "runs_per_pass": 1},
        "few_shot": {"k": [4], "initialize_from": ["scratch"]},
    }
    rates = METHODS[method].few_shot_rates
    values["training"]["learning_rates"] = {method: rates}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    for command in ("fetch --task cb", "tokenize --task cb", f"train --method {method} --task cb --regime full"):
        verb, *words = command.split()
        assert main([verb, "--config", "config.yaml", *words]) == 0
    experiment = Experiment(parse_configuration(values))
    pack, task = experiment.pack(method, "cb", "full", "scratch"), get_task("cb")
    raw = read_raw(task, experiment.raw_folder("cb"))

    def rows_of(split):
        places = [name.split(":") for name in TokenizedSplit(pack.tokenized / f"{split}.arrow").ids]
        rows = [raw[published].slice(int(row), 1).to_pylist()[0] for published, row in places]
        return [{**row, "label": task.labels[row["label"]]} for row in rows]

    trained = ept.train(
        rows_of("train"),
        validation=rows_of("validation"),
        template=task.template,
        label="label",
        labels=task.labels,
        method=method,
        model=model,
        settings=json.loads((pack.prompts / "settings.json").read_text())["settings"],
        seed=3,
        source_length=64,
    )
    stored = read_prompt(pack.prompts / "seed3.safetensors")
    assert trained.saved.tensors.keys() == stored.tensors.keys()
    for name, tensor in stored.tensors.items():
        assert torch.equal(trained.saved.tensors[name], tensor), name
