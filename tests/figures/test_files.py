"""What is written: four files a figure, the same bytes every time, nothing of another configuration."""

import json
import re

import pytest
import yaml

from ept.cli import main
from ept.config.configuration import load_configuration, parse_configuration
from ept.errors import InputError
from ept.figures.registry import FIGURES, LEAST_POINTS, asked_for, left_out
from ept.figures.write import caption, write_figures
from ept.files import DIGESTS
from ept.plan.experiment import Experiment
from ept.plan.paths import figure_files
from results.records import write_record

ALL = {kind.name for kind in FIGURES} - {"transfer", "pictures"}
ALWAYS = {"validation"}


def _written(folder):
    return {path.name: path.read_bytes() for path in (folder / "results/figures").iterdir()}


def test_every_figure_has_its_files_with_the_same_bytes_twice(experiment, folder):
    (folder / "my.yaml").write_text(experiment.config.model_dump_json())
    assert main(["figures", "--config", "my.yaml"]) == 0
    first = _written(folder)
    settings = json.loads(first.pop("settings.json"))
    assert set(settings["figures"]) == ALL and set(settings[DIGESTS]) == set(first)
    assert set(first) == {f"{name}.{ending}" for name in ALL for ending in ("svg", "png", "txt", "html")}
    assert b"<dc:date>" not in first["parameters.svg"]
    # The second time for a configuration without ablations.
    values = {**experiment.config.model_dump(mode="json"), "ablation": {"tasks": []}}
    write_figures(Experiment(parse_configuration(values)))
    kept = {name: content for name, content in first.items() if not name.startswith(("ablation", "sensitivity"))}
    second = _written(folder)
    assert "ablation.tasks" in json.loads(second.pop("settings.json"))["left_out"]["Ablation of EPT"]
    assert second == kept


def test_what_the_configuration_does_not_ask_for_is_left_out_with_a_reason():
    values = {"tasks": {"target": ["rte"]}, "methods": ["pt"], "few_shot": {"k": [], "initialize_from": ["scratch"]}}
    values |= {"training": {"learning_rates": {"pt": {"prompt": [0.3]}}}}
    experiment = Experiment(parse_configuration(values))
    assert {kind.name for kind in asked_for(experiment)} == ALWAYS
    reasons = left_out(experiment)
    assert "few_shot.k" in reasons["Few-shot curves"] and "ablation.tasks" in reasons["Ablation of EPT"]
    assert "methods" in reasons["Gate weights of EPT"]
    assert len(reasons) == len(FIGURES) - len(ALWAYS)


@pytest.mark.parametrize("number", [LEAST_POINTS - 1, LEAST_POINTS])
def test_figures_of_one_point_a_method_need_several_methods(number):
    values = {"tasks": {"target": ["rte"], "source": []}, "methods": ["pt", "dept", "ept", "bitfit"][:number]}
    experiment = Experiment(parse_configuration(values | {"few_shot": {"initialize_from": ["scratch"]}}))
    points = {"parameters", "training_time"}
    assert points & {kind.name for kind in asked_for(experiment)} == (points if number == LEAST_POINTS else set())


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("config.yaml", {"ablation", "sensitivity", "learning_rates"}),
        ("paper.yaml", set()),
    ],
)
def test_shipped_configurations_ask_for_all_figures_that_their_runs_can_make(project, name, missing):
    experiment = Experiment(load_configuration(project / "config" / name))
    assert {kind.name for kind in asked_for(experiment)} - {"transfer"} == ALL - missing


def test_captions_say_what_is_shown_and_on_what(experiment):
    for kind in asked_for(experiment):
        text = caption(kind, experiment)
        assert re.search(r"demo-t5\b.*\bseed 0\b.*not science", text)
        assert text.endswith("Tasks: RTE, CB; seeds: 0, 1.\n")
        # Of figures that move points on the horizontal axis.
        assert ("side by side" in text or "shifted" in text) == (kind.name in ("parameters", "few_shot"))


def test_a_missing_table_is_one_sentence(experiment, folder, capsys):
    path = folder / "results/fewshot_k16.csv"
    content = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(InputError, match=r"results/fewshot_k16\.csv"):
            write_figures(experiment)
    finally:
        path.write_bytes(content)


def test_a_record_of_other_settings_is_refused(experiment):
    pack = experiment.table_packs("main")[0]
    record = json.loads((pack.folder / "runs.json").read_text())
    write_record(pack, record | {"hash": "deadbeef"})
    try:
        with pytest.raises(InputError, match="deadbeef"):
            write_figures(experiment)
    finally:
        write_record(pack, record)


def test_a_table_that_was_changed_is_refused(experiment, folder):
    path = folder / "results/fewshot_k16.csv"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"66", b"67", 1))
    assert path.read_bytes() != content
    try:
        with pytest.raises(InputError, match=r"results/fewshot_k16\.csv"):
            write_figures(experiment)
    finally:
        path.write_bytes(content)


def test_the_pictures_that_dvc_shows_are_drawn(project):
    plots = yaml.safe_load((project / "dvc.yaml").read_text())["plots"]
    pictures = {plot for plot in plots if isinstance(plot, str)}
    assert pictures and pictures <= {str(figure_files("${output}", kind.name)[1]) for kind in FIGURES}
