"""significance.csv from records written by hand: what is compared, and numbers that SciPy knows."""

import csv

import numpy as np
import pytest
from scipy import stats

from ept.config.configuration import parse_configuration
from ept.errors import InputError
from ept.methods.registry import METHODS, PRIMARY_RIVALS, SUBJECT
from ept.plan.experiment import Experiment
from ept.results.render import signed
from ept.results.statistics import LEVEL, holm
from ept.results.tables.significance import pairs
from ept.results.write import write_table
from results.records import ROWS, write_runs

VALUES = {
    "tasks": {"target": ["rte", "mrpc", "cb"], "source": ["mnli"]},
    "methods": ["pt", "spot", "dept", "ept"],
    "seeds": [0, 1, 2],
    "few_shot": {"k": [4], "initialize_from": ["scratch", "source"]},
}
RIGHT = {"pt": (100, 100, 100), "spot": (150, 160, 155), "dept": (150, 170, 160), "ept": (160, 160, 160)}


def _write(tmp_path, monkeypatch, values):
    monkeypatch.chdir(tmp_path)
    experiment = Experiment(parse_configuration(values))
    for pack in experiment.table_packs("significance"):
        right = RIGHT.get(pack.method, (150, 150, 150))
        write_runs(pack, (*right, 0)[: len(pack.seeds)])
    write_table(experiment, "significance")
    with (tmp_path / "results/significance.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """The rows of the table."""
    return _write(tmp_path, monkeypatch, VALUES)


def test_ept_is_compared_in_every_regime_from_every_start(rows):
    found = {(r["regime"], r["method_a"], r["start_a"], r["method_b"], r["start_b"]) for r in rows}
    assert found == {
        *(("full", "ept", "scratch", *other) for other in [("pt", "scratch"), ("spot", "source"), ("dept", "scratch")]),
        *(("k4", "ept", "scratch", *other) for other in [("pt", "scratch"), ("spot", "source"), ("dept", "scratch")]),
        *(("k4", "ept", "source", *other) for other in [("pt", "scratch"), ("spot", "source"), ("dept", "source")]),
        ("k4", "ept", "source", "ept", "scratch"),
    }
    columns = {(row["task"], row["metric"]) for row in rows}
    # SuperGLUE has one task here: its average would be that test again.
    averages = {(name, "average") for name in ("average_glue", "average")}
    assert columns == {("rte", "accuracy"), ("mrpc", "accuracy"), ("cb", "accuracy")} | averages
    assert len(rows) == 10 * 5


def test_the_average_of_a_suite_that_has_all_tasks_is_not_tested_again(tmp_path, monkeypatch):
    found = _write(tmp_path, monkeypatch, VALUES | {"tasks": {"target": ["rte", "mrpc"], "source": ["mnli"]}})
    assert {row["task"] for row in found} == {"rte", "mrpc", "average"}


def test_a_row_holds_the_difference_its_interval_and_the_p_value(rows):
    (row,) = (r for r in rows if (r["regime"], r["method_b"], r["task"]) == ("full", "pt", "rte"))
    # Every seed: 160 and 100 of 200 right, nested, so that the seeds say nothing and 60 rows differ.
    right = [np.arange(ROWS) < count for count in (160, 100)]
    expected = stats.ttest_rel(right[0].astype(float), right[1].astype(float))
    assert (row["difference"], row["mean_a"], row["mean_b"], row["seeds"]) == ("30.0000", "80.0000", "50.0000", "3")
    low, high = (100 * bound for bound in expected.confidence_interval())
    assert [float(row["ci_low"]), float(row["ci_high"])] == pytest.approx([low, high], abs=1.0)
    assert 1e-300 < float(row["p"]) < 1e-9


def test_p_values_are_corrected_within_the_families_of_a_regime(rows):
    for regime in ("full", "k4"):
        mine = [row for row in rows if row["regime"] == regime]
        primary = [row for row in mine if row["method_b"] in PRIMARY_RIVALS and row["task"] == "average"]
        assert [row for row in mine if row["family"] == "primary"] == primary and primary
        for family in ("primary", "exploratory"):
            tests = [row for row in mine if row["family"] == family]
            for name in ("p", "p_prompts"):
                expected = holm([float(row[name]) for row in tests])
                assert [float(row[f"{name}_corrected"]) for row in tests] == pytest.approx(expected, rel=0.02)


def test_claims_about_prompts_and_about_methods_stand_apart(rows):
    (row,) = (r for r in rows if (r["regime"], r["method_b"], r["task"]) == ("full", "dept", "rte"))
    # DePT's seeds are right on 150, 160 and 170 of 200 rows: on average as often as EPT's.
    assert float(row["difference"]) == 0 and float(row["p"]) == float(row["p_prompts"]) == 1
    (row,) = (r for r in rows if (r["regime"], r["method_b"], r["task"]) == ("full", "spot", "rte"))
    # SPoT's are right on 150, 155 and 160: of these prompts EPT's are better by 2.5 points.
    assert float(row["p_prompts"]) < 0.05 < float(row["p"])


def test_below_three_shared_seeds_nothing_is_corrected(tmp_path, monkeypatch):
    found = _write(tmp_path, monkeypatch, VALUES | {"seeds": [0, 1]})
    assert {(row["p_corrected"], row["p_prompts_corrected"]) for row in found} == {("", "")}
    assert all(float(row["p"]) > 0 for row in found)
    assert not any("**" in line for line in (tmp_path / "results/significance.md").read_text().splitlines())


def test_methods_with_fewer_seeds_are_compared_on_the_shared_ones(tmp_path, monkeypatch):
    methods = [next(name for name in METHODS if not METHODS[name].packed), SUBJECT]
    values = VALUES | {"methods": methods, "seeds": [0, 1, 2, 3], "weight_seeds": [0, 1, 2], "few_shot": {"k": []}}
    found = _write(tmp_path, monkeypatch, values)
    for row in found:
        # EPT's fourth seed, which is right on no row, has no partner.
        assert (row["seeds"], row["difference"]) == ("3", "5.0000")


def test_readers_see_difference_interval_and_p(rows, tmp_path):
    lines = (tmp_path / "results/significance.md").read_text().splitlines()
    assert lines[0] == "| regime | comparison | All | GLUE | RTE acc. | MRPC acc. | CB acc. |"
    found = {(row["method_b"], row["task"]): row for row in rows if row["regime"] == "full"}
    cells = {line.split(" | ")[1]: line.strip("| ").split(" | ") for line in lines[2:] if line.startswith("| full")}
    for method in ("pt", "dept"):
        cell = cells[f"EPT from scratch − {METHODS[method].title} from scratch"][4]
        row = found[method, "rte"]
        for column in ("difference", "ci_low", "ci_high"):
            assert signed(float(row[column])) in cell
        assert cell.startswith("**") == (float(row["p_corrected"]) < LEVEL)
        assert "p < 0.001" in cell if float(row["p_corrected"]) < 0.001 else "p = " in cell
        assert "§" not in cell and "§" in cells[f"EPT from scratch − {METHODS[method].title} from scratch"][2]
    assert r"\textbf{+30.0 (" in (tmp_path / "results/significance.tex").read_text()


def test_a_method_without_a_choice_of_starts_meets_both_of_epts():
    starts = [("pt", "scratch"), ("ept", "scratch"), ("ept", "source")]
    assert pairs(starts) == [
        (("ept", "scratch"), ("pt", "scratch")),
        (("ept", "source"), ("pt", "scratch")),
        (("ept", "source"), ("ept", "scratch")),
    ]


def test_without_ept_there_is_nothing_to_compare():
    experiment = Experiment(parse_configuration(VALUES | {"methods": ["pt", "spot"]}))
    with pytest.raises(InputError, match="significance.* ept "):
        experiment.table_packs("significance")
