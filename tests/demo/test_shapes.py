"""Drawn pictures: what a question asks is in the picture, as its pixels say."""

import io

import numpy as np
import pytest

from ept.demo.generator import generate, splits
from ept.demo.shapes import ANSWERS, COLORS, IMAGE_TASKS, captions, draw_question, draw_scene, paint, png
from ept.demo.world import World
from ept.tasks.registry import TASKS

Image = pytest.importorskip("PIL.Image")


def pixels(image):
    return np.asarray(Image.open(io.BytesIO(image["bytes"])).convert("RGB")).astype(int)


def colored(picture, color):
    """How many pixels are nearest to this color of all, and not to the gray background."""
    names = [*COLORS, "gray"]
    palette = np.array([*COLORS.values(), (222, 222, 222)])
    nearest = np.abs(picture[:, :, None] - palette).sum(-1).argmin(-1)
    return int((nearest == names.index(color)).sum())


@pytest.fixture(scope="module")
def questions():
    """The test split of shapes_vqa."""
    return generate("shapes_vqa", "test")


def test_splits_are_reproducible_and_share_no_picture(questions):
    assert questions.equals(generate("shapes_vqa", "test"))
    others = [generate("shapes_vqa", "validation"), generate("shapes_vqa", "test", 4)]
    parts = [{row["bytes"] for row in table.column("image").to_pylist()} for table in (questions, *others)]
    assert len(set().union(*parts)) == sum(map(len, parts)) == sum(table.num_rows for table in (questions, *others))


def test_answers_about_colors_agree_with_the_pixels(questions):
    checked = 0
    for row in questions.to_pylist():
        words, answer = row["question"].rstrip("?").split(), ANSWERS[row["label"]]
        picture = pixels(row["image"])
        if words[:2] == ["how", "was"]:
            assert colored(picture, answer) > 20
        elif words[:2] in (["how", "many"], ["what", "was"]):
            assert colored(picture, words[-1]) > 20
        else:
            continue
        checked += 1
    assert checked > 200


def test_answers_are_balanced(questions):
    counts = np.bincount(questions.column("label").to_numpy(), minlength=len(ANSWERS))
    assert TASKS["shapes_vqa"].labels == ANSWERS
    assert counts.min() > 0.03 * counts.sum() and counts.max() < 0.18 * counts.sum()


def test_questions_about_places_are_answered_by_the_centers():
    world, checked = World("validation", (5,)), 0
    for _ in range(400):
        scene, question, answer = draw_question(world)
        if "left" in question:
            words = question.split()
            first, second = (next(s for s in scene if s.kind == words[at]) for at in (2, 6))
            assert (first.x < second.x) == (answer == "yes")
            checked += 1
    assert checked > 20


def test_every_shape_of_a_scene_is_painted_and_told():
    world = World("validation", (1,))
    for _ in range(50):
        scene = draw_scene(world)
        picture, owner = paint(world, scene)
        assert picture.shape == (48, 48, 3) and set(np.unique(owner)) == {-1, *range(len(scene))}
        for text in captions(scene):
            assert [text.split().count(kind) for kind in {s.kind for s in scene}] == [
                sum(s.kind == kind for s in scene) for kind in {s.kind for s in scene}
            ]


@pytest.mark.parametrize("shape", [(3, 5), (4, 2, 3)])
def test_a_png_is_read_back_by_pillow(shape):
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(picture)))), picture)


def test_digits_are_scikit_learns_in_disjoint_splits_with_right_answers():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    found = load_digits()
    stored = (255 * (1 - found.images / 16)).round().astype(np.uint8)
    digit_of = {image.tobytes(): digit for image, digit in zip(stored, found.target, strict=True)}
    labels, seen = TASKS["digits"].labels, {}
    for split in splits("digits"):
        for row in generate("digits", split).to_pylist():
            image = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))).tobytes()
            digit = digit_of[image]
            expected = {
                "which digit is it?": str(digit),
                "is it even?": "yes" if digit % 2 == 0 else "no",
                "is it above four?": "yes" if digit > 4 else "no",
            }[row["question"]]
            assert labels[row["label"]] == expected
            assert seen.setdefault(image, split) == split
    assert len(seen) == len(digit_of)


def test_every_word_is_known_to_the_shipped_tokenizer(questions):
    from ept.data.tokenizer import load_tokenizer
    from ept.demo.identity import BACKBONE_FOLDER

    tokenizer = load_tokenizer(BACKBONE_FOLDER)
    texts = [row["question"] for row in questions.to_pylist()]
    texts += [answer for row in generate("shapes_captioning", "test").to_pylist() for answer in row["answers"]]
    texts += [label for task in IMAGE_TASKS for label in TASKS[task].labels]
    assert not any("<unk>" in tokenizer.encode(text).tokens for text in texts)
