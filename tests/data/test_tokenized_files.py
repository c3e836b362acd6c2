"""Tokenized files: what is written comes back, mapped into memory, and is known by its fingerprint."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from data.task_rows import REAL, fetched_row, table, write_local, write_tokenizer
from ept.data.check import MAX_TEXT_BYTES
from ept.data.dataset import TokenizedSplit
from ept.data.fetch import fetch, read_raw
from ept.data.prepare import SCHEMA, Rows, fingerprint, tokenize_table, tokenize_task, write_tokens
from ept.data.source import DataSource, identity, locate
from ept.data.tokenizer import load_pieces
from ept.errors import InputError
from ept.tasks.registry import TASKS

PARTS = ("train", "validation", "test")


def _words(task):
    """All words that the task's rows and labels are written with."""
    example = task.example(fetched_row(task))
    return " ".join([example.source, *task.labels, *example.answers])


def _tokenize(tmp_path, name, source_length=64, rows=12):
    """A task of the tests' rows all the way to {part: TokenizedSplit}."""
    task = TASKS[name]
    write_local(tmp_path / "data", task, rows)
    source = DataSource("local", str(tmp_path / "data"))
    fetch(task, source, tmp_path / "raw")
    folder = write_tokenizer(tmp_path / "tokenizer", _words(task))
    tokenize_task(task, tmp_path / "raw", folder, source_length, tmp_path / "out", identity(source, task))
    return {part: TokenizedSplit(tmp_path / f"out/{part}.arrow") for part in PARTS}


@pytest.mark.parametrize("name", TASKS)
def test_every_row_comes_back(tmp_path, name):
    task, parts = TASKS[name], _tokenize(tmp_path, name)
    pieces = load_pieces(tmp_path / "tokenizer")
    raw = {
        f"{name}:{number}": row
        for name, part in read_raw(task, tmp_path / "raw").items()
        for number, row in enumerate(part.to_pylist())
    }
    assert len({row for part in parts.values() for row in part.ids}) == sum(map(len, parts.values()))
    for split in parts.values():
        for number, row in enumerate(split.ids):
            example = task.example(raw[row])
            batch = split.collate(np.array([number]))
            assert batch.input_ids[0].tolist() == pieces.tokenizer.encode(example.source).ids
            assert batch.target_ids[0].tolist() == pieces.tokenizer.encode(example.target).ids
            assert batch.attention_mask.bool().all()
            assert split.lengths[number] == batch.input_ids.shape[1]
            assert split.answers(number) == list(example.answers)
            assert split.groups[number] == example.group
            assert np.array_equal(split.labels[number], example.label, equal_nan=True)


def test_metadata_say_where_the_rows_are_from(tmp_path):
    parts = _tokenize(tmp_path, "sst2")
    assert {part: len(split) for part, split in parts.items()} == {"train": 9, "validation": 3, "test": 12}
    source = identity(DataSource("local", str(tmp_path / "data")), TASKS["sst2"])
    for part, split in parts.items():
        assert split.metadata == {
            "task": "sst2",
            "split": part,
            "split_rule": "carve",
            "source": source,
            "source_length": 64,
            "rows_published_train": 12,
            "truncated": 0,
            "pad_id": 0,
            "fingerprint": split.fingerprint,
            "sha256": _digest(tmp_path / f"out/{part}.arrow"),
        }
    assert len({split.fingerprint for split in parts.values()}) == 3


def test_a_sampled_test_split_says_of_how_many(tmp_path):
    whole = _tokenize(tmp_path, "sst2")
    tokens = (tmp_path / "tokenizer", 64, tmp_path / "few", "x", 5)
    tokenize_task(TASKS["sst2"], tmp_path / "raw", *tokens)
    few = {part: TokenizedSplit(tmp_path / f"few/{part}.arrow") for part in PARTS}
    assert {part: few[part].metadata.get("sampled_from") for part in PARTS} == {
        "train": None,
        "validation": None,
        "test": 12,
    }
    assert [len(few[part]) for part in PARTS] == [9, 3, 5]
    assert set(few["test"].ids) < set(whole["test"].ids)
    assert [few[part].fingerprint for part in PARTS[:2]] == [whole[part].fingerprint for part in PARTS[:2]]


def _digest(path):
    """As the file was before its digest was put into it."""
    return hashlib.sha256(re.sub(rb'(?<="sha256":")[0-9a-f]{64}', b"0" * 64, path.read_bytes())).hexdigest()


