"""Results made in one clone and used in another, through a folder, a store on S3 and a server on SSH."""

import copy
import json
import re

import pytest

from dvc_clone import SMALL, Clone
from ssh_stand_in import serving as serving_ssh

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def finished(first):
    """A clone in which everything was made and recorded."""
    first.run("dvc", "repro")
    first.trained()
    first.commit()
    return first


@pytest.fixture(params=["folder", "s3", "ssh"])
def remote(request, tmp_path):
    """URL and options of a remote."""
    if request.param == "folder":
        yield tmp_path / "store", {}
    elif request.param == "s3":
        store = request.getfixturevalue("s3")
        yield store.url("results"), store.options
    else:
        with serving_ssh(tmp_path) as server:
            yield server


def _pulled(finished: Clone, folder, remote) -> Clone:
    """A fresh clone after `make pull`."""
    clone = finished.clone(folder)
    clone.add_remote(remote[0], **remote[1])
    assert " files fetched" in clone.make("pull")
    assert clone.calls.read_text() == "pull\n"
    return clone


def test_pushed_then_pulled_into_a_fresh_clone_everything_is_up_to_date(finished, remote, tmp_path):
    finished.add_remote(remote[0], **remote[1])
    assert " files sent" in finished.make("push")
    assert finished.run("ept", "push") == "0 files sent\n"
    clone = _pulled(finished, tmp_path / "clone", remote)
    assert "up to date" in clone.run("dvc", "status")
    assert "Nothing to be done" in clone.run("snakemake", "--dry-run", "all")
    for path in ("results/main.csv", "results/main.settings.json"):
        assert clone.read(path) == finished.read(path)


def test_one_prompt_is_fetched_alone(finished, tmp_path):
    finished.add_remote(tmp_path / "store")
    finished.run("ept", "push")
    (prompt,) = (path.relative_to(finished.folder) for path in finished.folder.glob("prompts/*/spot/*/full/*/seed0.*"))
    for verb in ("dvc", "ept"):
        clone = finished.clone(tmp_path / verb)
        clone.add_remote(tmp_path / "store")
        clone.run(verb, "pull", prompt)
        assert clone.read(prompt) == finished.read(prompt)
        assert [path.name for path in clone.folder.glob("prompts/**/*") if path.is_file()] == ["seed0.safetensors"]
        assert not (clone.folder / "results").exists()


def test_a_changed_parameter_in_a_fresh_clone_trains_what_depends_on_it(finished, tmp_path):
    """Without the touching that `make pull` adds: the files have whatever times DVC gave them."""
    finished.add_remote(tmp_path / "store")
    finished.run("ept", "push")
    clone = finished.clone(tmp_path / "clone")
    clone.add_remote(tmp_path / "store")
    clone.run("dvc", "pull")
    values = copy.deepcopy(SMALL)
    values["training"]["learning_rates"]["spot"]["prompt"] = [3.0]
    clone.configure(values)
    clone.run("dvc", "repro")
    trained = clone.trained()
    assert len(trained) == 1
    assert clone.made_from() == trained != finished.made_from()


def test_dvc_shows_headline_numbers_and_averages(finished):
    head, numbers = (line.split() for line in finished.run("dvc", "metrics", "show").splitlines())
    spot = json.loads(finished.read("results/summary.json"))["full"]["spot"]
    shown = dict(zip(head, numbers, strict=True))
    assert {name: float(shown[f"full.spot.{name}"]) for name in spot} == spot
    finished.run("dvc", "plots", "show")
    page = finished.read("dvc_plots/index.html").decode()
    (plot,) = re.findall(r"var spec = (.*);\n *vegaEmbed\('#results_main_csv'", page)
    rows = json.loads(plot)["data"]["values"]
    averages = {row["method"]: float(row["mean"]) for row in rows if row["task"] == "average"}
    assert averages == {"spot": spot["average"]}
    assert "<DVC" not in plot
    assert json.loads(plot)["transform"][0] == {"filter": "datum.task == 'average'"}
    assert finished.run("git", "status", "--porcelain") == ""


def test_a_clean_room_without_a_difference_leaves_nothing(finished, tmp_path):
    output = finished.make("clean-room", TMPDIR=str(tmp_path))
    assert len(finished.trained()) == 2
    assert "6 of 6 files are byte for byte the recorded ones" in output
    assert not list(tmp_path.iterdir())


def test_a_clean_room_says_which_recorded_table_differs(finished):
    table = finished.folder / "results/main.md"
    recorded = table.read_text()
    table.write_text(recorded.replace("majority", "minority"))
    output = finished.run("ept", "clean-room", fails=True)
    table.write_text(recorded)
    # Both trainings were made again, elsewhere.
    assert len(finished.trained()) == 2
    assert [line for line in output.splitlines() if line.startswith("differs: ")] == ["differs: results/main.md"]
    assert "5 of 6 files are byte for byte the recorded ones" in output


def test_a_clean_room_needs_results_and_commits(finished, tmp_path):
    clone = finished.clone(tmp_path / "clone")
    assert "results/main.csv is not there" in clone.run("ept", "clean-room", fails=True)
    (finished.folder / "Snakefile").write_text((finished.folder / "Snakefile").read_text() + "\n")
    output = finished.run("ept", "clean-room", fails=True)
    finished.run("git", "checkout", "--quiet", "Snakefile")
    assert "Snakefile is changed and not committed" in output
