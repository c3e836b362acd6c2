"""The choice of a source prompt by loss and by similarity, what the record says of it, and prompts that are refused."""

import json
import re

import numpy as np
import pytest
import torch
from small_project import STEPS, make_project, train_all

from ept.cli import main
from ept.config.configuration import load_configuration
from ept.methods.build import build_prompt_module
from ept.methods.prompt_file import read_prompt, save_prompt
from ept.plan.experiment import Experiment
from ept.results.records import selection_scores
from ept.training.choose_source import (
    build_prompts,
    candidate_prompts,
    prompt_similarity,
    score_sources,
    starting_prompts,
)
from ept.training.job import load_job

RATES = {"spot": {"prompt": [0.3]}, "pt": {"prompt": [0.3]}, "ept": {"prompt": [0.3], "low_rank": [0.005]}}
VALUES = {
    "tasks": {"target": ["rte"], "source": ["sst2", "qqp", "rte"]},
    "methods": ["spot", "ept"],
    "training": {"batch_size": 3, **STEPS, "learning_rates": RATES},
    "few_shot": {"k": [4], **STEPS, "learning_rates": RATES},
}


def similarity(one, other):
    """SPoT's average cosine over every pair of tokens, by its formula."""
    pairs = [(a, b) for a in one for b in other]
    return np.mean([a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in pairs])


def test_similarity_is_the_mean_cosine_over_pairs_of_tokens():
    generator = np.random.default_rng(0)
    prompt, others = generator.normal(size=(5, 7)), generator.normal(size=(3, 5, 7))
    found = prompt_similarity(torch.from_numpy(prompt), torch.from_numpy(others))
    np.testing.assert_allclose(found, [similarity(prompt, other) for other in others])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder in which the source prompts are trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("choice"))
        experiment = make_project(VALUES)
        for method in ("spot", "ept"):
            train_all(experiment.source_pack(method, task) for task in ("sst2", "qqp"))
        yield experiment


def changed(experiment, **few_shot):
    """The experiment with other settings of few-shot training."""
    settings = load_configuration("config.yaml").model_dump()
    return Experiment(type(experiment.config).model_validate(settings | {"few_shot": settings["few_shot"] | few_shot}))


@pytest.mark.parametrize("method", ["spot", "ept"])
def test_the_source_most_similar_to_a_briefly_trained_prompt_is_chosen(project, capsys, method):
    experiment = changed(project, choose_by="similarity", probe_steps=3)
    pack = experiment.pack(method, "rte", "k4", "source")
    job = load_job(experiment, pack, 1)
    source_method = pack.candidates[0].method
    probe = build_prompts(job, [0], source_method)
    untrained = probe().prompt[0].detach().clone()
    found = score_sources(job, candidate_prompts(job), probe)
    said = capsys.readouterr().err
    assert f"{method} rte k4: prompt to compare sources with: step 3/3" in said and "best validation none yet" in said
    assert not torch.equal(probe().prompt[0], untrained)
    for candidate in pack.candidates:
        own = build_prompt_module(source_method, job.backbone.embedding, job.config.prompt, job.config.ept, 256, [0])
        own.load_tensors(0, read_prompt(candidate.source_prompt).tensors)
        one, other = (prompts().prompt[0].detach().numpy().astype(float) for prompts in (probe, own))
        assert found.scores[candidate.task] == pytest.approx(similarity(one, other), abs=1e-6)
    assert set(found.scores) == {"sst2", "qqp"}
    record = found.record()
    assert record["source"] == max(found.scores, key=found.scores.get)
    assert selection_scores(record) == ("similarity", found.scores)


@pytest.mark.parametrize("choose_by", ["loss", "similarity"])
def test_a_source_alone_has_the_score_that_it_has_among_all(project, choose_by):
    """By which the table `transfer` knows the choice from starts that had none."""
    experiment = changed(project, choose_by=choose_by, probe_steps=3)
    _, among = starting_prompts(load_job(experiment, experiment.pack("spot", "rte", "k4", "source"), 1), [0, 1])
    assert among.by == choose_by
    for task, score in among.scores.items():
        pack = experiment.pack("spot", "rte", "k4", "source", source=task)
        assert [candidate.task for candidate in pack.candidates] == [task]
        prompts, alone = starting_prompts(load_job(experiment, pack, 1), [0, 1])
        assert alone.scores == {task: pytest.approx(score, abs=1e-5)}
        tensors = read_prompt(pack.candidates[0].source_prompt).tensors
        assert all(torch.equal(prompts.tensors(run)["prompt"], tensors["prompt"]) for run in (0, 1))


def test_the_way_to_choose_is_in_the_hash_only_where_it_is_not_the_protocols(project):
    def hashes(**few_shot):
        experiment = changed(project, **few_shot)
        return [
            experiment.pack(method, "rte", regime, start).hash
            for method, regime, start in (
                ("spot", "k4", "source"),
                ("spot", "full", "source"),
                ("ept", "k4", "scratch"),
            )
        ]

    plain, other = hashes(), hashes(choose_by="similarity")
    assert hashes(probe_steps=7) == plain
    assert other[0] != plain[0] and other[1] != plain[1] and other[2] == plain[2]
    assert hashes(choose_by="similarity", probe_steps=7)[0] not in (plain[0], other[0])


def test_prompts_of_another_backbone_or_other_settings_are_refused(project, capsys):
    pack = project.pack("spot", "rte", "k4", "source")
    path = pack.candidates[0].source_prompt
    saved, content = read_prompt(path), path.read_bytes()
    for change, sentence in (
        (
            {"backbone": "other/t5", "backbone_identity": "0123abcd"},
            rf"{path} was trained on the backbone other/t5 \(0123abcd\), not on tiny \(\w{{8}}\); use a prompt of this",
        ),
        ({"hash": "89abcdef"}, f"{path} is of the settings 89abcdef, not of {pack.candidates[0].hash}; delete it"),
    ):
        save_prompt(path, saved.tensors, saved.collapsed, saved.metadata | change)
        assert main(["train", "--config", "config.yaml", "--hash", pack.hash]) == 2
        error = capsys.readouterr().err
        assert re.search(sentence, error) and len(error.splitlines()) == 1
        assert not pack.folder.exists()
    path.write_bytes(content)
    train_all([pack])
    record = json.loads((pack.folder / "runs.json").read_text())
    assert list(record["source_losses"]) == sorted(record["source_losses"], key=record["source_losses"].get)
    assert record["source"] == next(iter(record["source_losses"]))
    assert read_prompt(pack.prompts / "seed0.safetensors").metadata["backbone_identity"] == project.backbone_identity
