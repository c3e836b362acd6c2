"""Loading, saving and sharing prompts."""

import json

import pytest
import torch

import ept
from ept.errors import InputError
from ept.methods.prompt_file import read_prompt, save_prompt


def test_a_folder_gives_back_the_prompt_bit_for_bit(prompt_files, tmp_path):
    for name, path in prompt_files.items():
        prompt = ept.Prompt.from_pretrained(path)
        prompt.save_pretrained(tmp_path / name)
        again = ept.Prompt.from_pretrained(tmp_path / name)
        assert again.metadata == prompt.metadata and again.task == prompt.task
        assert again.tensors.keys() == prompt.tensors.keys()
        assert all(torch.equal(again.tensors[key], prompt.tensors[key]) for key in prompt.tensors)
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert (config["method"], config["template"]) == (name, prompt.template)
        card = (tmp_path / name / "README.md").read_text()
        assert prompt.title in card and prompt.template in card and "from_pretrained" in card


def test_of_a_folder_of_runs_the_best_seed_on_validation_is_taken(save_random_prompt, tmp_path):
    for seed in range(3):
        save_random_prompt(tmp_path / f"seed{seed}.safetensors", "pt", seed=seed)
    settings = {"best_validation": {"0": 50.0, "1": 70.0, "2": None}}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    chosen = ept.Prompt.from_pretrained(tmp_path)
    assert torch.equal(chosen.tensors["prompt"], read_prompt(tmp_path / "seed1.safetensors").collapsed["prompt"])


def test_a_file_of_version_1_says_what_it_lacks(tmp_path):
    tensors = {"prompt": torch.randn(4, 128)}
    save_prompt(tmp_path / "old.safetensors", tensors, tensors, {"method": "pt", "task": "sst2", "backbone": "demo-t5"})
    prompt = ept.Prompt.from_pretrained(tmp_path / "old.safetensors")
    assert prompt.lacks == ["template", "labels", "kind", "cue", "source_length"]
    assert (prompt.template, prompt.labels) == ("sentence: {sentence}", ["0", "1"])
    save_prompt(tmp_path / "own.safetensors", tensors, tensors, {"method": "pt", "task": "mine"})
    with pytest.raises(InputError, match="template"):
        ept.Prompt.from_pretrained(tmp_path / "own.safetensors")
    named = ept.Prompt.with_task(tmp_path / "own.safetensors", template="text: {text}", labels=["no", "yes"])
    assert named.text("hello") == "text: hello" and named.labels == ["no", "yes"]


@pytest.mark.parametrize("place", ["nothing/here/at/all", "none.safetensors", "/no/such/folder"])
def test_nothing_there_is_one_sentence(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        ept.Prompt.from_pretrained(place)
    assert place in str(error.value) and "\n" not in str(error.value)


def test_an_empty_folder_and_a_damaged_file_are_one_sentence(prompt_files, tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        ept.Prompt.from_pretrained(tmp_path)
    damaged = tmp_path / "prompt.safetensors"
    damaged.write_bytes(next(iter(prompt_files.values())).read_bytes()[:-40])
    with pytest.raises(InputError, match=r"prompt\.safetensors"):
        ept.Prompt.from_pretrained(tmp_path)


def test_importing_the_package_loads_no_torch():
    import subprocess
    import sys

    code = "import sys, ept; dir(ept); assert 'torch' not in sys.modules; ept.Prompt; assert 'torch' in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
