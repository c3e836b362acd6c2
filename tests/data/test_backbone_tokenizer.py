"""Tokenizers are loaded to encode whole texts, whatever their files say."""

import base64
import json
import shutil
import time

import numpy as np
import pytest

from data.task_rows import table, write_tokenizer
from ept.data.prepare import Rows, tokenize_table
from ept.data.tokenizer import load_pieces, load_tokenizer
from ept.errors import InputError
from ept.tasks.registry import TASKS


def test_truncation_and_padding_of_the_file_are_off_and_the_end_is_added(tmp_path):
    tokenizer = load_tokenizer(write_tokenizer(tmp_path, "a b c"))
    assert tokenizer.encode("a b c a b c").ids == [3, 4, 5, 3, 4, 5, 1]
    assert tokenizer.encode("a").ids == [3, 1]
    assert tokenizer.encode("a", add_special_tokens=False).ids == [3]


@pytest.mark.parametrize("piece", ["</s>", "<pad>"])
def test_a_tokenizer_without_the_special_pieces_is_refused(tmp_path, piece):
    with pytest.raises(InputError, match=piece):
        load_tokenizer(write_tokenizer(tmp_path, "a b", drop=piece))


def test_missing_and_incomplete_tokenizers_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"tokenizer\.json.*spiece\.model"):
        load_tokenizer(tmp_path)
    path = write_tokenizer(tmp_path) / "tokenizer.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(InputError, match=r"tokenizer\.json"):
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
    with pytest.raises(InputError, match=r"spiece\.model"):
        load_tokenizer(tmp_path)


def _changed(t5_folder, folder, change, vocab_size=None):
    """T5's tokenizer.json after a change, in a folder of its own."""
    values = json.loads((t5_folder / "tokenizer.json").read_text())
    change(values)
    (folder / "tokenizer.json").write_text(json.dumps(values))
    if vocab_size:
        (folder / "config.json").write_text(json.dumps({"model_type": "t5", "vocab_size": vocab_size}))
    return folder


def _replacements(*patterns):
    return {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": p, "content": c} for p, c in patterns]}


def _template(special, ids):
    return {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": special, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": ids,
    }


def _map(content):
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}


BROKEN = {
    "growth in a chain": {"normalizer": _replacements(*[({"String": "e"}, "ee")] * 40)},
    "growth by an expression": {"normalizer": _replacements(*[({"Regex": ""}, "ab")] * 20)},
    "growth at once": {"decoder": {"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 10**6}},
    "growth at the front": {"normalizer": {"type": "Prepend", "prepend": "b" * 10**6}},
    "growth by a map": {"normalizer": _map(b"\x08\0\0\0" + bytes(8) + b"b" * 10**6 + b"\0")},
    "no map": {"normalizer": _map(b"")},
    "map cut": {"normalizer": _map(b"\x08\0\0\0ab")},
    "map with wild offsets": {"normalizer": _map(b"\x08\0\0\0" + b"\xff" * 8 + b"ab")},
    "map of other text": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "!"}},
    "processor without its piece": {"post_processor": _template("[X]", {})},
    "unknown model": {"model": {"type": "Nothing"}},
    "a list": {"normalizer": [1, 2]},
}


@pytest.mark.parametrize("parts", BROKEN.values(), ids=BROKEN.keys())
def test_broken_parts_are_one_sentence_and_nothing_else(t5_folder, tmp_path, capfd, parts):
    """The library panics over some: a stack trace on the descriptor of standard error, and no Exception."""
    folder = _changed(t5_folder, tmp_path, lambda values: values.update(parts))
    start = time.process_time()
    with pytest.raises(InputError, match=str(tmp_path)) as caught:
        load_tokenizer(folder)
    assert time.process_time() - start < 5
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 500
    assert capfd.readouterr() == ("", "")


def test_pieces_without_an_embedding_are_refused(t5_folder, tmp_path):
    """Whether the tokenizer is another model's or a number is beyond every embedding."""
    rows, task = table(TASKS["cola"]), TASKS["cola"]
    sizes = {32128: None, 300: 300, 5: 5}
    for size, named in sizes.items():
        folder = _changed(t5_folder, tmp_path, lambda values: None, size)
        pieces = load_pieces(folder)
        if named is None:
            assert tokenize_table(task, rows, Rows("train", np.arange(6)), pieces, 64)[0].num_rows == 6
            continue
        with pytest.raises(InputError, match=rf"\b{named}\b.*vocab_size"):
            tokenize_table(task, rows, Rows("train", np.arange(6)), pieces, 64)

    def added(values):
        values["added_tokens"].append(values["added_tokens"][-1] | {"id": 2**31 + 7, "content": "never used"})
        values["model"]["vocab"] = [*values["model"]["vocab"], *[[f"x{n}", -9.0] for n in range(3)]]

    pieces = load_pieces(_changed(t5_folder, tmp_path, added, 32101))
    with pytest.raises(InputError, match=r"\b32101\b.*vocab_size"):
        pieces.checked(pieces.sources(["Us seen x2 it."], 64)[0])
