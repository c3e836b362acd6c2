"""Tokenizers are loaded to encode whole texts, whatever their files say."""

import shutil

import pytest

from data.task_rows import write_tokenizer
from ept.data.tokenizer import load_tokenizer
from ept.errors import InputError


def test_truncation_and_padding_of_the_file_are_off_and_the_end_is_added(tmp_path):
    tokenizer = load_tokenizer(write_tokenizer(tmp_path, "a b c"))
    assert tokenizer.encode("a b c a b c").ids == [3, 4, 5, 3, 4, 5, 1]
    assert tokenizer.encode("a").ids == [3, 1]
    assert tokenizer.encode("a", add_special_tokens=False).ids == [3]


@pytest.mark.parametrize("piece", ["</s>", "<pad>"])
def test_a_tokenizer_without_the_special_pieces_is_refused(tmp_path, piece):
    with pytest.raises(InputError, match=f"the tokenizer does not know {piece}; use that of a T5 model"):
        load_tokenizer(write_tokenizer(tmp_path, "a b", drop=piece))


def test_missing_and_torn_tokenizers_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no tokenizer.json and no spiece.model; copy"):
        load_tokenizer(tmp_path)
    path = write_tokenizer(tmp_path) / "tokenizer.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(InputError, match="tokenizer.json: this is no tokenizer .*copy the model's again"):
        load_tokenizer(tmp_path)


@pytest.fixture(scope="module")
def t5_folder(real_data):
    """The original T5 tokenizer; its file cuts and pads at 20."""
    return real_data.parent / "tokenizer/t5"


def test_t5_encodes_long_and_short_texts_whole(t5_folder):
    tokenizer = load_tokenizer(t5_folder)
    long = tokenizer.encode("the house stands on a hill . " * 30).ids
    assert len(long) > 200
    assert long[-1] == tokenizer.token_to_id("</s>") == 1
    assert tokenizer.token_to_id("<pad>") == 0
    assert tokenizer.encode("house").tokens == ["▁house", "</s>"]


def test_t5_writes_the_labels_as_the_protocol_says(t5_folder):
    tokenizer = load_tokenizer(t5_folder)
    assert [tokenizer.encode(label).tokens for label in "012"] == [
        ["▁", "0", "</s>"],
        ["▁1", "</s>"],
        ["▁2", "</s>"],
    ]


@pytest.mark.parametrize("model_type", ["t5", "mt5"])
def test_spiece_model_alone(t5_folder, tmp_path, model_type):
    """As T5 v1.1 and mT5 are published."""
    shutil.copy(t5_folder / "spiece.model", tmp_path)
    (tmp_path / "config.json").write_text(f'{{"model_type": "{model_type}"}}')
    found, expected = load_tokenizer(tmp_path), load_tokenizer(t5_folder)
    for text in ("It is 0.2 degrees .", "sentence1: A b  c sentence2: \u00e9", "<extra_id_0> two  blanks"):
        assert found.encode(text).ids == expected.encode(text).ids
    (tmp_path / "spiece.model").write_bytes(b"torn")
    with pytest.raises(InputError, match="spiece.model: this is no tokenizer .*copy the model's again"):
        load_tokenizer(tmp_path)
