"""Data sets from the hub, with the real hub client, against a stand-in on loopback."""

import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data.task_rows import table
from ept.data.fetch import fetch
from ept.data.source import REPOSITORIES, DataSource, identity
from ept.errors import InputError
from ept.tasks.registry import TASKS

RTE_TRAIN = "rte/train-00000-of-00001.parquet"


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, in which nothing may be left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == [], "something half-downloaded was left"


def _parquet(folder: Path, made) -> bytes:
    path = folder / "made.parquet"
    pq.write_table(made, path)
    return path.read_bytes()


def _publish(hub, tmp_path, name, shards=1):
    """Put a task's splits on the hub as <config>/<split>-0000x-of-0000y.parquet."""
    task = TASKS[name]
    files = {
        f"{task.config}/{split}-{shard:05d}-of-{shards:05d}.parquet": _parquet(tmp_path, table(task, 6 + 6 * shard))
        for split in (*task.splits, "test")
        for shard in range(shards)
    }
    hub.publish(*REPOSITORIES[task.suite], files)


def _fetch(tmp_path, name="rte"):
    fetch(TASKS[name], DataSource("hub"), tmp_path / "raw" / name)


def _sentence(tmp_path, name="rte"):
    """The one sentence of a fetch that fails; nothing may have been written."""
    with pytest.raises(InputError) as caught:
        _fetch(tmp_path, name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "raw").exists()
    return str(caught.value)


def _assert_fetched(tmp_path, name="rte"):
    task, folder = TASKS[name], tmp_path / "raw" / name
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{split}.parquet" for split in task.splits)
    for split in task.splits:
        assert pq.read_table(folder / f"{split}.parquet").equals(table(task))


def test_splits_are_downloaded_and_then_need_no_network(hub, tmp_path):
    names = ("rte", "mnli", "wsc", "squad", "record")
    for name in names:
        _publish(hub, tmp_path, name)
        _fetch(tmp_path, name)
        _assert_fetched(tmp_path, name)
    assert not any("/test-" in request for request in hub.requests), "hidden test sets are never used"
    hub.close()
    for name in names:
        _fetch(tmp_path, name)


def test_shards_are_joined_in_order(hub, tmp_path):
    _publish(hub, tmp_path, "qnli", shards=3)
    _fetch(tmp_path, "qnli")
    assert pq.read_table(tmp_path / "raw/qnli/train.parquet").num_rows == 6 + 12 + 18


def test_a_download_that_breaks_off_is_tried_again_at_once(hub, tmp_path):
    _publish(hub, tmp_path, "rte")
    hub.breaks[RTE_TRAIN] = [700, 300]
    _fetch(tmp_path)
    _assert_fetched(tmp_path)
    assert sum(request.startswith("GET") and RTE_TRAIN in request for request in hub.requests) == 3


def test_a_connection_that_stays_broken_is_one_sentence_and_a_second_try_completes(hub, tmp_path):
    _publish(hub, tmp_path, "rte")
    hub.breaks[RTE_TRAIN] = [700] * 20
    sentence = _sentence(tmp_path)
    assert f"{hub.endpoint}/datasets/nyu-mll/glue: cannot fetch {RTE_TRAIN} (" in sentence
    assert "; check the network, HF_ENDPOINT and HF_HUB_OFFLINE, or use data.source local" in sentence
    hub.breaks.clear()
    _fetch(tmp_path)
    _assert_fetched(tmp_path)


def test_a_file_that_is_not_the_declared_one_is_refused_and_a_second_try_completes(hub, tmp_path):
    _publish(hub, tmp_path, "rte")
    # A whole Parquet file of the right size with other content: only the checksum tells.
    declared = hub.repositories["nyu-mll/glue"][1][RTE_TRAIN]
    hub.altered[RTE_TRAIN] = declared.replace(b"Ann is awake.", b"Ann is alive.")
    assert len(hub.altered[RTE_TRAIN]) == len(declared) and hub.altered[RTE_TRAIN] != declared
    sentence = _sentence(tmp_path)
    assert f"{RTE_TRAIN} came with the checksum " in sentence
    assert "; try again, and if it stays so, use data.source local" in sentence
    hub.altered[RTE_TRAIN] = declared[:-50]
    assert f"{RTE_TRAIN} came with the checksum " in _sentence(tmp_path)
    hub.altered.clear()
    _fetch(tmp_path)
    _assert_fetched(tmp_path)


