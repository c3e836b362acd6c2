"""significance.csv from records written by hand: what is compared, and numbers that SciPy knows."""

import csv

import numpy as np
import pytest
from scipy import stats

from ept.config.configuration import parse_configuration
from ept.errors import InputError
from ept.plan.experiment import Experiment
from ept.results.statistics import holm
from ept.results.tables.significance import pairs
from ept.results.write import write_table
from results.records import ROWS, write_runs

VALUES = {
    "tasks": {"target": ["rte", "mrpc", "cb"], "source": ["mnli"]},
    "methods": ["pt", "spot", "dept", "ept"],
    "seeds": [0, 1],
    "few_shot": {"k": [4], "initialize_from": ["scratch", "source"]},
}
RIGHT = {"pt": (100, 100), "spot": (150, 160), "dept": (150, 170), "ept": (160, 160)}


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = Experiment(parse_configuration(VALUES))
    for pack in experiment.table_packs("significance"):
        write_runs(pack, RIGHT[pack.method])
    write_table(experiment, "significance")
    with open("results/significance.csv", newline="") as file:
        return list(csv.DictReader(file))


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


def test_a_row_holds_the_difference_its_interval_and_the_p_value(rows):
    (row,) = (r for r in rows if (r["regime"], r["method_b"], r["task"]) == ("full", "pt", "rte"))
    # Both seeds: 160 and 100 of 200 right, nested, so that the seeds say nothing and 60 rows differ.
    right = [np.arange(ROWS) < count for count in (160, 100)]
    expected = stats.ttest_rel(right[0].astype(float), right[1].astype(float))
    assert (row["difference"], row["mean_a"], row["mean_b"], row["seeds"]) == ("30.0000", "80.0000", "50.0000", "2")
    low, high = (100 * bound for bound in expected.confidence_interval())
    assert [float(row["ci_low"]), float(row["ci_high"])] == pytest.approx([low, high], abs=1.0)
    assert 1e-300 < float(row["p"]) < 1e-9


def test_p_values_are_corrected_within_a_regime_averages_apart(rows):
    for regime in ("full", "k4"):
        for average in (False, True):
            family = [r for r in rows if r["regime"] == regime and (r["metric"] == "average") == average]
            expected = holm([float(row["p"]) for row in family])
            assert [float(row["p_corrected"]) for row in family] == pytest.approx(expected, rel=0.01)


def test_readers_see_what_a_test_finds_in_bold(rows, tmp_path):
    lines = (tmp_path / "results/significance.md").read_text().splitlines()
    assert lines[0] == "| regime | comparison | RTE acc. | MRPC acc. | GLUE | CB acc. | All |"
    assert "| full | EPT from scratch − PT from scratch | **+30.0** | **+30.0** |" in lines[2]
    assert "| full | EPT from scratch − DePT from scratch | +0.0 | +0.0 |" in lines[4]
    assert (
        r"EPT from scratch $-$ PT from scratch & \textbf{+30.0}" in (tmp_path / "results/significance.tex").read_text()
    )


def test_a_method_without_a_choice_of_starts_meets_both_of_epts():
    starts = [("pt", "scratch"), ("ept", "scratch"), ("ept", "source")]
    assert pairs(starts) == [
        (("ept", "scratch"), ("pt", "scratch")),
        (("ept", "source"), ("pt", "scratch")),
        (("ept", "source"), ("ept", "scratch")),
    ]


def test_without_ept_there_is_nothing_to_compare():
    experiment = Experiment(parse_configuration(VALUES | {"methods": ["pt", "spot"]}))
    with pytest.raises(InputError, match="no table significance .*name ept and another method in methods"):
        experiment.table_packs("significance")
