"""Prompt files."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ept.errors import InputError
from ept.methods.prompt_file import FORMAT, read_prompt, save_prompt


def test_round_trip(tmp_path, small_pack, randomize):
    pack = randomize(small_pack("ept", seeds=[0, 1]))
    path = tmp_path / "new folder" / "seed1.safetensors"
    metadata = {"method": "ept", "task": "rte", "seed": 1, "nested": {"f1": [0.5]}, "labels": ["ja", "nö"]}
    save_prompt(path, pack.tensors(1), pack.collapse(1), metadata)
    saved = read_prompt(path)
    assert saved.metadata == metadata and saved.lacks("labels", "template") == ["template"]
    for found, expected in ((saved.tensors, pack.tensors(1)), (saved.collapsed, pack.collapse(1))):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert list(path.parent.iterdir()) == [path]


def test_equal_content_gives_equal_bytes_and_nothing_is_written_twice(tmp_path, small_pack, randomize):
    pack = randomize(small_pack("ept"))
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for path, order in ((first, sorted), (second, lambda items: sorted(items, reverse=True))):
        metadata = dict(order({"task": "rte", "seed": 0}.items()))
        save_prompt(path, dict(order(pack.tensors(0).items())), pack.collapse(0), metadata)
    assert first.read_bytes() == second.read_bytes()
    assert load_file(first).keys() == pack.tensors(0).keys() | {"collapsed.prompt"}


def _refused(path, *words):
    with pytest.raises(InputError, match=path.name) as caught:
        read_prompt(path)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words)


def test_missing_truncated_and_foreign_files_are_refused(tmp_path, small_pack):
    _refused(tmp_path / "gone.safetensors")
    pack, cut = small_pack("dept"), tmp_path / "cut.safetensors"
    save_prompt(cut, pack.tensors(0), pack.collapse(0), {})
    whole = cut.read_bytes()
    for length in (len(whole) - 100, 50, 0):
        cut.write_bytes(whole[:length])
        _refused(cut, "damaged")
    foreign = tmp_path / "foreign.safetensors"
    headers = (None, "not JSON", "[1]", '{"format": "other"}', '{"format": "ept-prompt-2", "collapsed": 1}', "[" * 9000)
    for header in headers:
        save_file({"prompt": torch.zeros(2, 2)}, foreign, metadata=header and {"ept": header})
        _refused(foreign, FORMAT)


def test_a_changed_byte_is_never_silent(tmp_path, small_pack, randomize):
    """Every byte of the header, and 200 of the tensors: one bit flipped, or another value."""
    pack, path = randomize(small_pack("ept")), tmp_path / "seed0.safetensors"
    metadata = {"labels": ["entailment", "not"], "f1": 0.5, "seed": 0}
    save_prompt(path, pack.tensors(0), pack.collapse(0), metadata)
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    end = len(whole[:header].rstrip(b" "))
    places = [*range(end), *generator.integers(header, len(whole), 200)]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << generator.integers(8) if generator.random() < 0.5 else generator.integers(1, 256)
        path.write_bytes(changed)
        _refused(path)


def test_files_of_version_1_are_read_and_say_what_they_lack(tmp_path):
    path = tmp_path / "old.safetensors"
    header = {"format": "ept-prompt-1", "collapsed": ["prompt"], "metadata": {"method": "pt", "task": "rte"}}
    save_file({"prompt": torch.ones(2, 3)}, path, metadata={"ept": json.dumps(header)})
    saved = read_prompt(path)
    assert torch.equal(saved.collapsed["prompt"], torch.ones(2, 3))
    assert saved.lacks("method", "template", "labels") == ["template", "labels"]
    save_file({"prompt": torch.ones(2, 3)}, path, metadata={"ept": json.dumps(header | {"sha256": "0" * 64})})
    _refused(path, "sha256")
