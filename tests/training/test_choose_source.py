"""The choice of a source prompt by loss and by similarity, what the record says of it, and prompts that are refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from small_project import STEPS, make_project, train_all

from ept.cli import main
from ept.config.configuration import load_configuration
from ept.methods.prompt import combine
from ept.methods.prompt_file import read_prompt, save_prompt
from ept.methods.registry import METHODS
from ept.plan.experiment import Experiment
from ept.results.records import selection_scores
from ept.training.choose_source import (
    SourceChoice,
    build_prompts,
    choose_sources,
    prompt_similarity,
    starting_prompts,
    train_probes,
)
from ept.training.job import load_job
from ept.training.train import train_job

STARTERS = [name for name, record in METHODS.items() if record.start != "never"]
# They start from one source prompt, which must be chosen.
STARTED = [name for name in STARTERS if METHODS[name].start_from == "best"]
RATES = {"spot": {"prompt": [0.3]}, "pt": {"prompt": [0.3]}, "ept": {"prompt": [0.3], "low_rank": [0.005]}}
VALUES = {
    "tasks": {"target": ["rte"], "source": ["sst2", "qqp", "rte"]},
    "methods": STARTERS,
    # Room for a matched budget.
    "prompt": {"length": 15, "short_length": 2, "reference_length": 4},
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
        for method in STARTERS:
            pack = experiment.pack(method, "rte", "k4", "source")
            teachers = [teacher for candidate in pack.candidates for teacher in candidate.candidates]
            train_all(source for source in (teachers or pack.candidates) if not source.folder.exists())
        yield experiment


def changed(experiment, **few_shot):
    """The experiment with other settings of few-shot training."""
    settings = load_configuration("config.yaml").model_dump()
    return Experiment(type(experiment.config).model_validate(settings | {"few_shot": settings["few_shot"] | few_shot}))


def losses_by_hand(job, seed):
    """The mean loss of each source prompt over the label pieces of a seed's k examples, one row at a time."""
    found = {}
    for source in job.sources.usable:
        prompts = build_prompts(job, [0], source.pack.method)
        prompts.load_tensors(0, source.saved.tensors)
        losses = []
        for row in job.train_rows(seed):
            batch = job.train.collate(np.array([row]))
            with torch.no_grad():
                text = job.backbone.embed(batch.input_ids)
                joined, mask = combine(prompts(), text[None], batch.attention_mask[None])
                losses += job.backbone.token_losses(joined, mask, batch.target_ids)[0].tolist()
        found[source.title] = np.mean(losses)
    return found


@pytest.mark.parametrize("method", STARTED)
def test_each_seed_chooses_by_the_loss_on_its_own_examples(project, method):
    pack = project.pack(method, "rte", "k4", "source")
    job = load_job(project, pack, 1)
    seeds = [0, 1, 2]
    assert len({tuple(job.train_rows(seed)) for seed in seeds}) == 3
    # The runs of a grid: every seed several times.
    prompts, choice = starting_prompts(job, seeds * 2)
    assert list(choice.scores) == seeds
    by_hand = {seed: losses_by_hand(job, seed) for seed in seeds}
    for seed in seeds:
        assert choice.scores[seed] == pytest.approx(by_hand[seed], rel=1e-4)
        assert choice.chosen(seed) == min(by_hand[seed], key=by_hand[seed].get)
    sources = {source.title: source.saved.tensors for source in job.sources.usable}
    for run, seed in enumerate(seeds * 2):
        for name, tensor in sources[choice.chosen(seed)].items():
            # Where nothing depends on the longest text of the source, the start is the source prompt itself.
            if tensor.shape == prompts.tensors(run)[name].shape:
                assert torch.equal(prompts.tensors(run)[name], tensor), name
    record = choice.record()
    means = {title: np.mean([by_hand[seed][title] for seed in seeds]) for title in sources}
    assert record["source_losses"] == pytest.approx(means, rel=1e-4)
    assert list(record["source_losses"]) == sorted(means, key=means.get)
    assert record["source_by_seed"]["1"]["source"] == choice.chosen(1)
    assert record["diverged_sources"] == []


def test_the_record_names_every_source_that_some_seed_chose():
    def source(*losses):
        scores = {seed: {"a": first, "b": 1.0} for seed, first in enumerate(losses)}
        return SourceChoice(
            scores={seed: dict(sorted(found.items(), key=lambda p: p[1])) for seed, found in scores.items()}
        )

    assert source(0.5, 0.9).record()["source"] == "a"
    assert source(1.5, 1.2).record()["source"] == "b"
    # The better one on average stands first.
    assert source(0.5, 1.2).record()["source"] == "a/b"
    assert source(0.9, 1.2).record()["source"] == "b/a"
    assert SourceChoice().record()["source"] == "scratch"


