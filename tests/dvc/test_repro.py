"""`dvc repro` over Snakemake: what it takes over, makes, records and leaves. One clone for all tests, in order."""

import copy
import json

import pytest
import yaml

from dvc_clone import SMALL, hashes_behind
from ept.config.configuration import parse_configuration
from ept.plan.experiment import Experiment

pytestmark = pytest.mark.long


def _changed(rate: float, source_rate: float = 0.3) -> dict:
    """The small configuration with other learning rates."""
    values = copy.deepcopy(SMALL)
    values["training"]["learning_rates"]["spot"]["prompt"] = [rate]
    values["source_training"]["learning_rates"]["pt"]["prompt"] = [source_rate]
    return values


def _hashes(values: dict) -> dict[str, str]:
    """By regime, the hash of the only pack that the configuration asks for."""
    return {pack.regime: pack.hash for pack in Experiment(parse_configuration(values)).packs}


@pytest.fixture(scope="module")
def taken_over(first):
    """A clone in which Snakemake was run by hand, then DVC. `dvc repro` printed `output`."""
    first.run("snakemake", "--cores", "2", "all")
    assert sorted(first.trained()) == sorted(_hashes(SMALL).values())
    first.table = first.read("results/main.csv")
    first.output = first.run("dvc", "repro")
    first.retrained = first.trained()
    first.commit()
    return first


def test_a_run_by_hand_is_taken_over_without_training(taken_over):
    stages = yaml.safe_load(taken_over.read("dvc.yaml"))["stages"]
    assert taken_over.output.count("Running stage") == len(stages)
    assert taken_over.retrained == []
    assert taken_over.read("results/main.csv") == taken_over.table


def test_a_second_repro_does_nothing(taken_over):
    output = taken_over.run("dvc", "repro")
    assert "Running stage" not in output and "up to date" in output
    assert "up to date" in taken_over.run("dvc", "status")


def test_nothing_that_git_would_keep_has_appeared(taken_over):
    assert taken_over.run("git", "status", "--porcelain") == ""


def test_an_experiment_elsewhere_records_the_result_of_its_own_parameter(taken_over):
    setting = "config/config.yaml:training.learning_rates.spot.prompt=[3.0]"
    taken_over.run("dvc", "exp", "run", "--temp", "--name", "other", "--set-param", setting)
    # The source prompt came out of the cache, whatever the times of its files are there.
    assert taken_over.trained() == [_hashes(_changed(3.0))["full"]]
    lock = yaml.safe_load(taken_over.run("git", "show", "refs/exps/" + _experiment(taken_over) + ":dvc.lock"))
    report = lock["stages"]["report"]
    assert report["params"]["config/config.yaml"]["training"]["learning_rates"] == {"spot": {"prompt": [3.0]}}
    (out,) = report["outs"]
    files = {entry["relpath"]: entry["md5"] for entry in json.loads(_cached(taken_over, out["md5"]))}
    assert hashes_behind(_cached(taken_over, files["main.settings.json"])) == [_hashes(_changed(3.0))["full"]]
    # The workspace is as it was.
    assert taken_over.made_from() == [_hashes(SMALL)["full"]]
    assert "up to date" in taken_over.run("dvc", "status")


def _experiment(clone) -> str:
    """The name of the only experiment below refs/exps."""
    refs = clone.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    (name,) = (ref for ref in refs if ref.endswith("/other"))
    return name.removeprefix("refs/exps/")


def _cached(clone, md5: str) -> bytes:
    return clone.read(f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}")


def test_a_failed_job_leaves_finished_runs_and_the_next_repro_only_the_rest(taken_over):
    other = _hashes(_changed(0.2, source_rate=0.2))
    taken_over.configure(_changed(0.2, source_rate=0.2))
    taken_over.run("dvc", "repro", fails=True, EPT_BROKEN=other["full"])
    assert taken_over.trained() == [other["source"], other["full"]]
    (finished,) = taken_over.folder.glob(f"runs/*/*/*/source/{other['source']}/runs.json")
    before = finished.stat().st_mtime_ns
    for hash_ in _hashes(SMALL).values():
        assert list(taken_over.folder.glob(f"runs/*/*/*/*/{hash_}/runs.json"))
    taken_over.run("dvc", "repro")
    assert taken_over.trained() == [other["full"]]
    assert finished.stat().st_mtime_ns == before
    assert taken_over.made_from() == [other["full"]]


def test_going_back_trains_nothing_and_leaves_nothing_stale(taken_over):
    taken_over.configure(SMALL)
    taken_over.run("dvc", "repro")
    assert taken_over.trained() == []
    assert taken_over.read("results/main.csv") == taken_over.table
    assert "Nothing to be done" in taken_over.run("snakemake", "--dry-run", "all")
    assert "up to date" in taken_over.run("dvc", "status")
