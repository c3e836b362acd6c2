"""What large workflows cost, in miniature, and where the CPU seconds of a command go."""

import json
import subprocess
import sys

import pytest

from benchmarks import scale


@pytest.mark.long
def test_all_parts_in_miniature(tmp_path):
    scale.main(["--small", "--rows", "300", "--threads", "1", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "scale.json").read_text())
    assert len({cost["part"] for cost in result["costs"]}) == len(result["costs"]) == 7
    assert all(cost["cpu_seconds"] > 0 and cost["peak_mib"] > 10 for cost in result["costs"])
    checkpoint = result["checkpoint"]
    assert checkpoint["seconds"] / checkpoint["interval"] <= 0.0501
    # A model of 60 million parameters in float32 and two moments of each.
    assert checkpoint["bytes"] > 60e6 * 4 * 3
    assert str(tmp_path) not in (tmp_path / "scale.md").read_text()


def test_the_cpu_seconds_of_a_command_and_its_forks_are_counted_once(tmp_path):
    work = tmp_path / "ept/training"
    work.mkdir(parents=True)
    (work / "loop.py").write_text(
        "import time\ndef train_runs(seconds):\n    until = time.process_time() + seconds\n"
        "    while time.process_time() < until: pass\n"
    )
    code = "import os, sys; sys.path.insert(0, 'ept/training'); import loop\n"
    code += "if os.fork() == 0:\n    loop.train_runs(0.5)\nelse:\n    loop.train_runs(1.0); os.wait()"
    # A process of its own, because it waits for every child that it has.
    program = [sys.executable, "-m", "benchmarks.startup", "--folder", str(tmp_path), "--", sys.executable, "-c", code]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=120)
    spent = {kind: float(number) for number, kind in (line.split(maxsplit=1) for line in done.stderr.splitlines())}
    assert spent["training"] == pytest.approx(1.5, abs=0.1)
    assert sum(spent.values()) < 2.5
