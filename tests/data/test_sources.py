"""Demonstration and local folders: what is fetched, under which identity, and what is refused."""

import shutil
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.task_rows import DEMO, kept, table, write_local
from ept.data.arrow import MAX_SPLIT_BYTES, UNPACKED_BYTES
from ept.data.check import MAX_ANSWER_BYTES, MAX_ROWS, MAX_TEXT_BYTES
from ept.data.fetch import MANIFEST, fetch, read_raw
from ept.data.source import DataSource, identity
from ept.demo.generator import generate
from ept.demo.identity import GENERATOR_VERSION
from ept.errors import InputError
from ept.tasks.registry import TASKS

RTE = TASKS["rte"]


def _local(folder):
    return DataSource("local", str(folder))


@pytest.mark.parametrize("name", DEMO)
def test_demo_splits_are_fetched_as_generated(tmp_path, name):
    source, task = DataSource("demo", seed=3), TASKS[name]
    assert identity(source, task) == f"demo-v{GENERATOR_VERSION}-seed3"
    fetch(task, source, tmp_path / "raw")
    raw = read_raw(task, tmp_path / "raw")
    assert set(raw) == set(task.splits)
    for split, found in raw.items():
        assert found.to_pylist() == kept(task, generate(name, split, 3))


@pytest.mark.parametrize("name", TASKS)
def test_the_columns_that_a_task_needs_are_fetched_of_local_splits(tmp_path, name):
    task = TASKS[name]
    write_local(tmp_path / "data", task)
    fetch(task, _local(tmp_path / "data"), tmp_path / "raw")
    raw = read_raw(task, tmp_path / "raw")
    assert {path.name for path in (tmp_path / "raw").iterdir()} == {MANIFEST, *(f"{split}.parquet" for split in raw)}
    assert set(raw) == set(task.splits)
    for found in raw.values():
        assert found.to_pylist() == kept(task, table(task))


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


def test_squad_may_be_in_v1_1(tmp_path):
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


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.kind == "classification"])
def test_swapped_labels_are_another_identity(tmp_path, name):
    """Counts, minima, maxima and sizes stay what they were."""
    task, random = TASKS[name], np.random.default_rng(5)
    files = write_local(tmp_path, task, rows=200)
    whole, found = table(task, 200), {identity(_local(tmp_path), task)}
    labels = whole.column(task.label).to_numpy(zero_copy_only=False)
    for _ in range(8):
        first = random.integers(200)
        second = random.choice(np.flatnonzero(labels != labels[first]))
        swapped = labels.copy()
        swapped[[first, second]] = labels[[second, first]]
        place = whole.column_names.index(task.label)
        pq.write_table(whole.set_column(place, task.label, pa.array(swapped)), files / "train.parquet")
        found.add(identity(_local(tmp_path), task))
    assert len(found) == 9


