"""What the rules of the workflow need: the configuration, lists that make Snakemake notice changes, files to report."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest

from ept.config.configuration import parse_configuration
from ept.errors import InputError
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.plan.tables import MAIN, SUMMARY, ZERO_SHOT
from ept.plan.targets import (
    FIGURES,
    PAGES,
    Targets,
    made_from,
    next_steps,
    settings_file,
    workflow_configuration,
)

VALUES = {"tasks": {"target": ["cb"], "source": ["rte"]}, "methods": ["pt", "spot"], "few_shot": {"k": [4]}}
NAMES = [MAIN, "fewshot_k4", SUMMARY, ZERO_SHOT, FIGURES, PAGES]
# The time of every finished file, as a copy without time stamps has it.
MADE = 1_000_000_000


@pytest.fixture
def targets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Targets(Experiment(parse_configuration(VALUES)))


def finish(targets, name, parts):
    """Write the settings file of something finished that was made from `parts`."""
    settings = settings_file(targets.output, name)
    settings.parent.mkdir(parents=True, exist_ok=True)
    key = "runs" if name in (MAIN, "fewshot_k4", SUMMARY) else "made_from"
    settings.write_text(json.dumps({key: [{"folder": part} for part in parts] if key == "runs" else parts}))
    os.utime(settings, (MADE, MADE))


def is_newer(path):
    """Whether Snakemake makes again what depends on the file."""
    return path.stat().st_mtime > MADE


@pytest.mark.parametrize("name", NAMES)
def test_a_list_is_new_only_for_what_was_made_from_something_else(targets, name):
    parts = made_from(targets.experiment, name)
    assert targets.write_lists()[name].read_text().splitlines() == parts
    finish(targets, name, parts)
    assert not is_newer(targets.write_lists()[name])
    for other in (parts[1:], [*parts, "runs/another"], ["another", *parts[1:]]):
        finish(targets, name, other)
        assert is_newer(targets.write_lists()[name])
    # And back again, whatever came between.
    finish(targets, name, parts)
    assert not is_newer(targets.write_lists()[name])


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"{}", b'{"runs": 1}', b'{"runs": [{}]}'])
def test_settings_that_cannot_be_read_are_of_something_else(targets, content):
    settings = settings_file(targets.output, MAIN)
    settings.parent.mkdir(parents=True)
    settings.write_bytes(content)
    assert is_newer(targets.write_lists()[MAIN])


@pytest.mark.parametrize("content", [b"\xff\xfe", b"another\n"])
def test_a_list_with_any_other_content_is_rewritten(targets, content):
    path = targets.write_lists()[MAIN]
    text = path.read_bytes()
    path.write_bytes(content)
    assert targets.write_lists()[MAIN].read_bytes() == text


def test_a_job_of_a_cluster_leaves_the_times_alone(targets):
    for path in targets.write_lists().values():
        os.utime(path, (7, 7))
    lists = targets.write_lists(refresh=False)
    assert {path.stat().st_mtime for path in lists.values()} == {7}
    lists[MAIN].unlink()
    assert targets.write_lists(refresh=False)[MAIN].exists()


@pytest.mark.parametrize("output", ["results", "results/second", "/somewhere/else", "../next"])
def test_names_of_logs_stay_in_their_folder_and_differ(output):
    name = paths.job_name(output)
    assert not name.is_absolute() and ".." not in name.parts
    others = {"results", "results/second", "/somewhere/else", "../next", "somewhere/else", "/results"} - {output}
    assert name not in map(paths.job_name, others)


@pytest.mark.parametrize("values", [{}, VALUES])
def test_the_default_configuration_is_read_only_if_no_other_is_given(tmp_path, values):
    default = tmp_path / "default.yaml"
    default.write_text("tasks: {target: [wic]}\nmethods: [pt]\n")
    read = workflow_configuration(values, [], default)
    assert list(read.tasks.target) == (["cb"] if values else ["wic"])


def test_a_key_that_occurs_twice_is_refused_although_snakemake_merges_it(tmp_path):
    file = tmp_path / "twice.yaml"
    file.write_text("tasks: {target: [cb]}\nseeds: [0]\nseeds: [1]\n")
    with pytest.raises(InputError, match="seeds"):
        workflow_configuration({"tasks": {"target": ["cb"]}, "seeds": [1]}, [file], file)


@pytest.mark.parametrize("configuration", [None, Path("my files/it's.yaml")])
def test_the_commands_of_the_next_steps_are_those_of_the_run(configuration):
    show, report = map(shlex.split, re.findall("`([^`]+)`", next_steps("my results", configuration)))
    file = [str(configuration)] if configuration else []
    assert show == ["ept", "show", *(["--config", *file] if file else [])]
    assert report[:3] == ["snakemake", "--report", "my results/report.zip"]
    assert report[3:] == (["--configfile", *file] if file else [])


def test_the_report_shows_every_figure_as_a_page_and_as_a_drawing(targets, tmp_path):
    titles = {"few_shot": "Few-shot curves", "validation": "Validation curves"}
    files = targets.figures_in_report(titles, tmp_path)
    assert list(files) == targets.figures(titles)
    shown = {path: about for path, about in files.items() if about}
    assert {(path.stem, path.suffix) for path in shown} == {(name, end) for name in titles for end in (".svg", ".html")}
    for path, about in shown.items():
        assert about["caption"] == str((tmp_path / path).with_suffix(".txt").resolve())
    labels = [tuple(about["labels"].values()) for about in shown.values()]
    assert len(set(labels)) == len(labels) and all(
        titles[path.stem] in figure for path, (figure, _) in zip(shown, labels, strict=True)
    )