@pytest.mark.parametrize("method", STARTED)
def test_the_source_most_similar_to_a_briefly_trained_prompt_is_chosen(project, capsys, method):
    experiment = changed(project, choose_by="similarity", probe_steps=3)
    pack = experiment.pack(method, "rte", "k4", "source")
    job = load_job(experiment, pack, 1)
    source_method = pack.candidates[0].method
    untrained = build_prompts(job, [0], source_method)().prompt[0].detach()
    rows = np.stack([job.train_rows(seed) for seed in (0, 1)])
    probes = train_probes(job, rows)
    found = choose_sources(job, [0, 1, 0])
    assert "3/3" in capsys.readouterr().err
    for seed in (0, 1):
        probe = probes().prompt[seed].detach()
        assert not torch.equal(probe, untrained)
        # A probe is trained on its own seed's examples, alone as together with others.
        torch.testing.assert_close(train_probes(job, rows[seed : seed + 1])().prompt[0], probes().prompt[seed])
        for source in job.sources.usable:
            own = build_prompts(job, [0], source_method)
            own.load_tensors(0, read_prompt(source.pack.source_prompt).tensors)
            one, other = (prompt.detach().numpy().astype(float) for prompt in (probe, own().prompt[0]))
            assert found.scores[seed][source.title] == pytest.approx(similarity(one, other), abs=1e-6)
        assert found.chosen(seed) == max(found.scores[seed], key=found.scores[seed].get)
    assert selection_scores(found.record())[0] == "similarity"


@pytest.mark.parametrize("choose_by", ["loss", "similarity"])
def test_a_source_alone_has_the_score_that_it_has_among_all(project, choose_by):
    """By which the table `transfer` knows the choice from starts that had none."""
    experiment = changed(project, choose_by=choose_by, probe_steps=3)
    _, among = starting_prompts(load_job(experiment, experiment.pack("spot", "rte", "k4", "source"), 1), [0, 1])
    assert among.by == choose_by
    for task in among.mean_scores:
        pack = experiment.pack("spot", "rte", "k4", "source", source_task=task)
        assert [candidate.task for candidate in pack.candidates] == [task]
        prompts, alone = starting_prompts(load_job(experiment, pack, 1), [0, 1])
        for seed in (0, 1):
            assert alone.scores[seed] == {task: pytest.approx(among.scores[seed][task], abs=1e-5)}
        tensors = read_prompt(pack.candidates[0].source_prompt).tensors
        assert all(torch.equal(prompts.tensors(run)["prompt"], tensors["prompt"]) for run in (0, 1))


def test_with_all_data_every_seed_makes_the_same_choice(project):
    job = load_job(project, project.pack("spot", "rte", "full", "source"), 1)
    choice = choose_sources(job, [0, 1, 2])
    assert choice.scores[0] == choice.scores[1] == choice.scores[2]


def mark(candidate, **metadata):
    """Change what a source prompt's file says of its training."""
    path = candidate.source_prompt
    saved = read_prompt(path)
    save_prompt(path, saved.tensors, saved.collapsed, saved.metadata | metadata)


@pytest.mark.parametrize("method", STARTERS)
def test_a_source_prompt_that_diverged_is_left_out_and_said(project, capsys, method):
    pack = project.pack(method, "rte", "k4", "source")
    # A distilled prompt has teachers, and every other start source prompts, that may diverge.
    sources = pack.candidates[0].candidates or pack.candidates
    contents = {candidate.source_prompt: candidate.source_prompt.read_bytes() for candidate in sources}
    try:
        mark(sources[0], status="diverged")
        train_all([pack.candidates[0]] if sources is not pack.candidates else [])
        train_all([pack])
        trained = pack.candidates[0] if sources is not pack.candidates else pack
        record = json.loads((trained.folder / "runs.json").read_text())
        assert record["diverged_sources"] == [sources[0].title]
        assert record["source"] == sources[1].title
        assert any(sources[0].title in line and "diverged" in line for line in capsys.readouterr().err.splitlines())
        shutil.rmtree(trained.folder)
        mark(sources[1], status="diverged")
        assert main(["train", "--config", "config.yaml", "--hash", trained.hash]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert all(source.title in error for source in sources) and "learning_rates" in error
        assert not trained.folder.exists()
    finally:
        for path, content in contents.items():
            path.write_bytes(content)
        for made in (pack, *(pack.candidates if sources is not pack.candidates else ())):
            shutil.rmtree(made.folder, ignore_errors=True)


@pytest.mark.parametrize("regime", ["source", "full"])
def test_a_training_that_diverges_marks_its_prompt_and_scores_as_the_majority(project, regime):
    """With a rate that no training survives."""
    pack = project.pack("pt", "sst2", regime, "scratch", learning_rates={"prompt": [1e40]})
    train_job(project, pack, 1, 60)
    assert read_prompt(pack.source_prompt).metadata["status"] == "diverged"
    record = json.loads((pack.folder / "runs.json").read_text())
    assert {run["status"] for run in record["runs"]} == {"diverged"}
    assert regime == "source" or all(run["test"] == record["majority_baseline"] for run in record["runs"])


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


@pytest.mark.parametrize(
    "change",
    [{"backbone": "other/t5", "backbone_identity": "0123abcd"}, {"hash": "89abcdef"}],
    ids=["backbone", "hash"],
)
def test_prompts_of_another_backbone_or_other_settings_are_refused(project, capsys, change):
    pack = project.pack("spot", "rte", "k4", "source")
    path = pack.candidates[0].source_prompt
    content = path.read_bytes()
    mark(pack.candidates[0], **change)
    assert main(["train", "--config", "config.yaml", "--hash", pack.hash]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert str(path) in error and all(value in error for value in change.values())
    assert not pack.folder.exists()
    path.write_bytes(content)
    train_all([pack])
    assert read_prompt(pack.prompts / "seed0.safetensors").metadata["backbone_identity"] == project.backbone_identity
    shutil.rmtree(pack.folder)