def test_shards_are_read_in_their_order(tmp_path):
    files = write_local(tmp_path / "data", RTE)
    for shard in range(3):
        part = table(RTE, 4).set_column(0, "sentence1", pa.array([f"shard {shard}"] * 4))
        pq.write_table(part, files / f"train-{shard:05d}-of-00003.parquet")
    (files / "train.parquet").unlink()
    (files / "validation.parquet").rename(files / "validation-00000-of-00001.parquet")
    fetch(RTE, _local(tmp_path / "data"), tmp_path / "raw")
    found = read_raw(RTE, tmp_path / "raw")["train"].column("sentence1").to_pylist()
    assert found == [f"shard {shard}" for shard in range(3) for _ in range(4)]
    first = identity(_local(tmp_path / "data"), RTE)
    names = [files / f"train-{shard:05d}-of-00003.parquet" for shard in (0, 1)]
    contents = [name.read_bytes() for name in names]
    for name, content in zip(names, reversed(contents), strict=True):
        name.write_bytes(content)
    assert identity(_local(tmp_path / "data"), RTE) != first
    (files / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(InputError) as caught:
        identity(_local(tmp_path / "data"), RTE)
    assert all(fact in str(caught.value) for fact in ("glue/rte", "train-00000-of-00003.parquet", " 2,"))


@pytest.mark.parametrize(
    "names",
    [
        ("train.parquet",),
        ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet"),
        ("train-00000-of-00002-1d1964f251007721.parquet", "train-00001-of-00002-0d1964f251007721.parquet"),
        ("train/0000.parquet", "train/0001.parquet"),
    ],
)
def test_a_split_may_have_any_of_the_names_of_the_hub(tmp_path, names):
    files = write_local(tmp_path / "data", RTE)
    (files / "train").mkdir()
    (files / "train.parquet").unlink()
    for number, name in enumerate(names):
        part = table(RTE, 4).set_column(0, "sentence1", pa.array([f"part {number}"] * 4))
        pq.write_table(part, files / name)
    fetch(RTE, _local(tmp_path / "data"), tmp_path / "raw")
    found = read_raw(RTE, tmp_path / "raw")["train"].column("sentence1").to_pylist()
    assert found == [f"part {number}" for number in range(len(names)) for _ in range(4)]
    if len(names) > 1:
        (files / names[0]).unlink()
        with pytest.raises(InputError) as caught:
            identity(_local(tmp_path / "data"), RTE)
        assert names[1] in str(caught.value) and "\n" not in str(caught.value)


SAME = {
    "views": lambda made: pa.table({name: _as_text(column, pa.string_view()) for name, column in _columns(made)}),
    "large": lambda made: pa.table({name: _as_text(column, pa.large_string()) for name, column in _columns(made)}),
    "dictionaries": lambda made: pa.table(
        {name: column if name == "idx" else column.dictionary_encode() for name, column in _columns(made)}
    ),
    "a column named row": lambda made: made.append_column("row", pa.array([{"x": 1}] * len(made))),
    "bytes that nobody reads": lambda made: made.append_column("note", _invalid_text(len(made))),
    "dates beyond 9999": lambda made: made.append_column(
        "seen", pa.array([2**61] * len(made), pa.int64()).cast(pa.timestamp("ms"))
    ),
    "an unneeded column twice": lambda made: made.append_column("n", pa.array([1] * len(made))).append_column(
        "n", pa.array(["x"] * len(made))
    ),
    "small numbers": lambda made: made.set_column(
        made.column_names.index("label"), "label", made.column("label").cast(pa.uint8())
    ),
}


def _columns(made):
    return zip(made.column_names, made.columns, strict=True)


def _as_text(column, type_):
    return column.cast(type_) if pa.types.is_string(column.type) else column


def _invalid_text(rows):
    offsets = pa.array(range(rows + 1), pa.int32()).buffers()[1]
    return pa.StringArray.from_buffers(rows, offsets, pa.py_buffer(b"\xff" * rows))


@pytest.mark.parametrize("change", SAME.values(), ids=SAME.keys())
def test_what_other_writers_make_of_the_same_rows_is_as_good(tmp_path, change):
    files = write_local(tmp_path / "data", RTE)
    pq.write_table(change(table(RTE)), files / "train.parquet")
    fetch(RTE, _local(tmp_path / "data"), tmp_path / "raw")
    assert read_raw(RTE, tmp_path / "raw")["train"].to_pylist() == kept(RTE, table(RTE))


@pytest.mark.parametrize(
    "type_", [pa.large_list(pa.large_string()), pa.list_(pa.string_view()), pa.list_(pa.string(), 2)]
)
def test_lists_of_other_writers_are_as_good(tmp_path, type_):
    task = TASKS["record"]
    files = write_local(tmp_path / "data", task)
    made = table(task)
    for name in ("entities", "answers"):
        column = pa.array(made.column(name).to_pylist(), type_)
        made = made.set_column(made.column_names.index(name), name, column)
    pq.write_table(made, files / "train.parquet")
    fetch(task, _local(tmp_path / "data"), tmp_path / "raw")
    assert read_raw(task, tmp_path / "raw")["train"].to_pylist() == kept(task, table(task))


def test_rows_are_counted_over_batches_and_row_groups(tmp_path):
    """More rows than are in memory at one time; the only bad one is named."""
    files = write_local(tmp_path / "data", RTE)
    many = pa.concat_tables([table(RTE)] * 5000)
    pq.write_table(many, files / "train.parquet", row_group_size=9999)
    fetch(RTE, _local(tmp_path / "data"), tmp_path / "raw")
    assert read_raw(RTE, tmp_path / "raw")["train"].to_pylist() == kept(RTE, many)
    labels = many.column("label").to_numpy().copy()
    labels[20_001] = 2
    pq.write_table(
        many.set_column(many.column_names.index("label"), "label", pa.array(labels)), files / "train.parquet"
    )
    _refused(tmp_path, RTE, "label", "row 20001")


def _refused(tmp_path, task, *facts, split="train"):
    """Fetching fails with one line that names the file and these facts; nothing is written."""
    shutil.rmtree(tmp_path / "raw", ignore_errors=True)
    with pytest.raises(InputError) as found:
        fetch(task, _local(tmp_path / "data"), tmp_path / "raw/here/it")
    assert not (tmp_path / "raw").exists()
    message = str(found.value)
    assert "\n" not in message and len(message) <= 500
    for fact in (f"{task.config}/{split}.parquet" if split else "", *facts):
        assert fact in message


def _replaced(tmp_path, task, split="train", **columns):
    """A local copy in which one split has other columns (None: left out)."""
    files = write_local(tmp_path / "data", task)
    changed = table(task)
    for name, values in columns.items():
        changed = changed.drop_columns(name) if name in changed.column_names else changed
        if values is not None:
            changed = changed.append_column(name, values if isinstance(values, pa.Array) else pa.array(values))
    pq.write_table(changed, files / f"{split}.parquet")


BAD = [
    ("rte", {"sentence2": None}, ("'sentence2'", "rte")),
    ("rte", {"label": None}, ("'label'", "rte")),
    ("squad", {"answers": None}, ("'answers'", "squad")),
    ("rte", {"label": [0, 1, -1, 0, 5, 1]}, ("row 2", "-1", "0 and 1")),
    ("cb", {"label": [0, 1, 2, 3, 0, 1]}, ("row 3", "3", "0 and 2")),
    ("stsb", {"label": [0.0, 5.0, 5.1, 1.0, 1.0, 1.0]}, ("row 2", "5.1", "0.0 and 5.0")),
    ("stsb", {"label": [0.0, float("nan"), 1.0, 1.0, 1.0, 1.0]}, ("row 1", "nan")),
    ("rte", {"label": pa.array([0, 1, 0, 1, 2**63, 1], pa.uint64())}, ("row 4", str(2**63))),
    ("rte", {"label": ["0", "1", "0", "1", "0", "1"]}, ("'label'", "string")),
    ("rte", {"label": [0, 1, None, 1, 0, 1]}, ("'label'", "row 2")),
    ("wsc", {"span1_index": pa.array([0, 0, 0, 0, 0, 2**63], pa.uint64())}, ("'span1_index'", str(2**63))),
    ("rte", {"sentence1": ["a", "b", "c", "d", None, "f"]}, ("'sentence1'", "row 4")),
    ("rte", {"sentence1": ["a", "b", "c", None, "d", "f"]}, ("'sentence1'", "row 3")),
    ("rte", {"sentence1": [1, 2, 3, 4, 5, 6]}, ("'sentence1'", "int64")),
    ("rte", {"sentence1": ["a", "b", "x" * (MAX_TEXT_BYTES + 1), "c", "d", "e"]}, ("'sentence1'", "row 2", "1000001")),
    ("record", {"answers": [["a"], [], ["b"], ["b"], ["c"], ["d"]]}, ("'answers'", "row 1")),
    ("record", {"answers": [["a"], ["b"], ["b"], None, ["c"], ["d"]]}, ("'answers'", "row 3")),
    ("record", {"answers": [["a"], ["b", " "], ["b"], ["b"], ["c"], ["d"]]}, ("'answers'", "row 1")),
    ("squad", {"answers": [{"text": [text]} for text in ("a", "b", "", "c", "d", "e")]}, ("'answers'", "row 2")),
    (
        "record",
        {"answers": [["a"], ["b", "x" * (MAX_ANSWER_BYTES + 1)], ["b"], ["b"], ["c"], ["d"]]},
        ("'answers'", "row 1", str(MAX_ANSWER_BYTES + 1), str(MAX_ANSWER_BYTES)),
    ),
    ("record", {"entities": ["a", "b", "c", "d", "e", "f"]}, ("'entities'", "string")),
    ("multirc", {"idx": [1, 2, 3, 4, 5, 6]}, ("'idx'", "int64")),
    ("multirc", {"idx": [{"paragraph": 1}] * 6}, ("'idx'", "'question'")),
    (
        "scitail",
        {"label": ["entails"] * 4 + ["contradiction", "neutral"]},
        ("row 4", "'contradiction'", "entails, neutral"),
    ),
    ("scitail", {"label": [0, 1] * 3}, ("'label'", "int64", "text")),
    ("winogrande", {"answer": ["1"] * 5 + [""]}, ("row 5", "''", "1, 2")),
    ("winogrande", {"answer": [1.0, 2.0] * 3}, ("'answer'", "double", "text")),
    ("paws", {"label": ["0", "1"] * 3}, ("'label'", "string", "whole numbers")),
    ("yelp", {"label": ["negative", "positive"] * 3}, ("'label'", "string", "whole numbers")),
    ("nq", {"answers": [[["May"]]] * 6}, ("'answers'", "list<", "lists of text")),
    ("nq", {"answers": [[{"span": 3}]] * 6}, ("'answers'", "struct", "lists of text")),
    ("nq", {"context": [["The lake", "froze."]] * 6}, ("'context'", "list<", "text")),
    # MRQA as it was released: a row has a context, and its questions are nested in it.
    (
        "newsqa",
        {"question": None, "answers": None, "qas": [[{"question": "when"}]] * 6},
        ("'question'", "newsqa", "qas"),
    ),
]


@pytest.mark.parametrize(("name", "columns", "facts"), BAD)
def test_bad_tables_are_refused_in_one_sentence(tmp_path, name, columns, facts):
    _replaced(tmp_path, TASKS[name], **columns)
    _refused(tmp_path, TASKS[name], *facts)


def test_empty_split_is_refused(tmp_path):
    files = write_local(tmp_path / "data", RTE)
    pq.write_table(table(RTE).slice(0, 0), files / "validation.parquet")
    _refused(tmp_path, RTE, "no rows", split="validation")


def test_incomplete_files_are_refused(tmp_path):
    path = write_local(tmp_path / "data", RTE, rows=500) / "train.parquet"
    whole = path.read_bytes()
    for part in (whole[: len(whole) // 2], whole[:3], b"", b"PK\x03\x04" + whole[4:-4] + b"junk"):
        path.write_bytes(part)
        _refused(tmp_path, RTE)
        with pytest.raises(InputError, match=r"rte/train\.parquet"):
            identity(_local(tmp_path / "data"), RTE)
    # Damage that leaves the footer alone.
    random = np.random.default_rng(0).integers(0, 256, len(whole) // 4, dtype=np.uint8).tobytes()
    path.write_bytes(whole[:4] + random + whole[4 + len(random) :])
    _refused(tmp_path, RTE)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"^nowhere\b.*data\.path"):
        identity(DataSource("local", "nowhere"), RTE)
    files = write_local(tmp_path / "data", RTE)
    with pytest.raises(InputError, match="glue/cola"):
        identity(_local(tmp_path / "data"), TASKS["cola"])
    (files / "validation.parquet").unlink()
    with pytest.raises(InputError, match=r"rte/validation\.parquet"):
        identity(_local(tmp_path / "data"), RTE)
    _refused(tmp_path, RTE, split="validation")
    write_local(tmp_path / "data", TASKS["mnli"], splits=("train", "validation_mismatched"))
    with pytest.raises(InputError, match=r"mnli/validation_matched\.parquet"):
        identity(_local(tmp_path / "data"), TASKS["mnli"])


def test_nothing_is_written_when_the_last_split_is_bad(tmp_path):
    _replaced(tmp_path, RTE, split="validation", label=[0, 1, 0, 1, 0, 7])
    _refused(tmp_path, RTE, "row 5", "7", split="validation")


FETCH = """
import re, sys, time
from pathlib import Path
from ept.data.fetch import fetch
from ept.data.source import DataSource
from ept.tasks.registry import TASKS
try:
    fetch(TASKS[sys.argv[1]], DataSource("local", "data"), Path("raw"))
except ValueError as error:
    print(error)
else:
    print("fetched")
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024
# Of the processor: others may use it too.
print(peak, time.process_time())
"""


def _noise(count):
    """Texts that can hardly be compressed."""
    letters = np.random.default_rng(0).integers(97, 123, (count, 999_999), np.uint8)
    return [row.tobytes().decode() for row in letters]


def _bomb(rows, *texts):
    """A small file of many rows: a few texts, each stored once."""
    codes = pa.array(np.arange(rows, dtype=np.int32) % len(texts))
    made = {name: pa.DictionaryArray.from_arrays(codes, texts) for name in ("sentence1", "sentence2")}
    return pa.table({**made, "label": np.arange(rows) % 2})


def _endless_lists(rows, length):
    offsets = pa.array(np.arange(rows + 1) * length, pa.int32())
    values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows * length, np.int8)), ["x"])
    texts = pa.array(["@placeholder"] * rows)
    answers = pa.array([["a"]] * rows)
    entities = pa.ListArray.from_arrays(offsets, values)
    return pa.table({"passage": texts, "query": texts, "entities": entities, "answers": answers})


