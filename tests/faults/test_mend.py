"""What a crash leaves is found, and nothing else."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ept.config.configuration import parse_configuration, write_resolved
from ept.files import sha256_file, write_json, write_text
from ept.mend import remove_damaged


def _arrow(path):
    table = pa.table({"numbers": np.arange(500)})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


WRITERS = {
    "predictions.parquet": lambda path: pq.write_table(pa.table({"numbers": np.arange(500)}), path),
    "train.arrow": _arrow,
    "seed0.safetensors": lambda path: save_file({"prompt": np.ones((4, 8), np.float32)}, path),
    "settings.json": lambda path: write_json(path, {"hash": "0123abcd", "settings": {"steps": [1, 2, 3]}}),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with one whole file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    for name, write in WRITERS.items():
        write(folder / name)
    return folder


def test_whole_files_and_files_of_others_stay(whole, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    for name in ("notes.txt", ".gitignore", "lists.csv", "a.b.abcdefgh"):
        (tmp_path / name).write_text("half a li")
    before = sorted(tmp_path.iterdir())
    assert remove_damaged([tmp_path, tmp_path / "not there"]) == []
    assert sorted(tmp_path.iterdir()) == before


@settings(max_examples=80, deadline=None)
@given(name=st.sampled_from(sorted(WRITERS)), share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_lost_its_end_is_removed_wherever_it_ends(whole, tmp_path_factory, name, share):
    folder = tmp_path_factory.mktemp("torn")
    content = (whole / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    assert remove_damaged([folder]) == [f"removed {folder / name}: it is not whole"]
    assert not any(folder.iterdir())


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_zeros_is_removed(whole, tmp_path, name):
    # Some file systems keep the length of what they lost.
    (tmp_path / name).write_bytes(bytes((whole / name).stat().st_size))
    remove_damaged([tmp_path])
    assert not any(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from ept.files import write_atomically, write_folder_atomically
with {writer}(sys.argv[1]) as path:
    (path / "config.json" if path.is_dir() else path).write_text("{{")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("writer", "name"), [("write_atomically", "runs.json"), ("write_folder_atomically", "t5-base-0123abcd")]
)
def test_what_a_killed_process_leaves_is_removed(tmp_path, writer, name):
    done = subprocess.run([sys.executable, "-c", KILLED.format(writer=writer), str(tmp_path / "folder" / name)])
    assert done.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "folder").iterdir()
    assert remove_damaged([tmp_path]) == [f"removed {left}: a temporary file of a process that ended"]
    assert not any((tmp_path / "folder").iterdir())


def test_a_table_that_is_not_what_its_settings_say_is_removed(tmp_path):
    for name in ("main.csv", "main.md"):
        write_text(tmp_path / name, "a table\nof two lines\n")
    digests = {name: sha256_file(tmp_path / name) for name in ("main.csv", "main.md")}
    write_json(tmp_path / "main.settings.json", {"table": "main", "sha256": digests})
    assert remove_damaged([tmp_path]) == []
    (tmp_path / "main.csv").write_text("a table\n")
    assert remove_damaged([tmp_path]) == [f"removed {tmp_path}/main.csv: it is not what main.settings.json says"]
    assert (tmp_path / "main.md").exists() and (tmp_path / "main.settings.json").exists()


def test_a_resolved_configuration_that_lost_its_end_is_removed(tmp_path):
    config = parse_configuration({"tasks": {"target": ["cb"]}, "methods": ["pt"]})
    path = write_resolved(config, tmp_path / "configurations")
    assert remove_damaged([tmp_path]) == []
    values = yaml.safe_load(path.read_text())
    del values["seeds"]
    path.write_text(yaml.safe_dump(values))
    assert remove_damaged([tmp_path]) == [f"removed {path}: it is not whole"]


def test_a_folder_that_one_job_makes_goes_as_a_whole(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("data/raw/demo-v1-seed0/cb", "data/raw/demo-v1-seed0/rte", "data/backbones/t5-base-0123abcd"):
        shutil.copytree(whole, folder)
    for damaged in (
        "data/raw/demo-v1-seed0/cb/predictions.parquet",
        "data/backbones/t5-base-0123abcd/seed0.safetensors",
    ):
        os.truncate(damaged, 7)
    assert remove_damaged([Path("data")]) == [
        "removed data/backbones/t5-base-0123abcd: seed0.safetensors: it is not whole",
        "removed data/raw/demo-v1-seed0/cb: predictions.parquet: it is not whole",
    ]
    assert [path.name for path in Path("data/raw/demo-v1-seed0").iterdir()] == ["rte"]
    assert not any(Path("data/backbones").iterdir())
