"""Prompts of google's prompt-tuning: an .npy file of one matrix, as large as for T5 1.1 Base."""

import pickle

import numpy as np
import pytest
import torch

from ept.api.prompt import Prompt
from ept.config.settings import PromptSettings
from ept.methods.prompt_file import read_prompt

SHAPE = (100, 768)


@pytest.fixture
def google(tmp_path):
    """A prompt as that code saves it, and its numbers."""
    matrix = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    np.save(tmp_path / "prompt.npy", matrix)
    return tmp_path / "prompt.npy", matrix


def test_the_numbers_arrive_and_use_is_possible(ept, google, tmp_path):
    path, matrix = google
    status, out, _ = ept("import", "--from", path, "--to", tmp_path / "p.safetensors")
    assert status == 0 and "100 x 768" in out
    found = read_prompt(tmp_path / "p.safetensors")
    assert found.metadata["method"] == "pt" and found.metadata["imported"]["format"] == "npy"
    np.testing.assert_array_equal(found.tensors["prompt"].numpy(), matrix)
    np.testing.assert_array_equal(found.collapsed["prompt"].numpy(), matrix)
    for file in (path, tmp_path / "p.safetensors"):
        prompt = Prompt.with_task(file, template="sst2 sentence: {sentence}", labels=["negative", "positive"])
        assert prompt.text("good") == "sst2 sentence: good"
        np.testing.assert_array_equal(prompt.tensors["prompt"].numpy(), matrix)


def test_it_stands_before_the_text(ept, tmp_path, make_t5, texts, our_logits):
    """Against transformers on prompt and embedded text joined by hand."""
    matrix = np.random.default_rng(1).normal(size=(5, 16))
    np.save(tmp_path / "small.npy", matrix)
    assert ept("import", "--from", tmp_path / "small.npy", "--to", tmp_path / "p")[0] == 0
    source, mask, target = texts
    model = make_t5()
    prompt = torch.tensor(matrix, dtype=torch.float32).expand(len(source), -1, -1)
    joined = torch.cat([prompt, model.shared(source)], 1)
    ones = torch.cat([mask.new_ones(len(source), 5), mask], 1)
    with torch.no_grad():
        expected = model(inputs_embeds=joined, attention_mask=ones, labels=target).logits
    found = our_logits(make_t5(), tmp_path / "p", PromptSettings(length=5, short_length=2))
    torch.testing.assert_close(found, expected)


BAD = {
    "missing": None,
    "empty": b"",
    "text": b"100 x 768",
    "pickled": pickle.dumps({"prompt": 1}),
    "objects": np.array([{"a": 1}], dtype=object),
    "vector": np.zeros(5, dtype=np.float32),
    "integers": np.zeros((5, 16), dtype=np.int64),
    "no rows": np.zeros((0, 16), dtype=np.float32),
    "NaN": np.full((5, 16), np.nan),
    "too large": np.full((5, 16), 1e300),
}


@pytest.mark.parametrize("case", BAD)
def test_other_files_are_one_sentence_and_nothing_is_written(ept, tmp_path, case):
    path, content = tmp_path / "bad.npy", BAD[case]
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content, allow_pickle=True)
    status, _, error = ept("import", "--from", path, "--to", tmp_path / "p.safetensors")
    assert status == 2 and "bad.npy" in error and error.count("\n") == 1
    assert not (tmp_path / "p.safetensors").exists()


def test_the_backbone_is_compared(ept, google, tmp_path):
    (tmp_path / "backbone").mkdir()
    (tmp_path / "backbone/config.json").write_text('{"model_type": "t5", "vocab_size": 50, "d_model": 512}')
    words = ["import", "--from", google[0], "--to", tmp_path / "p", "--backbone-folder", tmp_path / "backbone"]
    status, _, error = ept(*words)
    assert status == 2 and "768" in error and "512" in error
