"""What a job records: both scorings, digests, provenance, what a prompt needs for its use."""

import json
import subprocess

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small_project import FOLDERS, STEPS, make_project, train_all

from ept.evaluation.metrics import compute
from ept.evaluation.predict import score_candidates
from ept.evaluation.score import references
from ept.files import sha256_file
from ept.methods.prompt import combine
from ept.methods.prompt_file import read_prompt
from ept.tasks.registry import get_task
from ept.training.choose_source import build_runs
from ept.training.job import load_job
from ept.training.record import _finite, run_record, source_commit
from ept.training.runs import Run, RunResult

VALUES = {
    "tasks": {"target": ["cb"], "source": []},
    "methods": ["pt"],
    "training": {"batch_size": 3, **STEPS, "learning_rates": {"pt": {"prompt": [0.3, 0.1]}}, "include_start": True},
    "few_shot": {"k": []},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A pack, its record, its predictions and its job, in its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("record"))
        experiment = make_project(VALUES)
        pack = experiment.pack("pt", "cb", "full", "scratch")
        train_all([pack])
        record = json.loads((pack.folder / "runs.json").read_text())
        yield pack, record, pq.read_table(pack.folder / "predictions.parquet"), load_job(experiment, pack, 1)


def test_both_scorings_are_recorded(trained):
    """The closed one by the likelihood of each label's own pieces, recomputed; the scores from the predictions."""
    pack, record, table, job = trained
    rows = np.arange(len(job.test))
    truth, labels = references(job.test, rows, job.task), [label[:-1] for label in job.answers.label_ids()]
    for run in (run for run in record["runs"] if run["selected"]):
        mine = table.filter(np.array(table["seed"]) == run["seed"])
        opened, closed = (mine[name].to_numpy() for name in ("prediction_open", "prediction_closed"))
        np.testing.assert_array_equal(mine["prediction"].to_numpy(), opened)
        prompts = build_runs(job, [run["seed"]])
        prompts.load_tensors(0, read_prompt(pack.prompts / f"seed{run['seed']}.safetensors").tensors)
        for row in rows:
            batch = job.test.collate(np.array([row]))
            with torch.no_grad():
                inputs = combine(prompts(), job.backbone.embed(batch.input_ids)[None], batch.attention_mask[None])
            assert score_candidates(job.backbone, *inputs, labels).argmax() == closed[row]
        for key, predictions in (("test", opened), ("test_open", opened), ("test_closed", closed)):
            expected = {name: compute(name, predictions, truth, job.task) for name in job.task.metrics}
            assert run[key] == pytest.approx(expected)
        assert run["invalid_share"] == (opened == -1).mean()
        assert bool(run["notes"]) == (run["invalid_share"] > 0 or np.ptp(opened) == 0)


def test_a_run_on_sampled_test_rows_says_of_how_many(trained, tmp_path, monkeypatch):
    _, plain, _, job = trained
    monkeypatch.chdir(tmp_path)
    experiment = make_project({**VALUES, "data": {**FOLDERS["data"], "test_rows": {"cb": 4}}})
    pack = experiment.pack("pt", "cb", "full", "scratch")
    train_all([pack])
    record = json.loads((pack.folder / "runs.json").read_text())
    assert (record["test_rows"], record["test_rows_sampled_from"]) == (4, plain["test_rows"])
    assert "test_rows_sampled_from" not in plain
    ids = pq.read_table(pack.folder / "predictions.parquet")["id"].to_pylist()
    assert len(ids) == 4 * len(pack.seeds) and set(ids) < {str(name) for name in job.test.ids}


def test_every_file_has_its_digest_beside_it(trained):
    pack, _, _, _ = trained
    for folder, names in (
        (pack.folder, {"runs.json", "predictions.parquet"}),
        (pack.prompts, {"seed0.safetensors", "seed1.safetensors"}),
    ):
        digests = json.loads((folder / "settings.json").read_text())["sha256"]
        assert digests == {name: sha256_file(folder / name) for name in names}


def test_the_record_says_from_what_code_and_in_which_precision(trained):
    _, record, _, _ = trained
    assert record["versions"].keys() >= {"ept-prompt-tuning", "torch", "transformers", "numpy"}
    assert (record["dtype"], record["tf32"], record["threads"]) == ("float32", False, 1)
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=_sources())
    if found.returncode == 0:
        assert len(record["commit"]["id"]) == 40 and isinstance(record["commit"]["clean"], bool)
        assert source_commit()["id"] == found.stdout.strip()
    else:
        assert record["commit"] is None


def _sources():
    import ept

    return ept.__path__[0]


def test_the_majority_and_the_labels_that_were_used(trained):
    _, record, _, job = trained
    rows = job.validation_rows()
    assert record["validation_labels"] == len(rows)
    for key, split, places in (
        ("majority_baseline", job.test, np.arange(len(job.test))),
        ("majority_validation", job.validation, rows),
    ):
        truth = references(split, places, job.task)
        constant = np.full(len(places), job.majority)
        assert record[key] == {name: compute(name, constant, truth, job.task) for name in job.task.metrics}


def test_the_candidate_at_step_0_is_scored(trained):
    _, record, _, _ = trained
    for run in record["runs"]:
        assert run["validation_curve"][0][0] == 0
        best = max(score for _, score in run["validation_curve"])
        # Of equal ones the first.
        assert run["best_step"] == next(step for step, score in run["validation_curve"] if score == best)
        assert run["start_chosen"] == (run["best_step"] == 0)


def test_a_prompt_file_carries_what_its_use_needs(trained):
    pack, record, _, job = trained
    task = get_task("cb")
    for run in (run for run in record["runs"] if run["selected"]):
        metadata = read_prompt(pack.prompts / f"seed{run['seed']}.safetensors").metadata
        assert metadata["template"] == task.template and metadata["labels"] == list(task.labels)
        assert (metadata["kind"], metadata["cue"]) == ("classification", task.cue)
        assert metadata["source_length"] == job.config.source_length("cb")
        assert metadata["scores"] == run["test"] and metadata["validation_score"] == run["best_validation"]
        assert metadata["data_fingerprints"] == record["data_fingerprints"]
        assert (metadata["status"], metadata["settings"]) == ("finished", pack.settings)


def test_numbers_that_json_cannot_hold_are_recorded_as_missing(trained):
    result = RunResult(validation_curve=[(2, float("nan")), (4, float("nan"))], diagnostics=[{"x": float("inf")}])
    found = _finite(run_record(Run(0, {"prompt": 0.3}), result, True))
    assert found["best_validation"] is None and found["diagnostics"] == [{"x": None}]
    assert found["validation_curve"] == [[2, None], [4, None]]
    json.dumps(found, allow_nan=False)
