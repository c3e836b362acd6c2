"""Data sets from the hub, with the real hub client, against a stand-in on loopback."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from data.task_rows import kept, table
from ept.data.fetch import fetch, read_raw
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
    assert list(folder.iterdir()) == [], "a partial download was left"


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


def _states(sentence, *facts):
    assert [fact for fact in facts if fact not in sentence] == [], sentence


def _assert_fetched(tmp_path, name="rte"):
    task, folder = TASKS[name], tmp_path / "raw" / name
    assert {path.name for path in folder.glob("*.parquet")} == {f"{split}.parquet" for split in task.splits}
    for split, found in read_raw(task, folder).items():
        assert split in task.splits
        assert found.to_pylist() == kept(task, table(task))


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


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("winogrande", "{config}/{split}-{number:05d}-of-00002.parquet"),
        ("newsqa", "{config}/{split}-{number:05d}-of-00002-ec54fbe500fc3b5{number}.parquet"),
        ("yelp", "{config}/{split}/{number:04d}.parquet"),
    ],
)
def test_files_have_one_of_three_shapes_of_names(hub, tmp_path, name, shape):
    task = TASKS[name]
    files = {
        shape.format(config=task.config, split=split, number=number): _parquet(tmp_path, table(task).slice(start, 3))
        for split in task.splits
        for number, start in ((0, 0), (1, 3))
    }
    hub.publish(*REPOSITORIES[task.suite], {**files, "README.md": b"x", "other/train.parquet": b"x"})
    first = next(iter(files))
    hub.breaks[first] = [700]
    hub.altered[first] = files[first].replace(b"PAR1", b"PAR2")
    assert first in _sentence(tmp_path, name)
    hub.altered.clear()
    _fetch(tmp_path, name)
    _assert_fetched(tmp_path, name)
    hub.close()
    _fetch(tmp_path, name)


def test_shards_are_joined_in_order(hub, tmp_path):
    _publish(hub, tmp_path, "qnli", shards=3)
    _fetch(tmp_path, "qnli")
    assert pq.read_table(tmp_path / "raw/qnli/train.parquet").num_rows == 6 + 12 + 18


FETCH = """
import re, sys
from pathlib import Path
from ept.data.fetch import fetch
from ept.data.source import DataSource
from ept.tasks.registry import TASKS
fetch(TASKS["rte"], DataSource("hub"), Path(sys.argv[1]))
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def _pairs(rows):
    """A file of one row group with two random texts of 60 letters in each row."""
    ends = pa.py_buffer(np.arange(rows + 1, dtype=np.int32) * 60)
    letters = np.random.default_rng(0).integers(97, 123, (2, rows * 60), np.uint8)
    texts = {
        name: pa.StringArray.from_buffers(rows, ends, pa.py_buffer(part))
        for name, part in zip(("sentence1", "sentence2"), letters, strict=True)
    }
    content = io.BytesIO()
    pq.write_table(pa.table(texts | {"label": np.arange(rows) % 2}), content, row_group_size=rows)
    return content.getvalue()


@pytest.mark.long
def test_a_million_rows_more_take_hardly_more_memory(hub, tmp_path):
    _publish(hub, tmp_path, "rte")
    megabytes = []
    # Both fill the parts of 32 MiB in which rows are read and written.
    for rows in (500_000, 1_500_000):
        hub.publish(*REPOSITORIES["glue"], {RTE_TRAIN: _pairs(rows)})
        command = [sys.executable, "-c", FETCH, str(tmp_path / f"raw{rows}")]
        megabytes.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        assert pq.read_metadata(tmp_path / f"raw{rows}/train.parquet").num_rows == rows
    # The texts of the further rows have 120 MB.
    assert megabytes[1] - megabytes[0] < 40, megabytes


def test_a_download_that_breaks_off_is_tried_again_at_once(hub, tmp_path):
    _publish(hub, tmp_path, "rte")
    hub.breaks[RTE_TRAIN] = [700, 300]
    _fetch(tmp_path)
    _assert_fetched(tmp_path)
    assert sum(request.startswith("GET") and RTE_TRAIN in request for request in hub.requests) == 3


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_download_leaves_nothing(hub, tmp_path, temporary, kind):
    _publish(hub, tmp_path, "rte")
    hub.stalls.add(RTE_TRAIN)
    folder = tmp_path / "project"
    folder.mkdir()
    values = {"data": {"source": "hub"}, "tasks": {"target": ["rte"]}, "methods": ["pt"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "ept.cli", "fetch", "--config", "config.yaml", "--task", "rte"]
    environment = os.environ | {"TMPDIR": str(temporary)}
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    assert hub.stalled.wait(timeout=120)
    assert any(temporary.iterdir())
    process.send_signal(kind)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == (130 if kind == signal.SIGINT else 143) and "Traceback" not in errors
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]


def test_a_connection_that_stays_broken_is_one_sentence_and_a_second_try_completes(hub, tmp_path):
    _publish(hub, tmp_path, "rte")
    hub.breaks[RTE_TRAIN] = [700] * 20
    _states(_sentence(tmp_path), f"{hub.endpoint}/datasets/nyu-mll/glue", RTE_TRAIN, "HF_ENDPOINT", "data.source")
    hub.breaks.clear()
    _fetch(tmp_path)
    _assert_fetched(tmp_path)


