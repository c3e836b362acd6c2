"""Costs by rule from files written by hand, and what a job writes about itself."""

import os
import re
import subprocess
import sys

import pytest

from ept.config.configuration import parse_configuration
from ept.errors import InputError
from ept.plan.experiment import Experiment
from ept.report.costs import benchmark_files, costs
from ept.report.write import cost_layout

# Snakemake's benchmark files have more columns.
HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
CONFIGURATION = {
    "tasks": {"target": ["rte", "cb"], "source": ["mnli"]},
    "methods": ["spot"],
    "few_shot": {"k": [4]},
}


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """SPoT on two tasks, with all data and with four examples, from one source prompt."""
    monkeypatch.chdir(tmp_path)
    return Experiment(parse_configuration(CONFIGURATION))


def _write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"{seconds}\t0:00:01\t{memory}\t9\t9\t9\t0\t0\t50\t{cpu}\n" for seconds, cpu, memory in rows)
    path.write_text(HEAD + "".join(lines))


def test_sums_over_jobs_and_the_largest_memory(experiment):
    files = benchmark_files(experiment)
    assert {rule: len(found) for rule, found in files.items()} == {
        # The demonstration's ships with the project.
        "download_backbone": 0,
        "fetch": 3,
        "tokenize": 3,
        # None of the tasks has pictures.
        "visual_features": 0,
        "train_source": 1,
        "train": 4,
        "table": len(experiment.default_tables),
        "summary": 1,
        "figures": 1,
    }
    for number, path in enumerate(files["train"][:3]):
        _write(path, (10 + number, 5.5, 300 + number))
    _write(files["fetch"][0], (0.5, 0.25, 90))
    # The leftover of another configuration.
    _write(files["train"][0].with_name("deadbeef.tsv"), (1000, 1000, 1000))
    found = {cost.rule: cost for cost in costs(experiment)}
    train, fetch, total = found["train"], found["fetch"], found["total"]
    assert (train.jobs, train.measured, train.seconds, train.cpu_seconds) == (4, 3, 33, 16.5)
    assert train.peak_memory_mb == total.peak_memory_mb == 302
    assert (fetch.measured, fetch.seconds, fetch.cpu_seconds) == (1, 0.5, 0.25)
    assert (total.measured, total.seconds, total.cpu_seconds) == (4, 33.5, 16.75)
    assert total.jobs == sum(len(jobs) for jobs in files.values())
    lines = {line[0].text: [cell.text for cell in line[1:]] for line in cost_layout(costs(experiment)).lines}
    assert lines["train"] == ["4", "3", "33", "16", "302"]
    assert lines["tokenize"] == ["3", "0", "0", "0", ""]


def test_a_job_writes_what_it_cost(experiment):
    path = benchmark_files(experiment)["train"][0]
    code = "import sys, time; from pathlib import Path; from ept.report.costs import write_cost\n"
    code += "held = bytearray(100 * 2**20)\nwhile time.process_time() < 2: pass\nwrite_cost(Path(sys.argv[1]), 2.5)"
    before = os.times()
    subprocess.run([sys.executable, "-c", code, path], check=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    found = {cost.rule: cost for cost in costs(experiment)}["train"]
    assert (found.measured, found.seconds) == (1, 2.5)
    # Without its end.
    assert 2.0 <= found.cpu_seconds <= used and 100 < found.peak_memory_mb < 1000


def test_a_backbone_of_the_hub_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub = {"name": "t5", "source": "hub", "id": "google-t5/t5-base", "revision": "0123abcd" * 5}
    experiment = Experiment(parse_configuration(CONFIGURATION | {"backbone": hub, "data": {"source": "hub"}}))
    (path,) = benchmark_files(experiment)["download_backbone"]
    # As workflow/rules/backbone.smk writes it.
    assert str(path) == "logs/benchmarks/download_backbone/t5-0123abcd.tsv"
    _write(path, (12, 3, 250))
    found = {cost.rule: cost for cost in costs(experiment)}
    assert (found["download_backbone"].jobs, found["download_backbone"].seconds, found["total"].seconds) == (1, 12, 12)


@pytest.mark.parametrize(
    "content", ["", "a\tb\n1\t2\n", HEAD + "one\ttwo\n", HEAD + "x\t0:00:01\t9\t9\t9\t9\t0\t0\t50\t1\n"]
)
def test_a_torn_file_is_named(experiment, content):
    path = benchmark_files(experiment)["train"][0]
    path.parent.mkdir(parents=True)
    path.write_text(content)
    if content:
        with pytest.raises(InputError, match=re.escape(str(path))):
            costs(experiment)
    else:
        assert costs(experiment)[-1].measured == 0
