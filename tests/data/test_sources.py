"""Demonstration and local folders, and the sentences for whatever is wrong with the data."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.task_rows import table, write_local
from ept.data.fetch import fetch, read_raw
from ept.data.source import DataSource, identity
from ept.demo.generator import generate
from ept.demo.identity import GENERATOR_VERSION
from ept.errors import InputError
from ept.tasks.registry import TASKS

RTE = TASKS["rte"]


def _local(folder):
    return DataSource("local", str(folder))


@pytest.mark.parametrize("name", TASKS)
def test_demo_splits_are_fetched_as_generated(tmp_path, name):
    source = DataSource("demo", seed=3)
    assert identity(source, TASKS[name]) == f"demo-v{GENERATOR_VERSION}-seed3"
    fetch(TASKS[name], source, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{split}.parquet" for split in TASKS[name].splits}
    for split in TASKS[name].splits:
        assert pq.read_table(tmp_path / f"{split}.parquet").equals(generate(name, split, 3))


@pytest.mark.parametrize("name", TASKS)
def test_local_splits_are_fetched_as_they_are(tmp_path, name):
    task = TASKS[name]
    files = write_local(tmp_path / "data", task)
    fetch(task, _local(tmp_path / "data"), tmp_path / "raw")
    assert sorted(path.stem for path in (tmp_path / "raw").iterdir()) == sorted(task.splits)
    for split, raw in read_raw(task, tmp_path / "raw").items():
        assert raw.drop_columns("row").equals(pq.read_table(files / f"{split}.parquet"))
        assert raw.column("row").to_pylist() == [f"{split}:{row}" for row in range(6)]


@pytest.mark.parametrize(
    ("there", "used"),
    [
        (("train", "validation"), ("train", "validation")),
        (("train", "validation_matched"), ("train", "validation_matched")),
        (("train", "validation", "validation_mismatched"), ("train", "validation")),
        (("train", "validation", "validation_matched"), ("train", "validation_matched")),
    ],
)
def test_mnli_may_have_one_validation(tmp_path, there, used):
    mnli = TASKS["mnli"]
    write_local(tmp_path / "data", mnli, splits=there)
    fetch(mnli, _local(tmp_path / "data"), tmp_path / "raw")
    assert tuple(read_raw(mnli, tmp_path / "raw")) == used


def test_squad_may_lie_in_v1_1(tmp_path):
    files = write_local(tmp_path, TASKS["squad"])
    before = identity(_local(tmp_path), TASKS["squad"])
    files.rename(files.parent / "v1.1")
    assert identity(_local(tmp_path), TASKS["squad"]) == before


def test_local_identity_is_of_the_content_and_not_of_the_place(tmp_path):
    for folder in ("a", "b"):
        write_local(tmp_path / folder, RTE)
    first = identity(_local(tmp_path / "a"), RTE)
    assert first == identity(_local(tmp_path / "b"), RTE)
    assert first.startswith("local-") and len(first) == 14
    changed = table(RTE).set_column(0, "sentence1", pa.array(["Another sentence."] * 6))
    pq.write_table(changed, tmp_path / "b/glue/rte/validation.parquet")
    assert identity(_local(tmp_path / "b"), RTE) != first


def test_other_text_types_are_as_good(tmp_path):
    files = write_local(tmp_path / "data", RTE)
    large = table(RTE)
    large = large.set_column(0, "sentence1", large.column("sentence1").cast(pa.large_string()))
    pq.write_table(large, files / "train.parquet")
    fetch(RTE, _local(tmp_path / "data"), tmp_path / "raw")


def _refused(tmp_path, task, match, split="train"):
    """The error of fetching; nothing may have been written."""
    with pytest.raises(InputError, match=match) as found:
        fetch(task, _local(tmp_path / "data"), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
    message = str(found.value)
    assert "\n" not in message
    if split:
        assert f"{task.config}/{split}.parquet" in message


def _replaced(tmp_path, task, split="train", **columns):
    """A local copy in which one split has other columns (None: left out)."""
    files = write_local(tmp_path / "data", task)
    changed = table(task)
    for name, values in columns.items():
        changed = changed.drop_columns(name)
        if values is not None:
            changed = changed.append_column(name, pa.array(values))
    pq.write_table(changed, files / f"{split}.parquet")


BAD = [
    ("rte", {"sentence2": None}, "column 'sentence2', which rte needs, is missing; name the columns as"),
    ("rte", {"label": None}, "column 'label', which rte needs, is missing"),
    ("squad", {"answers": None}, "column 'answers', which squad needs, is missing"),
    (
        "rte",
        {"label": [0, 1, -1, 0, 5, 1]},
        "label in row 2 is -1, but rte's labels go from 0 to 1; correct it",
    ),
    ("cb", {"label": [0, 1, 2, 3, 0, 1]}, "label in row 3 is 3, but cb's labels go from 0 to 2"),
    (
        "stsb",
        {"label": [0.0, 5.0, 5.1, 1.0, 1.0, 1.0]},
        "label in row 2 is 5.1, but stsb's labels go from 0.0 to",
    ),
    ("stsb", {"label": [0.0, float("nan"), 1.0, 1.0, 1.0, 1.0]}, "label in row 1 is nan"),
    (
        "rte",
        {"label": ["0", "1", "0", "1", "0", "1"]},
        "'label' holds string, but rte needs whole numbers; convert",
    ),
    ("rte", {"label": [0, 1, None, 1, 0, 1]}, "column 'label' has no value in row 2"),
    ("rte", {"sentence1": ["a", "b", "c", "d", None, "f"]}, "'sentence1' has no value in row 4; fill it"),
    (
        "rte",
        {"sentence1": [1, 2, 3, 4, 5, 6]},
        "column 'sentence1' holds int64, but rte needs text; convert it",
    ),
    (
        "record",
        {"answers": [["a"], [], ["b"], None, ["c"], ["d"]]},
        "'answers' has no answer in row 1; give one",
    ),
    (
        "record",
        {"entities": ["a", "b", "c", "d", "e", "f"]},
        "'entities' holds string, but record needs lists",
    ),
    ("multirc", {"idx": [1, 2, 3, 4, 5, 6]}, "column 'idx' holds int64, but multirc needs records"),
    (
        "multirc",
        {"idx": [{"paragraph": 1}] * 6},
        "column 'idx' lacks the field 'question' of multirc; add it",
    ),
]


@pytest.mark.parametrize(("name", "columns", "match"), BAD)
def test_bad_tables_are_refused_in_one_sentence(tmp_path, name, columns, match):
    _replaced(tmp_path, TASKS[name], **columns)
    _refused(tmp_path, TASKS[name], match)


def test_empty_split_is_refused(tmp_path):
    files = write_local(tmp_path / "data", RTE)
    pq.write_table(table(RTE).slice(0, 0), files / "validation.parquet")
    _refused(tmp_path, RTE, "the split has no rows", split="validation")


def test_torn_files_are_refused(tmp_path):
    path = write_local(tmp_path / "data", RTE, rows=500) / "train.parquet"
    whole = path.read_bytes()
    for torn in (whole[: len(whole) // 2], whole[:3], b"", b"PK\x03\x04" + whole[4:-4] + b"junk"):
        path.write_bytes(torn)
        _refused(tmp_path, RTE, "this is not a whole Parquet file .*; make it again")
        with pytest.raises(InputError, match="train.parquet: this is not a whole Parquet file .*copy it again"):
            identity(_local(tmp_path / "data"), RTE)
    # Damage that leaves the footer alone.
    random = np.random.default_rng(0).integers(0, 256, len(whole) // 4, dtype=np.uint8).tobytes()
    path.write_bytes(whole[:4] + random + whole[4 + len(random) :])
    _refused(tmp_path, RTE, "this is not a whole Parquet file")


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere: there is no such folder; correct data.path"):
        identity(DataSource("local", "nowhere"), RTE)
    files = write_local(tmp_path / "data", RTE)
    with pytest.raises(InputError, match="glue/cola: there is no such folder; put cola's Parquet files there"):
        identity(_local(tmp_path / "data"), TASKS["cola"])
    (files / "validation.parquet").unlink()
    with pytest.raises(InputError, match="validation.parquet: there is no such file; put rte's validation split"):
        identity(_local(tmp_path / "data"), RTE)
    _refused(tmp_path, RTE, "there is no such file", split="validation")
    write_local(tmp_path / "data", TASKS["mnli"], splits=("train", "validation_mismatched"))
    with pytest.raises(InputError, match="validation_matched.parquet: there is no such file"):
        identity(_local(tmp_path / "data"), TASKS["mnli"])


def test_nothing_is_written_when_the_last_split_is_bad(tmp_path):
    _replaced(tmp_path, RTE, split="validation", label=[0, 1, 0, 1, 0, 7])
    _refused(tmp_path, RTE, "row 5 is 7", split="validation")


def test_raw_folder_without_a_split_is_refused(tmp_path):
    write_local(tmp_path, RTE)
    (tmp_path / "glue/rte/train.parquet").unlink()
    with pytest.raises(InputError, match="train.parquet: there is no such file"):
        read_raw(RTE, tmp_path / "glue/rte")
