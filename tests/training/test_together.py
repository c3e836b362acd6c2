"""ATTEMPT and MPT from raw tables to reported runs: what they start from, what stays frozen, what is saved."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small_project import STEPS, make_project, train_all

from ept.cli import main
from ept.config.settings import MULTITASK
from ept.evaluation.score import predict_split
from ept.files import sha256_file
from ept.methods.build import build_prompt_module
from ept.methods.prompt_file import read_prompt
from ept.methods.registry import METHODS
from ept.training.job import load_job

# The method that mixes source prompts, and the one that distils one from them; both take PT's.
(MIXES,) = (name for name, method in METHODS.items() if method.start_from == "mixture")
(DISTILS,) = (name for name, method in METHODS.items() if method.start_from == "distilled")
RATES = {
    "pt": {"prompt": [0.3]},
    MIXES: {"prompt": [0.3], "attention": [0.3]},
    DISTILS: {"prompt": [0.3], "task": [0.05, 0.01]},
}
VALUES = {
    "tasks": {"target": ["rte", "sst2"], "source": ["sst2", "qqp", "cb"]},
    "methods": [MIXES, DISTILS],
    "training": {"batch_size": 3, **STEPS, "learning_rates": RATES},
    "few_shot": {"k": [4], **STEPS, "learning_rates": RATES},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which every pack is trained, its experiment, and the digests of files that must not change."""
    folder = tmp_path_factory.mktemp("together")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        experiment = make_project(VALUES)
        sources = [pack for pack in experiment.packs if pack.regime == "source"]
        train_all(sources)
        digests = {pack.source_prompt: sha256_file(pack.source_prompt) for pack in sources}
        train_all(pack for pack in experiment.packs if pack not in sources)
        digests[Path("model/model.safetensors")] = sha256_file("model/model.safetensors")
        yield experiment, digests


@pytest.fixture
def record(finished):
    """A function method, task, regime -> pack and record, in the folder."""
    experiment, _ = finished

    def find(method, task, regime):
        (pack,) = (p for p in experiment.packs if (p.method, p.task, p.regime) == (method, task, regime))
        return pack, json.loads((pack.folder / "runs.json").read_text())

    return find


@pytest.mark.parametrize("regime", ["full", "k4"])
@pytest.mark.parametrize("method", [MIXES, DISTILS])
def test_the_record_names_all_sources_but_the_target(record, method, regime):
    for task, sources in (("rte", "sst2+qqp+cb"), ("sst2", "qqp+cb")):
        _, found = record(method, task, regime)
        assert found["source"] == sources
        assert list(found["source_losses"]) == [sources]
        assert (found["source_losses"][sources] is None) == (method == MIXES)


def test_source_prompts_and_backbone_are_untouched(finished):
    _, digests = finished
    assert len(digests) == 3 + 2 + 1
    assert all(sha256_file(path) == digest for path, digest in digests.items())


def test_a_mixture_stores_the_source_prompts_as_they_were_trained(record, finished):
    pack, found = record(MIXES, "sst2", "full")
    saved = read_prompt(pack.prompts / "seed1.safetensors")
    for source, candidate in zip(saved.collapsed["sources"], pack.candidates, strict=True):
        assert candidate.method == METHODS[MIXES].source_method
        assert torch.equal(source, read_prompt(candidate.source_prompt).tensors["prompt"])
    # The layer norm stays frozen.
    assert found["trained_parameters"] == 5 * 16 + 2 * 100 * 16
    assert found["stored_parameters"] == found["trained_parameters"] + 2 * 5 * 16


def test_every_tensor_was_trained(record, finished):
    """After four steps, of which the first has the rate 0."""
    experiment, _ = finished
    for method in (MIXES, DISTILS):
        pack, _ = record(method, "rte", "full")
        job = load_job(experiment, pack, 1)
        prompts = start(job, method, pack)
        for name, tensor in read_prompt(pack.prompts / "seed0.safetensors").tensors.items():
            assert not torch.equal(tensor, prompts.tensors(0)[name]), (method, name)


def start(job, method, pack):
    """A pack of one run as the training began, made without the code that begins it."""
    config = job.config
    sources = torch.stack([read_prompt(found.source_prompt).tensors["prompt"] for found in pack.candidates])
    made = build_prompt_module(method, job.backbone.embedding, config.prompt, config.ept, 256, [0], sources=sources)
    if method == DISTILS:
        made.load_tensors(0, read_prompt(pack.candidates[0].source_prompt).tensors)
    return made


@pytest.mark.parametrize("method", [MIXES, DISTILS])
def test_a_saved_prompt_predicts_what_was_reported(record, finished, method):
    experiment, _ = finished
    pack, found = record(method, "rte", "full")
    job = load_job(experiment, pack, 1)
    table = pq.read_table(pack.folder / "predictions.parquet")
    for seed in (0, 1):
        prompts = start(job, method, pack)
        prompts.load_tensors(0, read_prompt(pack.prompts / f"seed{seed}.safetensors").tensors)
        with torch.inference_mode():
            rows = np.arange(len(job.test))
            (predicted,) = predict_split(job.backbone, prompts(), job.test, rows, job.answers, 10**4)
        reported = table.filter(np.array(table["seed"]) == seed)["prediction"].to_numpy()
        np.testing.assert_array_equal(predicted, reported)
    assert {run["status"] for run in found["runs"]} == {"finished"}


def test_targets_start_from_what_source_training_distilled(record):
    for task, teachers in (("rte", ["sst2", "qqp", "cb"]), ("sst2", ["qqp", "cb"])):
        pack, _ = record(DISTILS, task, "full")
        (source,) = pack.candidates
        assert source.task == MULTITASK and [teacher.task for teacher in source.candidates] == teachers
        found = json.loads((source.folder / "runs.json").read_text())
        assert len(found["runs"]) == 2 and [run["selected"] for run in found["runs"]].count(True) == 1
        best = max(run["best_validation"] for run in found["runs"])
        assert [run["best_validation"] for run in found["runs"] if run["selected"]] == [best]
        assert set(found["data_fingerprints"]) == set(teachers)
        beside = json.loads((source.prompts / "settings.json").read_text())
        assert beside["settings"] == source.settings and beside["best_validation"] == {"0": best}
        assert beside["data_fingerprints"] == found["data_fingerprints"]
        assert found["trained_parameters"] == 5 * 16 + len(teachers) * (5 + 16)
        assert {name: tuple(tensor.shape) for name, tensor in read_prompt(source.source_prompt).tensors.items()} == {
            "prompt": (5, 16),
            "u": (5,),
            "v": (16,),
        }


def test_a_collapsed_prompt_is_exported_for_peft_and_a_mixture_is_not(record, capsys):
    pack, _ = record(DISTILS, "rte", "full")
    words = ["export", "--format", "peft", "--backbone", "tiny", "--from"]
    assert main([*words, str(pack.prompts / "seed0.safetensors"), "--to", "exported"]) == 0
    pack, _ = record(MIXES, "rte", "full")
    assert main([*words, str(pack.prompts / "seed0.safetensors"), "--to", "mixture"]) == 2
    assert "sources" in capsys.readouterr().err
    assert not Path("mixture").exists()
