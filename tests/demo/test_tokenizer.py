"""The tokenizer: special pieces, round trips, no unknown word in any split, two ways to load it."""

import pytest
from tokenizers import Tokenizer

from ept.demo.corpus import FIELDS, fields, language
from ept.demo.generator import SPLITS, generate
from ept.demo.identity import BACKBONE_FOLDER
from ept.demo.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(BACKBONE_FOLDER / "tokenizer.json"))


def test_special_pieces(tokenizer):
    assert [tokenizer.token_to_id(piece) for piece in ("<pad>", "</s>", "<unk>")] == [0, 1, 2]
    assert tokenizer.token_to_id("<extra_id_0>") == 3
    assert tokenizer.encode("").ids == [1]


def test_the_shipped_file_is_what_the_code_makes(tokenizer):
    assert build_tokenizer(language()).to_str() == tokenizer.to_str()


def test_labels_and_scores(tokenizer):
    for label in "012":
        assert len(tokenizer.encode(label).ids) == 2
    for score in (f"{fifth / 5:.1f}" for fifth in range(26)):
        assert tokenizer.decode(tokenizer.encode(score).ids) == score
        assert len(tokenizer.encode(score).ids) == 4
    assert len({tuple(tokenizer.encode(f"{fifth / 5:.1f}").ids) for fifth in range(26)}) == 26


@pytest.mark.parametrize("task", FIELDS)
def test_no_unknown_word_and_exact_round_trips(tokenizer, task):
    for split in SPLITS[task]:
        for row in generate(task, split, 0).to_pylist():
            texts = fields(task, row)
            source = " ".join(f"{column}: {text}" for column, text in zip(FIELDS[task], texts, strict=True))
            ids = tokenizer.encode(source).ids
            assert 2 not in ids, source
            assert tokenizer.decode(ids) == " ".join(source.split())
            answers = row.get("answers", [])
            answers = answers["text"] if task == "squad" else answers
            for answer in [*row.get("entities", []), *answers]:
                assert tokenizer.decode(tokenizer.encode(answer).ids) == answer


def test_mean_source_is_short(tokenizer):
    for task in FIELDS:
        lengths = [
            len(
                tokenizer.encode(
                    " ".join(f"{c}: {t}" for c, t in zip(FIELDS[task], fields(task, row), strict=True))
                ).ids
            )
            for row in generate(task, "train", 0).slice(0, 200).to_pylist()
        ]
        mean, longest = (50, 80) if task == "yelp" else (45, 64)
        assert sum(lengths) / len(lengths) < mean and max(lengths) < longest, task


def test_spans_marked_with_and_without_blanks_are_the_same_pieces(tokenizer):
    assert tokenizer.encode("*Anna* helped #her#").ids == tokenizer.encode("* Anna * helped # her #").ids


def test_transformers_loads_the_same_tokenizer(tokenizer):
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(BACKBONE_FOLDER)
    text = "sentence1: Anna bought a red car in Paris. sentence2: Anna bought a vehicle."
    assert loaded(text)["input_ids"] == tokenizer.encode(text).ids
    assert loaded.decode(loaded(text)["input_ids"], skip_special_tokens=True) == text
    assert (loaded.pad_token_id, loaded.eos_token_id, loaded.unk_token_id) == (0, 1, 2)
