"""`ept mend` removes what a crash damaged of the workflow's own files, and nothing else."""

import fcntl
import json
import os
import signal
import subprocess
import sys

import pytest
import yaml
from filelock import FileLock

from commands.written import write_pack
from ept.cli import main
from ept.config.configuration import load_configuration
from ept.files import DIGESTS, sha256_file, write_json
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.plan.tables import MAIN

SMALL = {"tasks": {"target": ["cb"]}, "methods": ["pt"], "few_shot": {"k": [4]}}


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(SMALL))
    return Experiment(load_configuration("config.yaml"))


def tree(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def mend():
    return main(["mend", "--config", "config.yaml"])


def write_table(experiment, table=MAIN):
    """A table in all its forms, with its settings file."""
    csv = paths.table_file(experiment.config.output, table)
    csv.parent.mkdir(parents=True, exist_ok=True)
    files = [csv.with_suffix(f".{ending}") for ending in paths.TABLE_ENDINGS]
    for path in files:
        path.write_text(f"the table as {path.suffix}\n")
    write_json(
        paths.table_settings_file(experiment.config.output, table),
        {"table": table, DIGESTS: {path.name: sha256_file(path) for path in files}},
    )
    return files


def test_sound_files_and_files_of_people_stay(experiment, tmp_path, capsys):
    # The first four are from a report.
    for name, content in {
        "data/.backup.20261129/f": "x\n",
        "data/notes.json": '{"a":1}',
        "data/.env.template": "S=1\n",
        "prompts/my-peft/adapter_config.json": "{}",
        "results/main.csv.old": "half a li",
        "results/.main.csv.backup12": "x",
        "data/raw/demo-v1-seed0/cb/train.parquet": "not one of ours",
        # T5 publishes its tokenizer without a line break at the end.
        "data/backbones/t5-base-0123abcd/tokenizer.json": '{"version": "1.0"}',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    for pack in experiment.packs:
        write_pack(pack)
    write_table(experiment)
    before = tree(tmp_path)
    assert mend() == 0
    assert tree(tmp_path) == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["runs.json", "predictions.parquet", "settings.json", "seed0.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "zeros", "flip"])
def test_a_damaged_file_of_a_training_goes_alone(experiment, tmp_path, name, damage):
    for pack in experiment.packs:
        write_pack(pack)
    victim = tmp_path / next(path for path in experiment.packs[0].files if path.name == name)
    content = victim.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 128
    victim.write_bytes({"cut": content[:-3], "zeros": bytes(len(content)), "flip": bytes(flipped)}[damage])
    before = tree(tmp_path)
    assert mend() == 0
    before = {path: content for path, content in before.items() if path != victim}
    assert tree(tmp_path) == before
    assert mend() == 0 and tree(tmp_path) == before


def test_a_table_that_differs_from_its_digest_goes(experiment, tmp_path):
    csv, *others = write_table(experiment)
    csv.write_text("the table as")
    assert mend() == 0
    assert not csv.exists() and all(path.exists() for path in others)


def test_a_damaged_task_goes_as_the_folder_that_one_job_makes(experiment, tmp_path):
    arguments = ["--config", "config.yaml", "--task", "cb"]
    assert main(["fetch", *arguments]) == main(["tokenize", *arguments]) == 0
    sound = tree(tmp_path)
    assert mend() == 0 and tree(tmp_path) == sound
    split = experiment.tokenized_folder("cb") / "train.arrow"
    os.truncate(split, split.stat().st_size - 9)
    raw = experiment.raw_folder("cb")
    os.truncate(raw / "validation.parquet", 9)
    assert mend() == 0
    assert not split.exists() and not raw.exists()
    assert (split.parent / "test.arrow").exists()
    assert main(["fetch", *arguments]) == main(["tokenize", *arguments]) == 0
    assert tree(tmp_path) == sound


WRITER = """
import os, signal, sys
from ept.files import write_atomically, write_folder_atomically
with {writer}(sys.argv[1]) as path:
    (path / "config.json" if path.is_dir() else path).write_text("{{")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("writer", ["write_atomically", "write_folder_atomically"])
def test_temporary_files_go_when_their_writer_was_killed_and_stay_while_it_lives(experiment, tmp_path, writer):
    path = paths.table_file("results", MAIN) if writer == "write_atomically" else experiment.raw_folder("cb")
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER.format(writer=writer), path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    (temporary,) = path.parent.iterdir()
    assert mend() == 0 and temporary.exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert temporary.exists()
    assert mend() == 0 and not any(path.parent.iterdir())


def test_what_a_killed_training_left_goes_unless_another_one_works_there(experiment, tmp_path):
    pack = experiment.packs[0]
    left = [folder / ".tmpAb12Cd" for folder in (pack.folder, pack.prompts, pack.checkpoints)]
    left.append(pack.checkpoints / ".part0.safetensors.0123abcd")
    (pack.checkpoints).mkdir(parents=True)
    (pack.checkpoints / "part0.safetensors").write_bytes(b"")
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    lock = paths.lock_file(pack.checkpoints)
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        # Another process asks for the lock.
        assert subprocess.run([sys.executable, "-m", "ept.cli", "mend", "--config", "config.yaml"]).returncode == 0
        assert all(path.exists() for path in left)
    assert mend() == 0
    assert not any(path.exists() for path in left)
    assert (pack.checkpoints / "part0.safetensors").exists()


def test_beside_a_running_workflow_nothing_is_removed(experiment, tmp_path, capsys):
    csv, *_ = write_table(experiment)
    csv.write_text("damaged")
    running = paths.workflow_lock_file()
    running.parent.mkdir(parents=True)
    with running.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        before = tree(tmp_path)
        assert mend() == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and str(tmp_path) in error
        assert tree(tmp_path) == before
    assert mend() == 0 and not csv.exists()


def test_settings_that_lie_about_themselves_go(experiment, tmp_path):
    write_table(experiment)
    settings = paths.table_settings_file("results", MAIN)
    values = json.loads(settings.read_text())
    settings.write_text(json.dumps(values | {"digest": "01234567"}))
    assert mend() == 0 and not settings.exists()


@pytest.mark.parametrize("named", ["{outside}", "../../../../../../mine.txt", "..", "runs.json/../../mine", ["mine"]])
def test_a_listing_never_names_files_elsewhere(experiment, tmp_path, named):
    outside = tmp_path / "mine.txt"
    outside.write_text("mine")
    pack = experiment.packs[0]
    write_pack(pack)
    listing = pack.folder / "settings.json"
    digests = named if isinstance(named, list) else {named.format(outside=outside): "0" * 64}
    write_json(listing, {"hash": pack.hash, DIGESTS: digests})
    assert mend() == 0
    assert outside.read_text() == "mine"
    assert not listing.exists() and (pack.folder / "runs.json").exists()
