"""Our scores next to published ones: what is compared, what is comparable, and which differences are named."""

import csv
import os
from pathlib import Path

import pytest

from data.task_rows import write_local
from ept.config.configuration import PUBLISHED_BACKBONE, load_configuration, parse_configuration
from ept.plan.experiment import Experiment
from ept.results.tables.comparison import SOURCES, make_table, read_published
from ept.results.write import write_table
from ept.tasks.registry import get_task, suite_of
from results.records import edit_record, write_runs

# T5-base on published data sets; it is not read.
T5_BASE = {
    "backbone": {"name": "t5-base", "source": "hub", "id": "google-t5/t5-base", "revision": "0" * 40},
    "data": {"source": "local", "path": "data"},
}


def _write(tmp_path, monkeypatch, methods=("pt", "dept", "ept"), **settings):
    """The comparison of runs with 120 of 200 (seed 0) and 140 of 200 (seed 1) right: CSV rows, and Markdown."""
    monkeypatch.chdir(tmp_path)
    for task in ("rte", "cb"):
        write_local(tmp_path / "data", get_task(task))
    values = {"tasks": {"target": ["rte", "cb"]}, "methods": list(methods), "seeds": [0, 1]}
    few_shot = {"k": [], "initialize_from": ["scratch"]}
    experiment = Experiment(parse_configuration(values | {"few_shot": few_shot} | settings))
    for pack in experiment.tables["main"]:
        write_runs(pack, (120, 140))
    write_table(experiment, "comparison")
    with open(tmp_path / "results/comparison.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return experiment, rows, (tmp_path / "results/comparison.md").read_text()


def test_published_scores_stand_beside_ours(tmp_path, monkeypatch):
    experiment, rows, markdown = _write(tmp_path, monkeypatch, **T5_BASE)
    assert "comparison" in experiment.default_tables
    found = {(row["method"], row["task"], row["published_method"]): row for row in rows}
    # Two papers ran PT; nothing of EPT is published by task.
    assert set(found) == {
        *((method, task, printed) for task in ("rte", "cb") for method, printed in [("dept", "DePT"), ("ept", "")]),
        *(("pt", task, printed) for task in ("rte", "cb") for printed in ("PT", "PT (ULPT re-run)")),
    }
    row = found["dept", "rte", "DePT"]
    assert (row["mean"], row["published"], row["gap"], row["comparable"]) == ("65.0000", "79.1000", "-14.1000", "yes")
    assert row["published_source"] == "run by Shi & Lipani 2024; single seed"
    assert row["published_parameters"] == "76.8K" and row["published_backbone"] == "t5-base"
    assert row["difference"].startswith("batch 16, there 32; one seed there; prompts start from")
    # What no setting changes is always said.
    for words in ("clipped", "weight decay", "epsilon 1e-8, there 1e-6", "like length", "dropout 0"):
        assert words in row["difference"]
    assert ("macro-F1" in found["dept", "cb", "DePT"]["difference"]) and "macro-F1" not in row["difference"]
    for task in ("rte", "cb"):
        row = found["ept", task, ""]
        assert [row[key] for key in ("published", "published_source", "comparable", "gap")] == [""] * 4
        assert row["mean"] == "65.0000" and "no published score" in row["difference"]
    lines = [line.split(" | ") for line in markdown.splitlines()]
    assert lines[0] == ["| method", "parameters", "RTE acc.", "CB acc. |"]
    assert ["| DePT here", "1,000", "65.0 ± 7.1", "65.0 ± 7.1 |"] in lines
    assert ["| DePT on t5-base, run by Shi & Lipani 2024; single seed", "", "79.1", "92.9 |"] in lines
    assert "**" not in markdown and "<u>" not in markdown


def test_another_backbone_is_not_comparable(tmp_path, monkeypatch):
    experiment, rows, markdown = _write(tmp_path, monkeypatch, methods=["pt"])
    assert "comparison" not in experiment.default_tables
    assert {row["comparable"] for row in rows} == {"no"} and {row["gap"] for row in rows} == {""}
    for row in rows:
        assert "backbone demo-t5, there t5-base; generated data, there the published set" in row["difference"]
    assert "| PT here (demo-t5: not comparable) | 1,000 |" in markdown


def test_settings_other_than_the_papers_are_named(tmp_path, monkeypatch):
    training = {"steps": 900, "batch_size": 8, "patience": 3, "learning_rates": {"pt": {"prompt": [0.3]}}}
    data = T5_BASE["data"] | {"source_length": {"rte": 64}}
    _, rows, _ = _write(tmp_path, monkeypatch, methods=["pt"], **T5_BASE | {"training": training, "data": data})
    by_task = {row["task"]: row["difference"] for row in rows if row["published_method"] == "PT"}
    said = "900 steps, there 30,000 or 300,000; batch 8, there 16; {}learning rates not from the papers' grid; "
    said += "runs may end early; "
    assert by_task["rte"].startswith(said.format("texts cut at 64 pieces, there at 256; "))
    assert by_task["cb"].startswith(said.format(""))


def test_another_precision_is_named(tmp_path, monkeypatch):
    experiment, rows, _ = _write(tmp_path, monkeypatch, methods=["pt"], **T5_BASE)
    assert not any("float32" in row["difference"] for row in rows)
    packs = experiment.tables["main"]
    edit_record(packs[0], dtype="bfloat16")
    edit_record(packs[1], tf32=True)
    rows, _ = make_table(experiment, packs)
    for row in rows:
        found = {"rte": "bfloat16, there float32", "cb": "float32 (products in TF32), there float32"}[row["task"]]
        assert found in row["difference"].split("; ")


def test_generated_data_are_comparable_with_nothing():
    values = {"tasks": {"target": ["rte"]}, "methods": ["pt"], "backbone": T5_BASE["backbone"]}
    assert not parse_configuration(values).has_published_backbone
    assert parse_configuration(values | {"data": T5_BASE["data"]}).has_published_backbone


def test_the_papers_configuration_compares_by_default(project):
    assert load_configuration(project / "config/paper.yaml").has_published_backbone
    for name in ("config.yaml", "demo_full.yaml", "local.yaml"):
        assert not load_configuration(project / "config" / name).has_published_backbone


def test_published_scores_are_sound():
    published = read_published()
    assert {score["backbone"] for score in published} == {PUBLISHED_BACKBONE}
    assert "ept" not in {score["method"] for score in published}
    assert all(score["source"] for score in published)
    averages = [score for score in published if score["metric"] == "average"]
    scores = [score for score in published if score["metric"] != "average"]
    for score in scores:
        assert score["metric"] == get_task(score["task"]).metrics[0], score
    assert all(0 < float(score["value"]) < 100 for score in published)
    keys = [(score["printed_as"], score["task"]) for score in published]
    assert len(set(keys)) == len(keys) and len(scores) == 15 * 13 + 8 + 9 * 8
    for average in averages:
        suite = [
            float(score["value"])
            for score in scores
            if score["printed_as"] == average["printed_as"] and suite_of(score["task"]) == average["task"]
        ]
        # Papers round each score; where only averages are printed there is nothing to compare.
        assert not suite or abs(sum(suite) / len(suite) - float(average["value"])) < 0.11, average
    assert set(SOURCES) < {score["source"] for score in published}


def test_published_scores_are_those_that_were_collected():
    path = Path(os.environ.get("EPT_TEST_DATA") or ".").parent / "published_results.csv"
    if not path.is_file():
        pytest.skip("needs published_results.csv beside the folder that EPT_TEST_DATA names")
    with path.open(newline="") as file:
        collected = list(csv.DictReader(file))
    printed = {score["method"] for score in collected}
    tasks = {score["task"] for score in collected}
    ours = [
        {**score, "method": score["printed_as"]}
        for score in read_published()
        if score["printed_as"] in printed and score["task"] in tasks
    ]
    assert [{key: score[key] for key in collected[0]} for score in ours] == collected
