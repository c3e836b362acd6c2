"""Prompt files."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from ept.errors import InputError
from ept.methods.prompt_file import read_prompt, save_prompt


@pytest.mark.parametrize("method", ["pt", "mpt", "dept", "ept"])
def test_round_trip(tmp_path, small_pack, randomize, method):
    pack = randomize(small_pack(method, seeds=[0, 1]))
    path = tmp_path / "new folder" / "seed1.safetensors"
    metadata = {"method": method, "task": "rte", "seed": 1, "nested": {"f1": [0.5]}}
    save_prompt(path, pack.tensors(1), pack.collapse(1), metadata)
    saved = read_prompt(path)
    assert saved.metadata == metadata
    for found, expected in ((saved.tensors, pack.tensors(1)), (saved.collapsed, pack.collapse(1))):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    again = small_pack(method, seeds=[9])
    again.load_tensors(0, saved.tensors, str(path))
    assert torch.equal(again().prompt[0], pack().prompt[1])
    assert list(path.parent.iterdir()) == [path]


def test_equal_content_gives_equal_bytes_and_nothing_is_written_twice(tmp_path, small_pack, randomize):
    pack = randomize(small_pack("ept"))
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for path, order in ((first, sorted), (second, lambda items: sorted(items, reverse=True))):
        metadata = dict(order({"task": "rte", "seed": 0}.items()))
        save_prompt(path, dict(order(pack.tensors(0).items())), pack.collapse(0), metadata)
    assert first.read_bytes() == second.read_bytes()
    assert load_file(first).keys() == pack.tensors(0).keys() | {"collapsed.prompt"}


def test_errors_name_the_file(tmp_path, small_pack):
    with pytest.raises(InputError, match="no prompt file.*gone.safetensors"):
        read_prompt(tmp_path / "gone.safetensors")
    pack, torn = small_pack("dept"), tmp_path / "torn.safetensors"
    save_prompt(torn, pack.tensors(0), pack.collapse(0), {})
    torn.write_bytes(torn.read_bytes()[:-100])
    with pytest.raises(InputError, match="torn.safetensors is damaged"):
        read_prompt(torn)
    torn.write_bytes(b"")
    with pytest.raises(InputError, match="torn.safetensors is damaged"):
        read_prompt(torn)
    foreign = tmp_path / "foreign.safetensors"
    for metadata in (None, {"ept": "not JSON"}, {"ept": "[1]"}, {"ept": '{"format": "other"}'}):
        save_file({"prompt": torch.zeros(2, 2)}, foreign, metadata=metadata)
        with pytest.raises(InputError, match="foreign.safetensors is no prompt file"):
            read_prompt(foreign)
