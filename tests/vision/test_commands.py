"""From pictures in local files to predictions, by the commands of the workflow."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ept.cli import main
from ept.demo.shapes import png
from ept.vision.features import VisualFeatures
from training.small_project import STEPS, make_project, train_all

pytest.importorskip("PIL")
VALUES = {
    "tasks": {"target": ["shapes_vqa"], "source": []},
    "methods": ["pt"],
    "vision": {"projection": "trained"},
    "training": {**STEPS, "learning_rates": {"pt": {"prompt": [0.1]}}},
    "few_shot": {"k": []},
}
ENCODE = ["visual-features", "--config", "config.yaml", "--task", "shapes_vqa"]


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_project(VALUES)


def test_pictures_are_encoded_trained_on_and_predicted(experiment):
    assert main(ENCODE) == 0
    (pack,) = experiment.packs
    for split in ("train", "validation", "test"):
        found = VisualFeatures.open(experiment.visual_folder("shapes_vqa") / split)
        assert (len(found), found.patches, found.width) == (12, 36, 96)
    train_all([pack])
    predictions = pq.read_table(pack.folder / "predictions.parquet")
    assert predictions.num_rows == 12 * len(pack.seeds)
    assert pack.settings["vision"]["projection"] == "trained"


def test_a_damaged_picture_ends_with_status_2_one_sentence_and_no_features(experiment, capsys):
    rows = [{"image": {"bytes": png(np.zeros((2, 2, 3), np.uint8)), "path": None}, "question": "a", "label": 0}] * 2
    rows.append({"image": {"bytes": b"\xff\xd8 cut off", "path": None}, "question": "b", "label": 1})
    for split in ("train", "validation", "test"):
        pq.write_table(pa.Table.from_pylist(rows), f"published/shapes/vqa/{split}.parquet")
    assert main(["fetch", "--config", "config.yaml", "--task", "shapes_vqa"]) == 0
    capsys.readouterr()
    assert main(ENCODE) == 2
    told = capsys.readouterr().err.strip()
    assert "row 2" in told and "\n" not in told
    assert not list(Path("data").glob("visual/*/*"))


def test_a_task_without_pictures_has_no_features(experiment, capsys):
    assert main([*ENCODE[:-1], "rte"]) == 2
    assert "rte" in capsys.readouterr().err