def test_long_sources_are_cut_before_their_end_piece(tmp_path):
    whole = _tokenize(tmp_path / "whole", "boolq")["train"]
    cut = _tokenize(tmp_path / "cut", "boolq", source_length=5)["train"]
    assert cut.metadata["truncated"] == 12
    assert cut.lengths.tolist() == [5] * 12
    ids = cut.collate(np.arange(12)).input_ids
    assert (ids[:, -1] == 1).all()
    assert (ids[:, :4] == whole.collate(np.arange(12)).input_ids[:, :4]).all()
    exact = _tokenize(tmp_path / "exact", "boolq", source_length=int(whole.lengths[0]))["train"]
    assert exact.metadata["truncated"] == 0
    assert exact.fingerprint == whole.fingerprint


def test_the_same_data_give_the_same_file(tmp_path):
    _tokenize(tmp_path / "a", "stsb")
    _tokenize(tmp_path / "b", "stsb")
    for part in PARTS:
        assert (tmp_path / f"a/out/{part}.arrow").read_bytes() == (tmp_path / f"b/out/{part}.arrow").read_bytes()


def test_a_contradiction_in_the_data_names_task_split_and_row(tmp_path):
    wsc = TASKS["wsc"]
    files = write_local(tmp_path / "data", wsc)
    bad = table(wsc).drop_columns("span1_text").append_column("span1_text", pa.array(["Ann"] * 4 + ["Zoe"] * 2))
    pq.write_table(bad, files / "train.parquet")
    fetch(wsc, DataSource("local", str(tmp_path / "data")), tmp_path / "raw")
    tokenizer = write_tokenizer(tmp_path / "tokenizer", "a")
    with pytest.raises(InputError, match="wsc.*train.*row 4.*'Zoe'"):
        tokenize_task(wsc, tmp_path / "raw", tokenizer, 64, tmp_path / "out", "local-0")
    assert not (tmp_path / "out").exists()


def _batch(rows):
    """A record batch of (input_ids, target_ids)."""
    columns = {
        "id": [f"train:{number}" for number in range(len(rows))],
        "group": [""] * len(rows),
        "input_ids": [ids for ids, _ in rows],
        "target_ids": [ids for _, ids in rows],
        "label": np.zeros(len(rows)),
        "answers": [["a", "b"]] * len(rows),
    }
    return pa.RecordBatch.from_pydict(columns, schema=SCHEMA)


_ids = st.lists(st.integers(2, 30000), max_size=12).map(lambda ids: [*ids, 1])
_rows = st.lists(st.tuples(_ids, _ids), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(rows=_rows, data=st.data())
def test_collate_pads_any_rows_on_the_right(tmp_path_factory, rows, data):
    path = tmp_path_factory.mktemp("tokens") / "train.arrow"
    write_tokens(path, _batch(rows), {"pad_id": 7})
    split = TokenizedSplit(path)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=12)))
    longest, longest_target = (max(len(rows[row][part]) for row in chosen) for part in (0, 1))
    length = data.draw(st.one_of(st.none(), st.integers(longest, longest + 5)))
    batch = split.collate(chosen, length)
    width = length or longest
    for number, row in enumerate(chosen):
        ids, target = rows[row]
        assert batch.input_ids[number].tolist() == ids + [7] * (width - len(ids))
        assert batch.attention_mask[number].tolist() == [1] * len(ids) + [0] * (width - len(ids))
        assert batch.target_ids[number].tolist() == target + [-100] * (longest_target - len(target))
    half = batch.slice(0, 1).to("cpu")
    assert half.input_ids.tolist() == batch.input_ids[:1].tolist()
    with pytest.raises(ValueError, match=rf"\b{longest}\b.*\b{longest - 1}\b"):
        split.collate(chosen, longest - 1)


def test_the_fingerprint_is_of_every_piece_and_of_where_rows_end():
    rows = [([5, 6, 1], [3, 1]), ([7, 1], [4, 1])]
    first = fingerprint(_batch(rows))
    assert first == fingerprint(_batch(rows))
    others = [
        [([5, 9, 1], [3, 1]), ([7, 1], [4, 1])],
        [([5, 6, 1], [3, 1]), ([7, 1], [8, 1])],
        [([5, 6], [3, 1]), ([1, 7, 1], [4, 1])],
        [([7, 1], [4, 1]), ([5, 6, 1], [3, 1])],
        rows[:1],
    ]
    assert len({first, *(fingerprint(_batch(other)) for other in others)}) == 6


