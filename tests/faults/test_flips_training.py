"""Flipped bits and cuts in what training writes: whoever reads it next refuses it in a sentence, or reads the same."""

import json
import shutil

import numpy as np
import pytest
import torch

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.errors import InputError
from ept.methods.prompt_file import read_prompt
from ept.methods.registry import METHODS
from ept.results.records import collect
from ept.training.checkpoint import Checkpoint, read_checked
from ept.training.job import read_sources
from ept.training.train import is_finished
from training.small_project import STEPS, make_project, train_all
from training.small_training import LENGTH, make_grid, make_pack, make_split, make_t5, train

STRIKES = 100
VALUES = {
    "tasks": {"target": ["rte"], "source": ["sst2"]},
    "methods": ["ept"],
    "training": {"batch_size": 3, **STEPS},
    "few_shot": {"k": [4], **STEPS},
}


def struck(content, random):
    """One bit flipped (half of the time), the end cut off, or a block of zeros."""
    place, kind = int(random.integers(len(content))), random.integers(4)
    if kind == 2:
        return content[:place]
    if kind == 3:
        return content[:place] + bytes(min(64, len(content) - place)) + content[place + 64 :]
    return content[:place] + bytes([content[place] ^ (1 << int(random.integers(8)))]) + content[place + 1 :]


def strike(path, read, seed, strikes=STRIKES):
    """Damage a file many times; returns how often `read` raised InputError. Else it must give what it gave before."""
    sound, whole, random = path.read_bytes(), read(), np.random.default_rng(seed)
    refused = 0
    try:
        for _ in range(strikes):
            path.write_bytes(struck(sound, random))
            sentence, found = "", None
            try:
                found = read()
            except InputError as error:
                sentence = str(error)
            if sentence:
                assert "\n" not in sentence and path.parent.name in sentence
                refused += 1
            else:
                assert found == whole, "silent"
    finally:
        path.write_bytes(sound)
    return refused


def bits(tensors):
    """Everything about some tensors, comparable."""
    return {
        name: (str(tensor.dtype), list(tensor.shape), tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        for name, tensor in tensors.items()
    }


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """A few-shot pack that was trained from a source prompt, in its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        experiment = make_project(VALUES)
        found = experiment.pack("ept", "rte", "k4", "source")
        train_all([*found.candidates, found])
        yield found


def test_a_training_notices_what_happened_to_its_source_prompt(pack):
    def read():
        (source,) = read_sources(pack).usable
        return bits(source.saved.tensors), bits(source.saved.collapsed), source.saved.metadata

    # Blanks at the end of safetensors' header may change without changing what it says.
    assert strike(pack.candidates[0].source_prompt, read, seed=1) >= 0.95 * STRIKES


def test_whoever_uses_a_prompt_notices_what_happened_to_it(pack):
    path = pack.prompts / "seed1.safetensors"

    def read():
        saved = read_prompt(path)
        return bits(saved.tensors), bits(saved.collapsed), saved.metadata

    assert strike(path, read, seed=2) >= 0.95 * STRIKES


# One method of each kind.
@pytest.mark.parametrize("method", list({record.packed: name for name, record in METHODS.items()}.values()))
def test_a_resumed_training_notices_what_happened_to_its_checkpoint(tmp_path, method):
    backbone, split = EncoderDecoder(make_t5()), make_split(tmp_path / "train.arrow", [LENGTH] * 20)
    runs = make_grid(method)[: 4 if METHODS[method].packed else 1]
    prompts = make_pack(backbone, method, [run.seed for run in runs])
    path = tmp_path / "part0.safetensors"
    train(backbone, prompts, split, runs, checkpoint=Checkpoint(path, {"hash": "1"}, {}))
    prompts.close()

    def read():
        found = read_checked(path)
        if isinstance(found, str):
            # What training says before it starts again.
            raise InputError(f"{path}: {found}")
        return json.dumps(found[0]), bits(found[1])

    assert strike(path, read, seed=3) >= 0.95 * STRIKES


@pytest.mark.parametrize("name", ["runs.json", "predictions.parquet", "settings.json"])
def test_a_table_notices_what_happened_to_a_record_or_its_predictions(pack, name):
    def read():
        (result,) = collect([pack])
        predictions = {seed: found.tolist() for seed, found in result.predictions.items()}
        return json.dumps(result.record), predictions, result.truth.labels.tolist(), list(result.truth.groups)

    # A line break at the end of settings.json says nothing.
    assert strike(pack.folder / name, read, seed=4) >= 0.95 * STRIKES


def test_a_damaged_pack_is_not_finished_and_is_trained_again(pack, capsys):
    random = np.random.default_rng(5)
    assert is_finished(pack)
    for path in pack.files:
        sound = path.read_bytes()
        path.write_bytes(sound[: int(random.integers(len(sound)))])
        assert not is_finished(pack), path
        path.write_bytes(sound)
    capsys.readouterr()
    before = {path: path.read_bytes() for path in pack.files}
    train_all([pack])
    assert str(pack.folder) in capsys.readouterr().out
    assert {path: path.read_bytes() for path in pack.files} == before
    shutil.rmtree(pack.folder)
    train_all([pack])
    assert is_finished(pack)
    assert all(path.read_bytes() == before[path] for path in pack.files if path.suffix in (".safetensors", ".parquet"))