@pytest.mark.parametrize(
    ("name", "make", "size", "facts"),
    [
        ("rte", lambda: _bomb(20_000_000, "some text " * 20), 2e6, ("20000000", str(MAX_ROWS))),
        ("rte", lambda: _bomb(60, "x" * 999_999), 2e6, ("fetched",)),
        ("rte", lambda: _bomb(400, "x" * 999_999), 2e5, (str(UNPACKED_BYTES),)),
        ("rte", lambda: _bomb(20_000, *_noise(10)), 2e7, (str(MAX_SPLIT_BYTES),)),
        ("rte", lambda: _bomb(20_000, "x" * 2_000_000), 2e6, ("'sentence1'", "row 0", "2000000")),
        ("record", lambda: _endless_lists(3, 30_000_000), 2e6, ("entities", "90000000")),
    ],
    ids=["many rows", "some texts", "long texts", "many long texts", "longer texts", "lists"],
)
def test_small_files_of_endless_content_take_bounded_memory_and_time(tmp_path, name, make, size, facts):
    task = TASKS[name]
    files = write_local(tmp_path / "data", task)
    pq.write_table(make(), files / "train.parquet", compression="zstd", row_group_size=100_000_000, store_schema=False)
    assert (files / "train.parquet").stat().st_size < size
    done = subprocess.run([sys.executable, "-c", FETCH, name], cwd=tmp_path, capture_output=True, text=True, check=True)
    sentence, measured = done.stdout.splitlines()
    megabytes, seconds = map(float, measured.split())
    assert all(fact in sentence for fact in facts)
    assert megabytes < 1000
    assert seconds < 10


