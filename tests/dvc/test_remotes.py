"""Results made in one clone and used in another, through a folder, a store on S3 and a server on SSH."""

import copy
import json
import re

import pytest

from dvc_clone import SMALL
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


def test_pushed_then_pulled_into_a_fresh_clone_everything_is_up_to_date(finished, remote, tmp_path):
    finished.add_remote(remote[0], **remote[1])
    finished.make("push")
    clone = finished.clone(tmp_path / "clone")
    clone.add_remote(remote[0], **remote[1])
    clone.make("pull")
    # Nothing was made there.
    assert not clone.calls.exists()
    assert "up to date" in clone.run("dvc", "status")
    assert "Nothing to be done" in clone.run("snakemake", "--dry-run", "all")
    for path in ("results/main.csv", "results/main.settings.json"):
        assert clone.read(path) == finished.read(path)


def test_a_changed_parameter_in_a_fresh_clone_trains_what_depends_on_it(finished, tmp_path):
    """Without the touching that `make pull` adds: the files have whatever times DVC gave them."""
    finished.add_remote(tmp_path / "store")
    finished.run("dvc", "push")
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
    full = json.loads(finished.read("results/headline.json"))["full"]
    shown = dict(zip(head, numbers, strict=True))
    assert "spot" in full and {name: float(shown[f"full.{name}"]) for name in full} == full
    finished.run("dvc", "plots", "show")
    page = finished.read("dvc_plots/index.html").decode()
    (plot,) = re.findall(r"var spec = (.*);\n *vegaEmbed\('#results_main_csv'", page)
    rows = json.loads(plot)["data"]["values"]
    averages = {row["method"]: float(row["mean"]) for row in rows if row["task"] == "average"}
    assert averages == {"spot": full["spot"]}
    assert "<DVC" not in plot
    assert json.loads(plot)["transform"][0] == {"filter": "datum.task == 'average'"}
    assert finished.run("git", "status", "--porcelain") == ""


def test_a_clean_room_without_a_difference_leaves_nothing(finished, tmp_path):
    finished.trained()
    finished.make("clean-room", TMPDIR=str(tmp_path))
    assert len(finished.trained()) == 2
    assert not list(tmp_path.iterdir())


def test_a_clean_room_names_the_recorded_table_that_differs(finished, tmp_path):
    table = finished.folder / "results/main.csv"
    recorded = table.read_text()
    table.write_text(recorded.replace("cb", "bc"))
    output = finished.make("clean-room", fails=True, TMPDIR=str(tmp_path))
    table.write_text(recorded)
    # Both trainings were made again, in a clone that stays.
    assert len(finished.trained()) == 2
    (room,) = tmp_path.iterdir()
    assert str(room) in output and "results/main.csv" in output
    assert (room / "results/main.csv").read_text() == recorded


def test_a_clean_room_needs_results_and_commits(finished, tmp_path):
    clone = finished.clone(tmp_path / "clone")
    assert "results/main.csv" in clone.make("clean-room", fails=True)
    (finished.folder / "Snakefile").write_text((finished.folder / "Snakefile").read_text() + "\n")
    finished.make("clean-room", fails=True)
    finished.run("git", "checkout", "--quiet", "Snakefile")
    assert finished.trained() == []
