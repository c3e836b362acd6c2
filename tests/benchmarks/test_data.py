"""Synthetic texts have the lengths of real ones, and the committed table is that of the real data."""

import json

import numpy as np
import pytest

from benchmarks.data import LENGTHS, SOURCE_LENGTH, draw_synthetic, length_table, load_tasks

TABLE = json.loads(LENGTHS.read_text())


@pytest.mark.parametrize("name", TABLE)
def test_synthetic_lengths_follow_the_table(name, tmp_path):
    task = draw_synthetic(name, tmp_path)
    for split in ("train", "validation"):
        quantiles = np.array(TABLE[name]["lengths"][split])
        expected = (quantiles[:-1] + quantiles[1:]).mean() / 2
        lengths = getattr(task, split).lengths
        assert lengths.mean() == pytest.approx(expected, rel=0.1)
        assert quantiles[0] <= lengths.min() and lengths.max() <= min(quantiles[-1], SOURCE_LENGTH)
    batch = task.train.collate(np.arange(50))
    targets = {tuple(piece for piece in row if piece != -100) for row in batch.target_ids.tolist()}
    assert targets == set(map(tuple, task.label_ids))
    assert all(ids[mask.bool()][-1] == 1 for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True))


def test_without_real_data_it_is_synthetic(monkeypatch, tmp_path):
    monkeypatch.delenv("EPT_TEST_DATA", raising=False)
    kind, (task,) = load_tasks(("rte",), tmp_path)
    assert (kind, task.name) == ("synthetic", "rte")


def test_the_table_is_that_of_the_real_data(real_data, monkeypatch, tmp_path):
    monkeypatch.setenv("EPT_TEST_DATA", str(real_data))
    kind, (task,) = load_tasks(("rte",), tmp_path)
    assert kind == "real"
    assert length_table(task) == TABLE["rte"]