def test_a_sound_folder_is_left_alone_and_a_damaged_one_replaced(tmp_path):
    write_local(tmp_path / "data", RTE)
    raw = tmp_path / "raw"
    fetch(RTE, _local(tmp_path / "data"), raw)
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in raw.iterdir()}
    fetch(RTE, _local(tmp_path / "data"), raw)
    assert {path.name: (path.stat().st_ino, path.read_bytes()) for path in raw.iterdir()} == before
    for name in (MANIFEST, "train.parquet"):
        (raw / name).unlink()
        fetch(RTE, _local(tmp_path / "data"), raw)
        assert {path.name: path.read_bytes() for path in raw.iterdir()} == {k: v for k, (_, v) in before.items()}


def test_a_raw_folder_without_a_split_or_manifest_is_refused(tmp_path):
    files = write_local(tmp_path / "data", RTE)
    with pytest.raises(InputError, match=MANIFEST):
        read_raw(RTE, files)
    fetch(RTE, _local(tmp_path / "data"), tmp_path / "raw")
    with pytest.raises(InputError, match=MANIFEST):
        read_raw(TASKS["mrpc"], tmp_path / "raw")
    (tmp_path / "raw/train.parquet").unlink()
    with pytest.raises(InputError, match=r"raw/train\.parquet"):
        read_raw(RTE, tmp_path / "raw")