def test_the_fingerprint_is_of_every_column_and_not_of_the_layout():
    batch = _batch([([5, 6, 1], [3, 1]), ([7, 1], [4, 1]), ([8, 1], [4, 1])])
    changes = {
        "id": ["a", "b", "c"],
        "group": ["1", "", ""],
        "label": [0.0, 1.0, 0.0],
        "answers": [["a"], ["b"], []],
    }
    found = {fingerprint(batch)}
    for name, values in changes.items():
        index = batch.schema.get_field_index(name)
        found.add(fingerprint(batch.set_column(index, SCHEMA.field(name), pa.array(values, SCHEMA.field(name).type))))
    assert len(found) == 5
    # A slice of a larger batch has other buffers and the same content.
    assert fingerprint(batch.slice(1)) == fingerprint(pa.RecordBatch.from_pylist(batch.to_pylist()[1:], SCHEMA))


def test_numbers_are_views_of_the_mapped_file(tmp_path):
    path = tmp_path / "train.arrow"
    write_tokens(path, _batch([([5, 6, 1], [3, 1])] * 200_000), {"pad_id": 0})
    before = pa.total_allocated_bytes()
    split = TokenizedSplit(path)
    assert pa.total_allocated_bytes() - before < 100_000
    assert not split.labels.flags.owndata and not split.labels.flags.writeable
    if (maps := Path("/proc/self/maps")).exists():
        assert str(path) in maps.read_text()
    assert split.collate(np.array([199_999])).input_ids.tolist() == [[5, 6, 1]]


def test_missing_incomplete_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "train.arrow"
    with pytest.raises(InputError, match="train.arrow"):
        TokenizedSplit(path)
    write_tokens(path, _batch([([5, 1], [3, 1])] * 100), {"pad_id": 0})
    whole = path.read_bytes()
    for part in (whole[:200], whole[:-10], b""):
        path.write_bytes(part)
        with pytest.raises(InputError, match="train.arrow"):
            TokenizedSplit(path)
    with pa.ipc.new_file(str(path), SCHEMA) as writer:
        writer.write_batch(_batch([([5, 1], [3, 1])]))
    with pytest.raises(InputError, match="train.arrow"):
        TokenizedSplit(path)


def test_many_rows_are_one_record_batch(tmp_path):
    """More rows than are Python objects at one time."""
    task = TASKS["cola"]
    order = np.random.default_rng(0).permutation(4500)
    pieces = load_pieces(write_tokenizer(tmp_path, _words(task)))
    batch, counts = tokenize_table(task, table(task, 4500), Rows("train", order), pieces, 3)
    batch.validate(full=True)
    assert (batch.num_rows, counts) == (4500, {"truncated": 4500})
    assert batch.column("id").to_pylist() == [f"train:{row}" for row in order]
    assert batch.column("label").to_pylist() == [float(row % 2) for row in order]
    assert {tuple(ids) for ids in batch.column("input_ids").to_pylist()} == {
        tuple(batch.column("input_ids")[0].as_py())
    }


TOKENIZE = """
import re, time
from pathlib import Path
from ept.data.prepare import tokenize_task
from ept.tasks.registry import TASKS
tokenize_task(TASKS["rte"], Path("raw"), "demo", 256, Path("out"), "x")
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024
print(peak, time.process_time())
"""


