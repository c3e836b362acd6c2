"""The sheet of pictures: each picture with its own question and every method's answer to it."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.colors import to_hex

from ept.demo.shapes import png
from ept.figures.pictures import APART, RIGHT, SHOWN, WRONG, draw
from ept.figures.style import figure_style
from ept.tasks.registry import TASKS

pytest.importorskip("PIL")
TASK = TASKS["shapes_vqa"]
ROWS = SHOWN * APART


def predictions(folder, answers):
    """predictions.parquet of a pack with two seeds: the first gives `answers`, the second never any label."""
    folder.mkdir()
    ids = [f"test:{number}" for number in range(ROWS)]
    columns = {
        "seed": [4] * ROWS + [5] * ROWS,
        "id": ids * 2,
        "group": [""] * 2 * ROWS,
        "label": [float(number % 3) for number in range(ROWS)] * 2,
        "prediction": [*answers, *([-1.0] * ROWS)],
        "text": [""] * 2 * ROWS,
        "answers": pa.array([[]] * 2 * ROWS, pa.list_(pa.string())),
    }
    pq.write_table(pa.table(columns), folder / "predictions.parquet")
    return folder


@pytest.fixture
def results(tmp_path):
    right = [float(number % 3) for number in range(ROWS)]
    packs = [
        SimpleNamespace(method="pt", task="shapes_vqa", record=TASK, folder=predictions(tmp_path / "pt", right)),
        SimpleNamespace(
            method="ept",
            task="shapes_vqa",
            record=TASK,
            folder=predictions(tmp_path / "ept", [-1.0] + [5.0] * (ROWS - 1)),
        ),
        SimpleNamespace(method="pt", task="rte", record=TASKS["rte"], folder=tmp_path / "none"),
    ]
    pictures = [png(np.full((2, 2, 3), number, np.uint8)) for number in range(ROWS)]
    pq.write_table(
        pa.table({"image": pictures, "question": [f"was it {number}?" for number in range(ROWS)]}),
        tmp_path / "test.parquet",
    )
    return SimpleNamespace(
        full_data=[SimpleNamespace(pack=pack) for pack in packs],
        experiment=SimpleNamespace(raw_folder=lambda task: tmp_path),
    )


def test_each_picture_has_its_question_the_right_answer_and_the_answers_of_the_first_seed(results):
    with figure_style():
        figure = draw(results)
        figure.draw_without_rendering()
    assert len(figure.axes) == SHOWN
    for number, place in zip(range(0, ROWS, APART), figure.axes, strict=True):
        assert np.unique(place.images[0].get_array()).tolist() == [number]
        texts = [text.get_text() for text in place.texts]
        label = TASK.labels[number % 3]
        wrong = "no label" if number == 0 else TASK.labels[5]
        assert " ".join(texts) == f"question: was it {number}? right: {label} PT: {label} EPT: {wrong}"
        assert [to_hex(text.get_color()).upper() for text in place.texts[-2:]] == [RIGHT, WRONG]
        heights = [text.xyann[1] for text in place.texts]
        assert heights == sorted(heights, reverse=True) and len(set(heights)) == len(heights)
