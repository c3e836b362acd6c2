"""Processes of several nodes, which share the working directory and no folder for temporary files."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

from ept.config.configuration import parse_configuration
from ept.plan.experiment import Experiment
from ept.training.train import is_finished

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
    assert str(pack.folder) in second.stderr.readline()
    assert second.poll() is None
    write_pack(tmp_path, pack)
    first.stdin.close()
    # The first has made everything.
    assert second.stdout.readline() == "False\n"


def write_pack(folder, pack):
    """Write files as a finished training leaves them: settings.json names the digests of its neighbors."""
    for file in pack.files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(file.name)
    for beside in (pack.folder, pack.prompts):
        names = [file.name for file in pack.files if file.parent == beside and file.name != "settings.json"]
        digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
        (folder / beside / "settings.json").write_text(json.dumps({"hash": pack.hash, "sha256": digests}))


def test_a_pack_is_finished_only_if_every_file_has_its_digest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (pack,) = Experiment(parse_configuration(VALUES)).packs
    assert not is_finished(pack)
    write_pack(tmp_path, pack)
    assert is_finished(pack)
    for file in pack.files:
        content = file.read_bytes()
        for damaged in (content[:-1], content + b" x", b"", content[:1] + b"?" + content[2:]):
            file.write_bytes(damaged)
            assert not is_finished(pack), (file, damaged)
        file.unlink()
        assert not is_finished(pack)
        file.write_bytes(content)
    assert is_finished(pack)


def test_a_pack_whose_process_was_killed_is_trained(start):
    first = start("first")
    assert first.stdout.readline() == "True\n"
    second = start("second", subprocess.DEVNULL)
    assert "waiting" in second.stderr.readline()
    first.kill()
    assert second.stdout.readline() == "True\n"
