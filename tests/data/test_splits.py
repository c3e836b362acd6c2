"""Split rules against the published halves."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from data.task_rows import REAL, table
from ept.data.prepare import Rows, sampled, split
from ept.data.source import locate
from ept.demo.generator import generate
from ept.errors import InputError
from ept.tasks.registry import TASKS

# Sizes of validation and test in the protocol.
HALVES = {
    "cola": (521, 522),
    "mrpc": (204, 204),
    "rte": (138, 139),
    "stsb": (750, 750),
    "boolq": (1635, 1635),
    "cb": (28, 28),
    "wic": (319, 319),
    "wsc": (52, 52),
}


def _real(real_data, name):
    """The published splits, and the parts as tables with the rule's name."""
    published = {part: pq.read_table(files) for part, files in locate(TASKS[name], str(real_data)).items()}
    return published, *_split(name, published)


def _split(name, published):
    batches = {part: table.combine_chunks().to_batches()[0] for part, table in published.items()}
    parts, rule = split(TASKS[name], batches)
    return {part: published[rows.split].take(rows.numbers) for part, rows in parts.items()}, rule


@pytest.mark.parametrize("name", HALVES)
def test_halves_have_the_published_sizes(real_data, name):
    published, parts, rule = _real(real_data, name)
    assert rule == "halve"
    assert (parts["validation"].num_rows, parts["test"].num_rows) == HALVES[name]
    assert parts["train"].equals(published["train"])


def test_wsc_test_half_has_the_published_majority(real_data):
    labels = _real(real_data, "wsc")[1]["test"].column("label").to_numpy()
    assert 100 * np.bincount(labels).max() / len(labels) == pytest.approx(67.3, abs=0.05)


def test_multirc_halves_share_no_paragraph_and_are_nearly_equal(real_data):
    published, parts, _ = _real(real_data, "multirc")
    paragraphs = [set(parts[part].column("paragraph").to_pylist()) for part in ("validation", "test")]
    assert not paragraphs[0] & paragraphs[1]
    assert paragraphs[0] | paragraphs[1] == set(published["validation"].column("paragraph").to_pylist())
    assert parts["validation"].num_rows + parts["test"].num_rows == 4848
    assert parts["validation"].num_rows == pytest.approx(2424, abs=30)


