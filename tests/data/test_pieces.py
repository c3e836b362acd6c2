"""How texts and labels are written for a decoder-only model."""

import json
import re

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing

from data.task_rows import write_tokenizer
from ept.data.tokenizer import CHARACTERS_PER_PIECE, SHORT_TEXT, load_pieces
from ept.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """A byte-level tokenizer that puts <s> before a text and knows no padding, and a configuration."""
    alphabet = {piece: number for number, piece in enumerate(["<s>", "</s>", *sorted(ByteLevel.alphabet())])}
    tokenizer = Tokenizer(BPE(alphabet, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.enable_truncation(5)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8, "eos_token_id": [1, 7]}))
    return tmp_path


def _written(pieces, ids):
    """Bytes back as text, with <s> and </s>."""
    text = "".join(pieces.tokenizer.id_to_token(piece) for piece in ids)
    return text.replace("Ġ", " ").replace("Ċ", "\n")


def test_a_text_stands_between_start_and_cue_and_is_cut_at_its_end(folder):
    pieces = load_pieces(folder)
    (short, cut), number = pieces.sources(["good", "a very long text"], 16)
    assert _written(pieces, short) == "<s>good\nAnswer:"
    assert _written(pieces, cut) == "<s>a very \nAnswer:"
    assert (len(cut), number) == (16, 1)
    with pytest.raises(InputError, match=r"source_length\b.*\b9\b.*\b9\b"):
        pieces.sources(["good"], 9)


@pytest.mark.parametrize("blank", [" ", ""], ids=["words", "one word"])
def test_a_very_long_text_has_the_pieces_of_its_beginning(folder, blank):
    """Whatever its length, no more than its beginning is read."""
    pieces = load_pieces(folder)
    texts = [blank.join(["long"] * count) for count in (40, 10_000, 100_000)]
    whole = [pieces.tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    room = 100 - len(pieces.front) - len(pieces.back)
    found, cut = pieces.sources(texts, 100)
    assert found == [[*pieces.front, *ids[:room], *pieces.back] for ids in whole]
    assert cut == 3


def test_what_is_not_read_counts_as_cut(tmp_path):
    pieces = load_pieces(write_tokenizer(tmp_path, "a b c"))
    limit = max(SHORT_TEXT, CHARACTERS_PER_PIECE * 9)
    texts = ["a" + " " * (limit - 2) + "b", "a" + " " * (limit - 1) + "b", "a" + " " * limit + "b"]
    assert pieces.sources(texts, 10) == ([[3, 4, 1], [3, 1], [3, 1]], 2)


def test_a_task_may_ask_with_another_cue(folder):
    pieces = load_pieces(folder, "Sentiment:")
    assert _written(pieces, pieces.sources(["good"], 20)[0][0]) == "<s>good\nSentiment:"


def test_a_label_follows_the_cue_and_ends(folder):
    pieces = load_pieces(folder)
    assert _written(pieces, pieces.label("yes")) == " yes</s>"
    assert _written(pieces, pieces.words("yes")) == "yes"
    # Padding is any piece: the end, where the model names none.
    assert (pieces.end_id, pieces.pad_id) == (1, 1)


@pytest.mark.parametrize("end", [None, 5000, [], -1, 2**40, "</s>"])
def test_a_model_without_an_end_is_refused(folder, end):
    config = json.loads((folder / "config.json").read_text()) | {"eos_token_id": end}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=rf"config\.json.*eos_token_id.*{re.escape(str(end))}"):
        load_pieces(folder)


def test_an_encoder_decoders_text_and_label_end_with_the_end_piece(tmp_path):
    pieces = load_pieces(write_tokenizer(tmp_path, "a b c"))
    assert pieces.sources(["a b c", "c b"], 3) == ([[3, 4, 1], [5, 4, 1]], 1)
    assert pieces.label("a b") == [3, 4, 1]
