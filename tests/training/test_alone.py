"""Processes of several nodes, which share the working directory and no folder for temporary files."""

import os
import subprocess
import sys

import pytest

from ept.config.configuration import parse_configuration
from ept.plan.experiment import Experiment

VALUES = {"tasks": {"target": ["cb"]}, "methods": ["pt"], "few_shot": {"k": []}}
# Says whether there is something to train, and ends with its input.
HOLDER = f"""
import sys
from ept.config.configuration import parse_configuration
from ept.plan.experiment import Experiment
from ept.training.train import alone_with
(pack,) = Experiment(parse_configuration({VALUES})).packs
with alone_with(pack) as open_work:
    print(open_work, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path):
    """Starts such a process on a node of its own, in one working directory."""
    started = []

    def on(node, stdin=subprocess.PIPE):
        (tmp_path / node).mkdir()
        pipes = dict(stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        environment = {**os.environ, "TMPDIR": str(tmp_path / node)}
        started.append(subprocess.Popen([sys.executable, "-c", HOLDER], cwd=tmp_path, env=environment, **pipes))
        return started[-1]

    yield on
    for process in started:
        process.kill()
        process.wait()


def test_a_pack_that_another_node_trains_is_waited_for(start, tmp_path):
    (pack,) = Experiment(parse_configuration(VALUES)).packs
    first = start("first")
    assert first.stdout.readline() == "True\n"
    second = start("second", subprocess.DEVNULL)
    assert second.stderr.readline() == f"another process trains {pack.folder}; waiting for its end\n"
    assert second.poll() is None
    for file in pack.files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    first.stdin.close()
    # The first has made everything.
    assert second.stdout.readline() == "False\n"


def test_a_pack_whose_process_was_killed_is_trained(start):
    first = start("first")
    assert first.stdout.readline() == "True\n"
    second = start("second", subprocess.DEVNULL)
    assert "waiting" in second.stderr.readline()
    first.kill()
    assert second.stdout.readline() == "True\n"