KILLED = """
import os, signal, sys
from pathlib import Path
from ept.data import fetch as module
from ept.data.source import DataSource
from ept.tasks.registry import TASKS

written, write = [], module._write
def strike(*arguments):
    rows = write(*arguments)
    written.append(rows)
    if len(written) == int(sys.argv[1]):
        os.kill(os.getpid(), int(sys.argv[2]))
    return rows
module._write = strike
module.fetch(TASKS["mnli"], DataSource("local", "data"), Path("raw/mnli"))
"""


@pytest.mark.parametrize("strike", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("files", [1, 2, 3])
def test_a_strike_leaves_no_part_of_a_folder(tmp_path, strike, files):
    task = TASKS["mnli"]
    write_local(tmp_path / "data", task)
    command = [sys.executable, "-c", KILLED, str(files), str(int(strike))]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0
    assert not (tmp_path / "raw/mnli").exists()
    if strike == signal.SIGINT:
        assert not (tmp_path / "raw").exists()
    fetch(task, _local(tmp_path / "data"), tmp_path / "raw/mnli")
    assert set(read_raw(task, tmp_path / "raw/mnli")) == set(task.splits)
    # What a killed process leaves goes with the next fetch.
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["mnli"]


def test_classes_that_are_digits_may_be_numbers(tmp_path):
    task = TASKS["winogrande"]
    files = write_local(tmp_path / "data", task)
    whole = table(task)
    place = whole.column_names.index("answer")
    pq.write_table(whole.set_column(place, "answer", pa.array([2, 1] * 3)), files / "train.parquet")
    fetch(task, _local(tmp_path / "data"), tmp_path / "raw")
    assert read_raw(task, tmp_path / "raw")["train"].column("label").to_pylist() == [1, 0] * 3