def test_a_file_that_is_not_the_declared_one_is_refused_and_a_second_try_completes(hub, tmp_path):
    _publish(hub, tmp_path, "rte")
    # A whole Parquet file of the right size with other content: only the checksum tells.
    declared = hub.repositories["nyu-mll/glue"][1][RTE_TRAIN]
    hub.altered[RTE_TRAIN] = declared.replace(b"Ann is awake.", b"Ann is alive.")
    assert len(hub.altered[RTE_TRAIN]) == len(declared) and hub.altered[RTE_TRAIN] != declared
    digests = [hashlib.sha256(content).hexdigest()[:12] for content in (hub.altered[RTE_TRAIN], declared)]
    _states(_sentence(tmp_path), RTE_TRAIN, *digests, "data.source")
    hub.altered[RTE_TRAIN] = declared[:-50]
    _states(_sentence(tmp_path), RTE_TRAIN, hashlib.sha256(declared[:-50]).hexdigest()[:12], digests[1])
    hub.altered.clear()
    _fetch(tmp_path)
    _assert_fetched(tmp_path)


def test_a_file_that_is_listed_and_missing_is_one_sentence(hub, tmp_path):
    _publish(hub, tmp_path, "rte")
    hub.lost.add(RTE_TRAIN)
    _states(_sentence(tmp_path), RTE_TRAIN, "HF_ENDPOINT")
    hub.lost.clear()
    _fetch(tmp_path)


def test_a_gated_repository_opens_with_a_token(hub, tmp_path, monkeypatch):
    _publish(hub, tmp_path, "rte")
    hub.token = "hf_mine"
    _states(_sentence(tmp_path), "gated", "HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    _states(_sentence(tmp_path), "gated", "HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    _fetch(tmp_path)
    _assert_fetched(tmp_path)


def test_no_network_is_one_sentence(hub, tmp_path):
    hub.close()
    _states(_sentence(tmp_path), f"{hub.endpoint}/datasets/nyu-mll/glue", "HF_HUB_OFFLINE", "data.source")


@pytest.mark.parametrize(
    ("refusal", "facts"),
    [
        ((403, "GatedRepo"), ("gated", "HF_TOKEN")),
        ((404, "RepoNotFound"), ("nyu-mll/glue", "HF_TOKEN")),
        ((404, "RevisionNotFound"), (REPOSITORIES["glue"][1],)),
        ((503, ""), ("503",)),
    ],
)
def test_refusals_are_one_sentence(hub, tmp_path, refusal, facts):
    hub.refusals["nyu-mll/glue"] = refusal
    _states(_sentence(tmp_path), *facts)


def test_missing_configuration_and_split_are_one_sentence(hub, tmp_path):
    _publish(hub, tmp_path, "cola")
    _states(_sentence(tmp_path), "rte/train-*.parquet")
    files = hub.repositories["nyu-mll/glue"][1]
    del files["cola/validation-00000-of-00001.parquet"]
    _states(_sentence(tmp_path, "cola"), "cola/validation-*.parquet")
    _publish(hub, tmp_path, "sst2", shards=2)
    del files["sst2/train-00001-of-00002.parquet"]
    _states(_sentence(tmp_path, "sst2"), "sst2", "train-00000-of-00002.parquet", " 1,")


def test_a_bad_table_of_the_hub_is_refused_with_its_place(hub, tmp_path):
    _publish(hub, tmp_path, "rte")
    files = hub.repositories["nyu-mll/glue"][1]
    files[RTE_TRAIN] = files[RTE_TRAIN][:-20]
    _states(_sentence(tmp_path), f"nyu-mll/glue {RTE_TRAIN}")
    files[RTE_TRAIN] = _parquet(tmp_path, table(TASKS["rte"]).drop_columns("sentence1"))
    _states(_sentence(tmp_path), f"nyu-mll/glue {RTE_TRAIN}", "'sentence1'")


def test_identity_is_the_revision():
    assert {identity(DataSource("hub"), TASKS[name]) for name in ("cola", "mnli")} == {"hub-bcdcba79"}
    assert identity(DataSource("hub"), TASKS["wic"]) == "hub-3de24cf8"
    assert identity(DataSource("hub"), TASKS["squad"]) == "hub-7b6d24c4"


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://joe:word@127.0.0.1:1",
        "joe:word@127.0.0.1",
        "http://127.0.0.1:1/?token=word",
        "http://127.0.0.1:1?a=b&token=word",
        "http://:word@127.0.0.1:1/",
    ],
)
def test_no_secret_of_the_endpoint_is_printed(tmp_path, monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(InputError) as caught:
        fetch(TASKS["rte"], DataSource("hub"), tmp_path / "raw")
    assert "word" not in str(caught.value) and "HF_ENDPOINT" in str(caught.value)
    assert not (tmp_path / "raw").exists()
