"""Training from Python: learns, resumes bit for bit, gives a run's prompt, refuses bad rows."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import ept
from ept.demo.generator import generate
from ept.errors import InputError

SETTINGS = {
    "training": {"steps": 60, "warmup_steps": 6, "evaluate_every": 20, "validation_rows": 60},
    "prompt": {"length": 8, "short_length": 4, "reference_length": 64},
}
WORDS = ["negative", "positive"]


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
        ({"method": "attempt"}, ["attempt"]),
        ({"settings": {"training": {"stepss": 3}}}, ["stepss"]),
        ({"settings": {"training": {"batch_size": "x"}}}, ["training.batch_size", "x"]),
        ({"settings": {"trainin": {}}}, ["trainin"]),
        ({"rows": []}, ["no rows"]),
        ({"rows": [{"text": "a", "mood": "positive"}] * 8}, ["positive"]),
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
