"""The check for GPUs, on a CPU in small and on a GPU where there is one."""

import json

import pytest
import torch

from benchmarks import gpu_check
from ept.methods.registry import METHODS


def parts_of(path):
    return json.loads(path.read_text())["parts"]


def test_some_parts_on_a_cpu(tmp_path):
    out = tmp_path / "found.json"
    chosen = ["determinism", "halving", "compiled"]
    assert gpu_check.main(["--device", "cpu", "--small", "--only", *chosen, "--out", str(out)]) == 0
    found = parts_of(out)
    assert list(found) == chosen
    assert found["determinism"]["ok"] and found["halving"]["ok"] and "skipped" in found["compiled"]
    # Parts of a batch, whose sums round otherwise, were really computed.
    assert found["halving"]["halved"] > 0 and 0 < found["halving"]["gradient"] < 1e-4


def test_every_part_is_written_as_soon_as_it_ends_and_a_failed_one_stops_no_other(tmp_path, monkeypatch):
    out = tmp_path / "found.json"
    seen = []

    def broken(check):
        raise ValueError("broken part")

    def later(check):
        seen.append(list(parts_of(out)))
        return {"ok": True}

    monkeypatch.setattr(gpu_check, "PARTS", {"parity": broken, "rates": later})
    assert gpu_check.main(["--device", "cpu", "--small", "--only", "parity", "rates", "--out", str(out)]) == 1
    assert seen == [["parity"]]
    assert parts_of(out)["parity"]["ok"] is False and "broken part" in parts_of(out)["parity"]["failed"]


def test_difference_is_relative_and_finds_missing_tensors():
    first = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([1.0])}
    assert gpu_check.difference(first, {"a": torch.tensor([3.0, 4.5]), "b": torch.tensor([1.0])}) == pytest.approx(0.1)
    assert gpu_check.difference(first, {"a": first["a"]}) == float("inf")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_written(tmp_path):
    assert gpu_check.main(["--out", str(tmp_path / "found.json")]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_all_of_it_in_small(tmp_path):
    out = tmp_path / "found.json"
    assert gpu_check.main(["--device", "cpu", "--small", "--out", str(out)]) == 0
    found = parts_of(out)
    assert list(found) == list(gpu_check.PARTS)
    assert set(found["parity"]["methods"]) == set(METHODS)
    assert all(result.get("tensors", 1) > 0 for result in found["parity"]["methods"].values())
    assert all(row["examples_per_second"] > 0 for row in found["rates"]["rows"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_all_of_it_on_a_gpu(tmp_path):
    assert gpu_check.main(["--out", str(tmp_path / "found.json")]) == 0