def test_carving_and_the_fall_back_of_mnli(real_data):
    for name, rows in (("sst2", (19000, 1000, 872)), ("mnli", (11925, 1000, 7469))):
        _, parts, rule = _real(real_data, name)
        assert rule == "carve"
        assert tuple(part.num_rows for part in parts.values()) == rows


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.passage])
def test_carved_rows_share_no_passage_with_training(real_data, name):
    if name in REAL:
        published, parts, rule = _real(real_data, name)
    else:
        published = {part: generate(name, part) for part in TASKS[name].splits}
        parts, rule = _split(name, published)
    column, whole = TASKS[name].passage, published["train"].num_rows
    passages = {part: set(parts[part].column(column).to_pylist()) for part in ("train", "validation")}
    assert rule == "carve"
    assert not passages["train"] & passages["validation"]
    assert parts["train"].num_rows + parts["validation"].num_rows == whole
    largest = max(Counter(published["train"].column(column).to_pylist()).values())
    assert abs(parts["validation"].num_rows - min(1000, whole // 4)) <= largest / 2
    assert parts["test"].equals(published["validation"])


def test_passages_that_differ_are_carved_like_rows():
    """The published rule is a special case: with a passage a row, rows are permuted."""
    passages = pa.table({"context": [f"passage {row}" for row in range(40)]})
    parts, _ = _split("squad", {"train": passages, "validation": passages})
    order = torch.randperm(40, generator=torch.Generator().manual_seed(42)).tolist()
    found = [parts[part].column("context").to_pylist() for part in ("validation", "train")]
    assert found == [[f"passage {row}" for row in rows] for rows in (order[:10], order[10:])]


def _numbered(rows):
    return pa.table({"idx": pa.array(range(rows), pa.int32())})


def test_halves_are_those_of_the_one_call_that_gives_the_published_ones():
    parts, _ = _split("rte", {"train": _numbered(3), "validation": _numbered(11)})
    order = torch.randperm(11, generator=torch.Generator().manual_seed(42)).tolist()
    assert parts["validation"].column("idx").to_pylist() == order[:5]
    assert parts["test"].column("idx").to_pylist() == order[5:]


def test_carved_rows_are_a_thousand_or_a_quarter():
    for rows, carved in ((9000, 1000), (4000, 1000), (3999, 999), (8, 2)):
        parts, _ = _split("qqp", {"train": _numbered(rows), "validation": _numbered(5)})
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(42)).tolist()
        assert parts["validation"].column("idx").to_pylist() == order[:carved]
        assert parts["train"].column("idx").to_pylist() == order[carved:]
        assert parts["test"].num_rows == 5


def test_mnli_is_selected_on_mismatched_and_tested_on_matched():
    published = {
        "train": _numbered(9),
        "validation_matched": _numbered(4),
        "validation_mismatched": _numbered(5),
    }
    parts, rule = _split("mnli", published)
    assert rule == "mismatched"
    assert [part.num_rows for part in parts.values()] == [9, 5, 4]


def test_paws_is_split_as_it_is_published():
    published = {split: _numbered(rows) for split, rows in (("train", 9), ("validation", 4), ("test", 5))}
    parts, rule = _split("paws", published)
    assert rule == "published"
    assert all(parts[split].equals(rows) for split, rows in published.items())


def test_reviews_are_a_hundred_thousand_of_those_that_validation_leaves():
    published = {"train": _numbered(250_000), "test": _numbered(7)}
    parts, rule = _split("yelp", published)
    order = torch.randperm(250_000, generator=torch.Generator().manual_seed(42)).tolist()
    assert rule == "carve"
    assert parts["validation"].column("idx").to_pylist() == order[:1000]
    assert parts["train"].column("idx").to_pylist() == order[1000:101_000]
    assert parts["test"].num_rows == 7


def test_splits_too_small_to_cut_are_refused():
    for name, rows in (("rte", _numbered(1)), ("sst2", _numbered(3)), ("multirc", table(TASKS["multirc"], 3))):
        with pytest.raises(InputError, match=rf"^{name}\b.*\bvalidation\b"):
            _split(name, {"train": rows, "validation": rows})


def test_a_sample_of_the_test_rows_is_a_part_of_them_in_their_order(real_data):
    _, parts, _ = _real(real_data, "rte")
    rows = Rows("validation", np.sort(np.random.default_rng(0).permutation(277)[:139]))
    published = {"validation": pa.RecordBatch.from_pydict({"label": range(277)})}
    found = sampled(TASKS["rte"], published, rows, 50)
    assert len(parts["test"]) == len(rows) and len(found) == 50
    assert set(found.numbers) < set(rows.numbers) and (np.diff(found.numbers) > 0).all()
    # Not the first ones, the same each time, and all where there are not more.
    assert not np.array_equal(found.numbers, rows.numbers[:50])
    assert np.array_equal(sampled(TASKS["rte"], published, rows, 50).numbers, found.numbers)
    assert sampled(TASKS["rte"], published, rows, 139) is rows


def test_a_sample_keeps_paragraphs_whole(real_data):
    published = pq.read_table(locate(TASKS["multirc"], str(real_data))["validation"])
    (batch,) = published.combine_chunks().to_batches()
    whole = split(TASKS["multirc"], {"train": batch, "validation": batch})[0]["test"]
    found = sampled(TASKS["multirc"], {"validation": batch}, whole, 300)
    paragraphs = np.array([row["paragraph"] for row in batch.column("idx").to_pylist()])
    test, kept = paragraphs[whole.numbers], paragraphs[found.numbers]
    assert Counter(kept) == {name: count for name, count in Counter(test).items() if name in set(kept)}
    assert abs(len(found) - 300) <= max(Counter(test).values()) / 2
    # One paragraph cannot be divided.
    one = Rows("validation", np.flatnonzero(paragraphs == kept[0]))
    assert len(sampled(TASKS["multirc"], {"validation": batch}, one, 1)) == len(one)
