"""The transfer matrix: gains in their places, the diagonal hatched, the chosen source framed."""

import csv

import numpy as np
import pytest

from ept.config.configuration import parse_configuration
from ept.figures.data import Results
from ept.figures.style import figure_style
from ept.figures.transfer import draw
from ept.plan.experiment import Experiment
from results.records import sign_table

COLUMNS = ("method", "regime", "task", "source", "metric", "gain", "choice")
ROWS = [
    ("ept", "k16", "cb", "mnli", "accuracy", 12.0, "chosen"),
    ("ept", "k16", "cb", "mnli", "macro_f1", 99.0, "chosen"),
    ("ept", "k16", "cb", "sst2", "accuracy", -4.0, "not chosen"),
    ("ept", "k16", "sst2", "mnli", "accuracy", -8.0, "chosen"),
    ("ept", "k16", "sst2", "sst2", "accuracy", "", "own task"),
    ("attempt", "k16", "sst2", "mnli", "accuracy", -7.0, "all"),
    ("attempt", "k16", "cb", "mnli+sst2", "accuracy", 50.0, "all"),
    ("ept", "full", "cb", "mnli", "accuracy", 50.0, "chosen"),
]


@pytest.fixture
def figure(tmp_path, monkeypatch):
    """Drawn from the rows above, of which those of one source are no matrix."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    with open("results/transfer.csv", "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *ROWS])
    sign_table(tmp_path / "results/transfer.csv")
    experiment = Experiment(parse_configuration({"tasks": {"target": ["cb"], "source": ["mnli", "sst2"]}}))
    with figure_style():
        figure = draw(Results(experiment))
        figure.draw_without_rendering()
        yield figure


def test_gains_stand_by_source_and_target(figure):
    axes, together, bar = figure.axes
    assert axes.get_title() == "EPT, k = 16"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["MNLI", "SST-2"]
    gains = np.ma.filled(axes.images[0].get_array().astype(float), np.nan)
    assert np.array_equal(gains, [[12.0, -8.0], [-4.0, np.nan]], equal_nan=True)
    # No gain is the middle of the colors.
    assert axes.images[0].get_clim() == (-50.0, 50.0) and bar.get_ylabel() == "gain over scratch (points)"
    assert [text.get_text() for text in axes.texts] == ["+12", "-4", "-8"]

    # All source tasks together are a line of their own, under the same targets.
    assert together.get_title() == "ATTEMPT, k = 16"
    assert [label.get_text() for label in together.get_yticklabels()] == ["all others"]
    assert [label.get_text() for label in together.get_xticklabels()] == ["CB", "SST-2"]
    assert together.images[0].get_array().tolist() == [[50.0, -7.0]]
    assert not together.patches


def test_the_diagonal_is_hatched_and_the_chosen_source_framed(figure):
    def cell(patch):
        x, y = patch.get_xy()
        return round(y + patch.get_height() / 2), round(x + patch.get_width() / 2)

    patches = figure.axes[0].patches
    assert [cell(patch) for patch in patches if patch.get_hatch()] == [(1, 1)]
    assert sorted(cell(patch) for patch in patches if not patch.get_hatch()) == [(0, 0), (0, 1)]