@pytest.mark.parametrize("text", ["some words ", "x", " ", "\u6f22"], ids=["words", "one word", "blanks", "unknown"])
def test_texts_of_a_megabyte_take_bounded_memory_and_time(project, tmp_path, text):
    long = text * (MAX_TEXT_BYTES // len(text.encode()) - 2) + "."
    rows = {"sentence1": [long] * 60, "sentence2": [long] * 60, "label": [0, 1] * 30}
    pq.write_table(pa.table(rows), write_local(tmp_path / "data", TASKS["rte"]) / "train.parquet")
    fetch(TASKS["rte"], DataSource("local", str(tmp_path / "data")), tmp_path / "raw")
    (tmp_path / "demo").symlink_to(project / "src/ept/demo/backbone")
    command = [sys.executable, "-c", TOKENIZE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    megabytes, seconds = map(float, done.stdout.split())
    assert TokenizedSplit(tmp_path / "out/train.arrow").metadata["truncated"] == 60
    assert megabytes < 1000
    assert seconds < 20


@pytest.mark.parametrize(("name", "mean"), [("wsc", 37), ("rte", 82), ("wic", 30)])
def test_real_rows_have_the_lengths_that_the_protocol_names(real_data, tmp_path, name, mean):
    """In T5 pieces; of these three tasks the protocol's means are those of the training splits."""
    task, source = TASKS[name], DataSource("local", str(real_data))
    fetch(task, source, tmp_path / "raw")
    tokenizer = real_data.parent / "tokenizer/t5"
    tokenize_task(task, tmp_path / "raw", tokenizer, 256, tmp_path / "out", identity(source, task))
    assert TokenizedSplit(tmp_path / "out/train.arrow").lengths.mean() == pytest.approx(mean, abs=1)


# The protocol's longest source text in pieces, `</s>` included; 256 where nothing stands here.
LONGEST = {"multirc": 348, "squad": 512, "record": 512}


@pytest.mark.parametrize("name", REAL)
def test_real_rows_are_what_transformers_makes_of_them(real_data, tmp_path, name):
    task = TASKS[name]
    rows = pq.read_table(locate(task, str(real_data))["train"]).slice(0, 200)
    folder = real_data.parent / "tokenizer/t5"
    batch, counts = tokenize_table(
        task, rows, Rows("train", np.arange(rows.num_rows)), load_pieces(folder), task.source_length
    )
    theirs = AutoTokenizer.from_pretrained(folder)
    examples = [task.example(row) for row in rows.to_pylist()]
    whole = theirs([example.source for example in examples]).input_ids
    assert counts["truncated"] == sum(len(pieces) > task.source_length for pieces in whole)
    cut = theirs([example.source for example in examples], truncation=True, max_length=task.source_length).input_ids
    assert batch.column("input_ids").to_pylist() == cut
    assert batch.column("target_ids").to_pylist() == theirs([example.target for example in examples]).input_ids
    assert max(map(len, cut)) <= LONGEST.get(name, 256)


def _asked(rows):
    """A published split of hotpotqa with (context, answers) in its rows, as `ept fetch` keeps it."""
    columns = {
        "question": ["who"] * len(rows),
        "context": [row[0] for row in rows],
        "answers": [row[1] for row in rows],
    }
    return pa.table(columns).combine_chunks()


def test_answers_behind_the_cut_and_answers_that_are_nowhere_are_counted(tmp_path):
    task, pieces = TASKS["hotpotqa"], load_pieces(write_tokenizer(tmp_path, "question: who context: a b c d e f"))
    # The source is "question: who context: a b c d e f" and </s>: ten pieces, seven of the first six and the end.
    rows = [
        ("a b c d e f", ["c"]),
        ("a b c d e f", ["d"]),
        ("a b c d e f", ["f", "C D"]),
        ("a b c d e f", ["f", "a B"]),
        ("a b", ["b"]),
        *[("a", ["a"])] * 6,
        ("a b c d e f", ["no"]),
    ]
    table_ = _asked(rows)
    everything = Rows("train", np.arange(len(rows)))
    counts = tokenize_table(task, table_, everything, pieces, 7)[1]
    assert counts == {"truncated": 5, "answers_cut": 2, "answers_missing": 1}
    assert tokenize_table(task, table_, everything, pieces, 10)[1] == {
        "truncated": 0, "answers_cut": 0, "answers_missing": 1
    }  # fmt: skip


def test_answers_that_are_mostly_not_in_their_passages_are_refused(tmp_path):
    task, pieces = TASKS["nq"], load_pieces(write_tokenizer(tmp_path, "question: who context: a b c"))
    right, wrong = ("a b", ["b"]), ("a b", ["c", "b c"])
    kept = _asked([right] * 18 + [wrong] * 2)
    assert tokenize_table(task, kept, Rows("train", np.arange(20)), pieces, 64)[1]["answers_missing"] == 2
    refused = _asked([right] * 17 + [wrong] * 3)
    with pytest.raises(InputError) as caught:
        tokenize_table(task, refused, Rows("train", np.arange(20)), pieces, 64)
    assert all(fact in str(caught.value) for fact in ("nq", "train", "3 of 20", "row 17", "'context'"))


def test_the_blank_and_two_options_are_needed(tmp_path):
    task = TASKS["winogrande"]
    for changed in ({"sentence": "Ann"}, {"option1": "Eve"}):
        row = fetched_row(task) | changed
        with pytest.raises(InputError) as caught:
            task.example(row)
        assert next(iter(changed)) in str(caught.value) and "option1" in str(caught.value)
