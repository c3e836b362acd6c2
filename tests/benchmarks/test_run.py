"""`make bench-full` as a whole, in miniature."""

import json

import pytest

from benchmarks import run
from benchmarks.plan import VARIANTS
from benchmarks.rates import measured_variants

pytestmark = pytest.mark.long


def test_all_files_and_fields(tmp_path, monkeypatch):
    monkeypatch.delenv("EPT_TEST_DATA", raising=False)
    run.main(["--miniature", "--full", "--threads", "1", "--out", str(tmp_path)])
    names = {f"performance.{suffix}" for suffix in ("json", "md", "svg", "png")}
    assert {path.name for path in tmp_path.iterdir()} == names | {"serving.json", "serving.md"}
    text = (tmp_path / "performance.json").read_text()
    result = json.loads(text)
    assert result["mode"] == "bench-full" and result["data"] == "synthetic"
    assert set(result) == {
        *("mode", "date", "hardware", "threads", "device", "matrix_gflops", "data", "plan", "backbone", "notes"),
        *("rates", "memory", "costs", "time_to_score", "time_to_cell", "targets", "sweeps", "seconds"),
    }
    assert set(result["hardware"]["versions"]) == {"torch", "transformers", "peft", "accelerate", "numpy"}
    assert all(rate["median"] > 0 for rate in result["rates"])
    # Run-by-run variants have one grid and ours two, on two tasks, training and evaluation.
    counts = [2 if VARIANTS[variant].ours else 1 for variant in measured_variants()]
    assert len(result["rates"]) == sum(counts) * 2 * 2
    assert {row["sweep"] for row in result["sweeps"]["rows"]} == {
        *("pack size", "text length", "short length", "backbone")
    }
    assert all(0 < row["matrix_share"] < 1.5 for row in result["sweeps"]["rows"])
    # Nothing of the machine's folders.
    for name in ("performance.json", "performance.md", "performance.svg"):
        written = (tmp_path / name).read_text()
        assert str(tmp_path) not in written and str(run.HERE) not in written and "/tmp" not in written
