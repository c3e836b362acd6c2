"""VQA accuracy, CIDEr-D and BLEU-4 against values worked out here and by other code."""

import math
from collections import Counter

import numpy as np
import pytest

from ept.evaluation.metrics import References, cider, compute, normalize_vqa_answer, scorer, vqa_accuracy
from ept.tasks.registry import TASKS

REFERENCES = [
    ["a dog runs on the grass", "the brown dog is running", "a dog on green grass"],
    ["two cats sleep on a red sofa", "cats asleep on the sofa", "two cats on a couch"],
    ["a man rides a horse", "a man on a horse in a field", "someone rides a brown horse"],
]
CAPTIONS = ["a dog on the grass", "two cats on a red sofa", "A man, on a horse."]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The Dog.", "dog"),
        ("  two  ", "2"),
        ("none", "0"),
        ("It isnt a cat!", "it isn't cat"),
        ("red/blue", "red blue"),
        ("red / blue", "red blue"),
        ("1,000", "1000"),
        ("3.5 m", "3.5 m"),
        ("dont\nknow", "don't know"),
        ("ten", "10"),
        ("couldntve", "couldntve"),
        ("couldnt've", "couldn't've"),
        ("y'allll", "y'all'll"),
    ],
)
def test_answers_are_normalized_as_in_the_official_script(text, plain):
    assert normalize_vqa_answer(text) == plain


@pytest.mark.parametrize(
    ("agreeing", "expected"),
    # Of the ten sets of nine people: n * min((n - 1) / 3, 1) + (10 - n) * min(n / 3, 1), over ten.
    [(0, 0.0), (1, 0.3), (2, (2 * 1 + 8 * 2) / 30), (3, (3 * 2 + 7 * 3) / 30), (4, 1.0), (10, 1.0)],
)
def test_vqa_accuracy_is_the_mean_over_sets_of_nine_people(agreeing, expected):
    answers = ["dog"] * agreeing + [f"cat {number}" for number in range(10 - agreeing)]
    assert vqa_accuracy("A dog", answers) == pytest.approx(expected)


def test_punctuation_of_answers_goes_only_where_they_differ():
    assert vqa_accuracy("yes", ["yes."] * 10) == 0.0
    assert vqa_accuracy("yes", ["yes."] * 9 + ["no"]) == 1.0


def _grams(text, size):
    words = text.lower().replace(",", " ").replace(".", " ").split()
    return Counter(zip(*(words[at:] for at in range(size)), strict=False))


def _cider(captions, references):
    """The formula of the paper's CIDEr-D with vectors over all n-grams."""
    scores = []
    for caption, texts in zip(captions, references, strict=True):
        per_size = []
        for size in range(1, 5):
            texts_of_all = [*captions, *(text for part in references for text in part)]
            vocabulary = sorted({gram for text in texts_of_all for gram in _grams(text, size)})
            counts = [sum(any(gram in _grams(t, size) for t in part) for part in references) for gram in vocabulary]
            idf = np.array([math.log(len(references) / max(1, count)) for count in counts])

            def vector(text, size=size, vocabulary=vocabulary, idf=idf):
                grams = _grams(text, size)
                return np.array([grams[gram] for gram in vocabulary]) * idf

            found, total = vector(caption), 0.0
            for text in texts:
                other = vector(text)
                norms = np.linalg.norm(found) * np.linalg.norm(other)
                gap = sum(_grams(caption, 2).values()) - sum(_grams(text, 2).values())
                total += math.exp(-(gap**2) / (2 * 6**2)) * (np.minimum(found, other) @ other / norms if norms else 0)
            per_size.append(10 * total / len(texts))
        scores.append(np.mean(per_size))
    return np.array(scores)


def test_cider_is_the_papers_formula():
    for captions in (CAPTIONS, CAPTIONS[::-1], ["", "a", "a dog dog dog dog on a horse"]):
        np.testing.assert_allclose(cider(captions, REFERENCES), _cider(captions, REFERENCES), atol=1e-9)


def test_copies_of_a_reference_score_highest():
    best = [texts[0] for texts in REFERENCES]
    assert (cider(best, REFERENCES) > cider(CAPTIONS, REFERENCES)).all()
    assert cider([""] * 3, REFERENCES).tolist() == [0.0] * 3


def test_bleu_of_a_corpus_worked_out_by_hand():
    captions = np.array(["a dog on the grass", "two cats on a red sofa", "a man on a horse"], dtype=object)
    counts = []
    for size in range(1, 5):
        matched = tried = 0
        for caption, texts in zip(captions, REFERENCES, strict=True):
            grams = _grams(caption, size)
            matched += sum(min(n, max(_grams(text, size)[gram] for text in texts)) for gram, n in grams.items())
            tried += sum(grams.values())
        counts.append(matched / tried)
    # Lengths 5, 6, 5 against the closest 5, 5 or 7, and 5: of equally close ones the shorter.
    expected = 100 * math.exp(sum(map(math.log, counts)) / 4) * min(1, math.exp(1 - 15 / 16))
    truth = References(np.zeros(3), ["", "", ""], REFERENCES)
    assert compute("bleu4", captions, truth, TASKS["coco"]) == pytest.approx(expected)


def test_bleu_punishes_short_captions_and_is_computed_over_the_drawn_rows():
    truth = References(np.zeros(3), [""] * 3, REFERENCES)
    whole = np.array([texts[0] for texts in REFERENCES], dtype=object)
    short = np.array(["a dog runs on", *whole[1:]], dtype=object)
    score = scorer("bleu4", [whole, short], truth, TASKS["coco"])
    rows = np.arange(3)
    assert score(0, rows) == pytest.approx(100) and score(1, rows) < 100
    assert score(1, np.array([1, 2, 2])) == pytest.approx(100)
    assert score(1, np.array([0])) == pytest.approx(100 * math.exp(1 - 5 / 4))
