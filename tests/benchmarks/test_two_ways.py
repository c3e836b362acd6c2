"""Comparisons of one configuration trained in two ways: bfloat16 against float32, halving against the full grid."""

import json

import pytest

from benchmarks import equivalence, halving
from benchmarks.trained import merged
from ept.config.configuration import parse_configuration
from ept.plan.experiment import Experiment
from ept.results.records import collect
from results.records import write_runs

SETTINGS = {"tasks": {"target": ["sst2", "rte"]}, "methods": ["pt"], "few_shot": {"k": []}}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes runs of PT by task and reads them again; `right`: how many of 200 rows each seed has right."""
    monkeypatch.chdir(tmp_path)

    def write(dtype, right, rates=None):
        values = SETTINGS | {"backbone": {"name": "demo-t5", "source": "demo", "dtype": dtype}}
        found = {}
        for pack in Experiment(parse_configuration(values)).table_packs("main"):
            write_runs(pack, right[pack.task], learning_rates=(rates or {}).get(pack.task, {"prompt": 0.3}))
            found[pack.task] = collect([pack])[0]
        return {"pt": found}

    return write


def test_a_difference_is_paired_by_seed_and_averaged_over_tasks(written):
    first = written("float32", {"sst2": [150, 160, 170], "rte": [100, 100, 100]})
    second = written("bfloat16", {"sst2": [154, 164, 174], "rte": [108, 108, 108]})
    (record,) = equivalence.compared(first, second)
    assert record["tasks"]["sst2"]["difference"] == pytest.approx(2.0)
    assert record["tasks"]["rte"]["difference"] == pytest.approx(4.0)
    assert record["difference"] == pytest.approx(3.0)
    low, high = record["interval"]
    assert low < 3.0 < high and not record["within"]


def test_equivalent_is_what_has_its_whole_interval_within_a_point(written):
    same = {"sst2": [150, 160, 170], "rte": [100, 110, 120]}
    (record,) = equivalence.compared(written("float32", same), written("bfloat16", same))
    assert record["difference"] == 0.0
    assert record["within"] == (max(map(abs, record["interval"])) <= equivalence.WITHIN)


def test_choices_are_counted_by_task_and_cost_is_a_difference_of_test_scores(written):
    full = written("float32", {"sst2": [150, 160, 170], "rte": [100, 100, 100]})
    other = {"rte": {"prompt": 0.1}}
    halved = written("bfloat16", {"sst2": [150, 160, 170], "rte": [96, 96, 96]}, other)
    (record,) = halving.compared(full, halved)
    assert record["same"] == 1
    assert record["cost"] == pytest.approx(-1.0)
    assert record["tasks"]["rte"]["rates"] == [{"prompt": 0.3}, {"prompt": 0.1}]
    assert record["tasks"]["rte"]["test"] == pytest.approx([50.0, 48.0])
    result = {"hardware": {"cpu": "a processor", "cores": 2}, "steps": 200}
    table = halving.markdown(result | {"methods": [record | {"cpu_seconds": [10.0, 5.0]}]})
    assert "0.1 in place of 0.3" in table and "sst2" not in table


def test_changes_replace_single_values_of_a_section():
    values = {"training": {"steps": 3, "learning_rates": {"pt": {"prompt": [0.3]}}}, "seeds": [0]}
    changed = merged(values, {"training": {"learning_rates": {"pt": {"prompt": [0.1]}}}, "seeds": [1]})
    assert changed == {"training": {"steps": 3, "learning_rates": {"pt": {"prompt": [0.1]}}}, "seeds": [1]}
    assert values["seeds"] == [0] and values["training"]["learning_rates"] == {"pt": {"prompt": [0.3]}}


@pytest.mark.long
@pytest.mark.parametrize("command", [halving, equivalence])
def test_both_ways_are_trained_and_compared_in_miniature(command, tmp_path):
    folder = ["--folder", str(tmp_path), "--out", str(tmp_path / "out")]
    command.main([*folder, "--tasks", "cb", "--steps", "8", "--cores", "1"])
    name = command.__name__.rpartition(".")[2]
    result = json.loads((tmp_path / f"out/{name}.json").read_text())
    assert len(result["methods"]) == (3 if command is halving else 4)
    assert all(list(record["tasks"]) == ["cb"] for record in result["methods"])
    assert all(min(record["cpu_seconds"]) > 0 for record in result["methods"])
    runs = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("runs.json")]
    assert len(runs) == 2 * len(result["methods"])
    if command is halving:
        # Of three rates one is dropped after a quarter of the steps and one after half of them, each with three seeds.
        dropped = sorted(sum(run["status"] == "halved" for run in record["runs"]) for record in runs)
        assert dropped == [0, 0, 0, 6, 6, 6]
    else:
        assert sorted(record["dtype"] for record in runs) == ["bfloat16"] * 4 + ["float32"] * 4
    assert str(tmp_path) not in (tmp_path / f"out/{name}.json").read_text()