def test_a_file_that_is_listed_and_missing_is_one_sentence(hub, tmp_path):
    _publish(hub, tmp_path, "rte")
    hub.lost.add(RTE_TRAIN)
    assert f"the hub lists {RTE_TRAIN}, but does not have it; check HF_ENDPOINT" in _sentence(tmp_path)
    hub.lost.clear()
    _fetch(tmp_path)


def test_a_gated_repository_opens_with_a_token(hub, tmp_path, monkeypatch):
    _publish(hub, tmp_path, "rte")
    hub.token = "hf_mine"
    expected = "the repository is gated; accept its terms there and set HF_TOKEN to a token that may read it"
    assert expected in _sentence(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert expected in _sentence(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    _fetch(tmp_path)
    _assert_fetched(tmp_path)


def test_no_network_is_one_sentence(hub, tmp_path):
    hub.close()
    sentence = _sentence(tmp_path)
    assert f"{hub.endpoint}/datasets/nyu-mll/glue: cannot fetch its list of files (" in sentence
    assert "check the network, HF_ENDPOINT and HF_HUB_OFFLINE, or use data.source local" in sentence


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        ((403, "GatedRepo"), "the repository is gated; accept its terms there and set HF_TOKEN"),
        ((404, "RepoNotFound"), "the hub has no such repository, or hides it; check HF_ENDPOINT and HF_TOKEN"),
        ((404, "RevisionNotFound"), "the hub has no revision bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c of it; check"),
        ((503, ""), "cannot fetch its list of files (Server error '503 Service Unavailable'"),
    ],
)
def test_refusals_are_one_sentence(hub, tmp_path, refusal, expected):
    hub.refusals["nyu-mll/glue"] = refusal
    assert expected in _sentence(tmp_path)


def test_missing_configuration_and_split_are_one_sentence(hub, tmp_path):
    _publish(hub, tmp_path, "cola")
    assert "there are 0 files rte/train-*.parquet, which is not the whole split" in _sentence(tmp_path)
    files = hub.repositories["nyu-mll/glue"][1]
    del files["cola/validation-00000-of-00001.parquet"]
    assert "there are 0 files cola/validation-*.parquet" in _sentence(tmp_path, "cola")
    _publish(hub, tmp_path, "sst2", shards=2)
    del files["sst2/train-00001-of-00002.parquet"]
    assert "there are 1 files sst2/train-*.parquet" in _sentence(tmp_path, "sst2")


def test_a_bad_table_of_the_hub_is_refused_with_its_place(hub, tmp_path):
    _publish(hub, tmp_path, "rte")
    files = hub.repositories["nyu-mll/glue"][1]
    files[RTE_TRAIN] = files[RTE_TRAIN][:-20]
    assert _sentence(tmp_path).startswith(f"nyu-mll/glue {RTE_TRAIN}: this is not a whole Parquet file")
    files[RTE_TRAIN] = _parquet(tmp_path, table(TASKS["rte"]).drop_columns("sentence1"))
    assert "nyu-mll/glue rte train: column 'sentence1', which rte needs" in _sentence(tmp_path)


def test_identity_is_the_revision():
    assert {identity(DataSource("hub"), TASKS[name]) for name in ("cola", "mnli")} == {"hub-bcdcba79"}
    assert identity(DataSource("hub"), TASKS["wic"]) == "hub-3de24cf8"
    assert identity(DataSource("hub"), TASKS["squad"]) == "hub-7b6d24c4"
