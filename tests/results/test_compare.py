"""`ept compare`: two configurations or tables side by side, with paired tests and the settings that differ."""

import numpy as np
import pytest
import yaml

from ept.cli import main
from ept.config.configuration import parse_configuration
from ept.plan.experiment import Experiment
from ept.results.compare import OTHER_DATA, SAME_RUNS, compare, flat
from ept.results.records import collect
from ept.results.statistics import holm, metric_sample, paired_difference
from ept.results.write import write_table
from results.records import write_runs

VALUES = {
    "tasks": {"target": ["rte", "cb"], "source": []},
    "methods": ["pt", "ept"],
    "seeds": [0, 1, 2, 3, 4],
    "few_shot": {"k": [4], "initialize_from": ["scratch"]},
}
RIGHT = {
    "a": {"pt": (100, 104, 96, 98, 102), "ept": (150, 152, 148, 151, 149)},
    "b": {"ept": (180, 181, 179, 183, 177)},
}


@pytest.fixture
def both(tmp_path, monkeypatch):
    """Two finished configurations, a.yaml and b.yaml, which differ in EPT's number of spaces, and their experiments."""
    monkeypatch.chdir(tmp_path)
    experiments = []
    for name, spaces in (("a", 4), ("b", 2)):
        values = {**VALUES, "output": f"out_{name}", "ept": {"spaces": spaces}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
        experiment = Experiment(parse_configuration(values))
        for pack in experiment.tables["main"]:
            if pack.method in RIGHT[name]:
                write_runs(pack, right=RIGHT[name][pack.method])
        write_table(experiment, "main")
        experiments.append(experiment)
    return experiments


def test_differences_are_those_of_the_paired_test_and_shared_runs_are_named(both, tmp_path):
    layout, settings = compare(tmp_path / "a.yaml", tmp_path / "b.yaml")
    lines = {(line[0].text, line[1].text): [cell.text for cell in line] for line in layout.lines}
    assert lines["PT", "All"][2:4] == ["50.0", "50.0"] and lines["PT", "All"][-1] == SAME_RUNS
    assert lines["EPT", "RTE acc."][2:5] == ["75.0", "90.0", "+15.0"]
    results = [
        {result.pack.task: result for result in collect(experiment.tables["main"]) if result.pack.method == "ept"}
        for experiment in both
    ]
    a, b = ({task: metric_sample(result, "accuracy") for task, result in side.items()} for side in results)
    found = [
        paired_difference([b[task] for task in tasks], [a[task] for task in tasks]).p
        for tasks in (["rte", "cb"], ["rte"], ["cb"])
    ]
    for (_, name), p in zip([("EPT", "All"), ("EPT", "RTE acc."), ("EPT", "CB acc.")], holm(found), strict=True):
        printed = lines["EPT", name][-1]
        assert (p < 0.001) == (printed == "< 0.001") and (p < 0.001 or np.isclose(float(printed), p, rtol=0.05))
    assert settings == ["ept.spaces: 4 | 2"]


def test_two_tables_are_compared_as_their_configurations_are(both, tmp_path):
    tables = compare(tmp_path / "out_a/main.csv", tmp_path / "out_b/main.csv")
    configurations = compare(tmp_path / "a.yaml", tmp_path / "b.yaml")
    assert tables[0].lines == configurations[0].lines and tables[1] == configurations[1]


def test_other_test_examples_are_not_paired(both, tmp_path, monkeypatch):
    monkeypatch.setattr("results.records.ROWS", 100)
    for pack in both[1].tables["main"]:
        if pack.method == "ept":
            write_runs(
                pack, right=(80, 81, 79, 83, 77), data_fingerprints={"train": "a", "validation": "b", "test": "d"}
            )
    (tmp_path / "b.yaml").write_text(
        yaml.safe_dump({**VALUES, "output": "out_b", "ept": {"spaces": 2}, "methods": ["ept"]})
    )
    layout, _ = compare(tmp_path / "a.yaml", tmp_path / "b.yaml")
    assert {line[-1].text for line in layout.lines} == {OTHER_DATA}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.yaml", "none.yaml"], ["none.yaml"]),
        (["a.yaml", "out_a/main.csv", "--table", "main"], ["out_a/main.csv", "--table"]),
        (["a.yaml", "b.yaml", "--table", "fewshot_k5"], ["fewshot_k5", "main"]),
        (["a.yaml", "b.yaml", "--table", "fewshot_k4"], ["runs.json"]),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(both, capsys, arguments, words):
    assert main(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(word in error for word in words)


def test_nested_keys_become_one_name():
    assert flat({"a": {"b": {"c": 1}, "d": [2]}, "e": None}) == {"a.b.c": 1, "a.d": [2], "e": None}
