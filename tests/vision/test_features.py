"""Features of images on disk: one for each image, found again by row, whole or not at all."""

import numpy as np
import pytest
import torch

from ept.data.fetch import fetch
from ept.data.source import DataSource
from ept.demo.shapes import png
from ept.errors import InputError
from ept.files import digest, write_json
from ept.tasks.registry import TASKS
from ept.vision import features
from ept.vision.features import RowFeatures, VisualFeatures, write_features

pytest.importorskip("PIL")
pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")


class MeanColor:
    """An encoder of one patch: the mean of red, green and blue."""

    patches, width = 1, 3

    def __init__(self):
        self.seen = 0

    def encode(self, images):
        self.seen += len(images)
        return torch.stack([torch.tensor(np.asarray(image)).float().mean((0, 1)) for image in images])[:, None]


def picture(value):
    return png(np.full((2, 3, 3), value, np.uint8))


@pytest.fixture
def raw(tmp_path):
    """A function that fetches rows with these images of the task shapes_vqa, and returns the folder."""

    def write(images):
        folder = tmp_path / "data/shapes/vqa"
        folder.mkdir(parents=True, exist_ok=True)
        rows = [{"image": image, "question": f"{number}?", "label": 1} for number, image in enumerate(images)]
        for split in ("train", "validation", "test"):
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
        fetch(TASKS["shapes_vqa"], DataSource("local", str(tmp_path / "data")), tmp_path / "raw")
        return tmp_path / "raw"

    return write


def stored(value):
    return {"bytes": picture(value), "path": None}


def test_rows_that_share_an_image_share_its_features(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "AT_ONCE", 2)
    values, encoder = [9, 3, 9, 7, 3, 9, 1], MeanColor()
    write_features(TASKS["shapes_vqa"], raw(map(stored, values)), ["train", "test"], tmp_path / "out", encoder)
    assert encoder.seen == 2 * len(set(values))
    found = VisualFeatures.open(tmp_path / "out/train")
    assert (len(found), found.patches, found.width) == (7, 1, 3)
    assert np.load(tmp_path / "out/train" / features.FEATURES).shape == (4, 1, 3)
    order = np.array([6, 0, 3, 3, 1])
    rows = found.rows(order)
    assert rows.dtype == torch.float32
    assert rows[:, 0, 1].tolist() == [values[row] for row in order]
    # A tokenized split has some of the rows, in an order of its own.
    split = RowFeatures(tmp_path / "out", ["train:6", "train:1", "train:2"])
    assert split.rows(np.array([2, 0]))[:, 0, 0].tolist() == [values[2], values[6]] and split.patches == 1


def test_a_picture_in_a_file_next_to_the_split_is_read(raw, tmp_path):
    (tmp_path / "data/shapes/vqa").mkdir(parents=True)
    (tmp_path / "data/shapes/vqa/a.png").write_bytes(picture(5))
    folder = raw([{"bytes": None, "path": "a.png"}])
    write_features(TASKS["shapes_vqa"], folder, ["train"], tmp_path / "out", MeanColor())
    assert VisualFeatures.open(tmp_path / "out/train").rows(np.array([0])).unique().tolist() == [5.0]


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ({"bytes": b"broken", "path": None}, "row 1"),
        ({"bytes": picture(4)[:40], "path": None}, "row 1"),
    ],
)
def test_an_image_that_cannot_be_decoded_is_named_and_leaves_nothing(raw, tmp_path, image, told):
    with pytest.raises(InputError, match=told):
        write_features(TASKS["shapes_vqa"], raw([stored(1), image]), ["train"], tmp_path / "out", MeanColor())
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize(
    "image", [None, {"bytes": None, "path": None}, {"bytes": b"", "path": None}, {"bytes": None, "path": "gone.png"}]
)
def test_a_missing_picture_is_refused_when_it_is_fetched(raw, tmp_path, image):
    with pytest.raises(InputError, match="row 1"):
        raw([stored(1), image])
    assert not (tmp_path / "raw").exists()


def test_a_column_that_holds_no_pictures_is_refused(raw):
    with pytest.raises(InputError, match="'image'"):
        raw(["a.png"])


def test_features_that_are_not_finite_are_refused(raw, tmp_path):
    class Broken(MeanColor):
        def encode(self, images):
            return super().encode(images) / 0

    with pytest.raises(InputError, match="finite"):
        write_features(TASKS["shapes_vqa"], raw([stored(1)]), ["train"], tmp_path / "out", Broken())


def test_damaged_and_missing_features_are_refused(raw, tmp_path):
    folder = tmp_path / "out/train"
    write_features(TASKS["shapes_vqa"], raw(map(stored, [1, 2])), ["train"], tmp_path / "out", MeanColor())
    whole = (folder / features.FEATURES).read_bytes()
    for content in (whole[:-1], whole[:-1] + b"x"):
        (folder / features.FEATURES).write_bytes(content)
        with pytest.raises(InputError, match=features.FEATURES):
            VisualFeatures.open(folder)
    (folder / features.FEATURES).write_bytes(whole)
    assert len(VisualFeatures.open(folder)) == 2
    write_json(folder / features.MANIFEST, {"sha256": {}, "digest": digest([])})
    with pytest.raises(InputError, match=features.MANIFEST):
        VisualFeatures.open(folder)
    (folder / features.MANIFEST).unlink()
    with pytest.raises(InputError, match=features.MANIFEST):
        VisualFeatures.open(folder)
