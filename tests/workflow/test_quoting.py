"""Nothing from a configuration reaches a shell unquoted, whatever the configuration allows."""

import json
import re
import shutil
from pathlib import Path

import pytest

from data.task_rows import write_local
from ept.config.configuration import parse_configuration
from ept.demo.identity import BACKBONE_FOLDER
from ept.errors import InputError
from ept.plan.experiment import Experiment
from ept.report.costs import benchmark_files
from ept.tasks.registry import get_task
from workflow.ept_stand_in import install

DANGERS = ("$(touch pwned)", "`touch pwned`", "; touch pwned", "& touch pwned", "| touch pwned", "\ntouch pwned\n")
DANGERS += (" ", "'", '"', "\\", "<", ">", "*", "?", "[a]", "{backbone}", "{", "}", "#", "~", "!", "%", "(", ":", "=")
DANGERS += ("-x", "é", "\0", "\udc80", "../", "a" * 5000)
SMALL = {"tasks": {"target": ["cb"], "source": ["rte"]}, "methods": ["pt", "spot"], "few_shot": {"k": [4]}}


def output(text):
    return {"output": f"out{text}put"}


def absolute_output(text):
    return {"output": f"ABSOLUTE/out{text}put"}


def backbone_name(text):
    return {"backbone": {"source": "local", "id": "local/backbone", "name": f"t5{text}small"}}


def backbone_folder(text):
    return {"backbone": {"source": "local", "id": f"local/back{text}bone", "name": "tiny"}}


def hub_repository(text):
    return {"backbone": {"source": "hub", "id": f"google/t5{text}", "name": "tiny", "revision": "0" * 40}}


def hub_revision(text):
    return {"backbone": {"source": "hub", "id": "google/t5", "name": "tiny", "revision": f"{text}{'0' * 40}"}}


def data_folder(text):
    return {"data": {"source": "local", "path": f"local/da{text}ta"}}


def target_task(text):
    return {"tasks": {"target": [f"cb{text}"], "source": ["rte"]}}


def method(text):
    return {"methods": [f"pt{text}"]}


# Keys that a job's files or arguments are made of, and keys of which the configuration allows no dangerous text.
NAMES = (backbone_name, hub_repository, hub_revision, target_task, method)
PATHS = (
    output,
    *(pytest.param(key, marks=pytest.mark.long) for key in (absolute_output, backbone_folder, data_folder)),
)


def allowed(key):
    """The dangerous texts that the configuration allows in a key; the others are refused in a sentence."""
    found = []
    for text in DANGERS:
        try:
            parse_configuration(SMALL | key(text))
        except InputError:
            continue
        found.append(text)
    return found


@pytest.mark.parametrize("key", NAMES)
def test_a_name_has_no_character_that_a_shell_reads(key):
    assert re.fullmatch(r"[\w./-]*", "".join(allowed(key)), re.ASCII)


@pytest.mark.parametrize("key", PATHS)
def test_what_a_path_may_have_runs_nothing(workflow, key, monkeypatch, tmp_path):
    text = "".join(allowed(key)).removesuffix("../")
    assert {" ", "'"} <= set(text)
    values = SMALL | key(text)
    if "output" in values:
        values["output"] = values["output"].replace("ABSOLUTE", str(tmp_path))
    config = parse_configuration(values)
    monkeypatch.chdir(workflow.folder)
    if config.backbone.source == "local":
        shutil.copytree(BACKBONE_FOLDER, config.backbone.id)
    if config.data.source == "local":
        for task in ("cb", "rte"):
            write_local(Path(config.data.path), get_task(task))
    experiment = Experiment(config)
    programs = install(workflow.folder, experiment)
    targets = ("all", "data", "experiments", "backbone_identity", "source_prompts", f"{config.output}/zero_shot.csv")
    process = workflow.start(*targets, config=workflow.configure(values), programs=programs)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    calls = [json.loads(line) for line in Path("calls.jsonl").read_text().splitlines()]
    assert {call[0] for call in calls} >= {"fetch", "tokenize", "train", "table", "summary", "figures", "zero-shot"}
    assert not Path("pwned").exists()
    # The report's page of costs finds what the jobs cost.
    files = [path for paths in benchmark_files(experiment).values() for path in paths]
    assert files and all(path.is_file() for path in files), files


PLAIN = {"threads", "resources.gpu"}


def test_every_placeholder_in_a_shell_command_is_quoted(project):
    """Also where today's configurations allow no dangerous character."""
    commands = 0
    for path in (project / "workflow/rules").glob("*.smk"):
        for block in re.findall(r"^    shell:\n((?:        .*\n|\n)+)", path.read_text(), re.M):
            commands += 1
            found = re.findall(r"(?<!\{)\{([^{}]+)\}(?!\})", block)
            assert all(name.endswith(":q") or name in PLAIN for name in found), (path.name, found)
    assert commands >= 10
