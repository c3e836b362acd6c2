"""The landing page opens with the numbers of the tables: sentences, the main table, the few-shot picture."""

import re
from pathlib import Path

import pytest
from docutils.core import publish_parts

from ept.config.configuration import parse_configuration
from ept.figures.data import Results
from ept.plan.experiment import Experiment
from ept.report.write import findings, sentences
from ept.results.write import write_table
from results.records import write_runs

VALUES = {
    "tasks": {"target": ["rte", "cb"], "source": []},
    "methods": ["pt", "bitfit", "ept"],
    "seeds": [0, 1, 2, 3, 4],
    "weight_seeds": [0, 1, 2, 3, 4],
    "few_shot": {"k": [4], "initialize_from": ["scratch"]},
}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A function that writes runs with so many right answers of 200 by method, and the tables."""
    monkeypatch.chdir(tmp_path)
    experiment = Experiment(parse_configuration(VALUES))

    def make(right: dict[str, int]) -> Experiment:
        for table in ("main", "fewshot_k4"):
            for pack in experiment.tables[table]:
                write_runs(pack, right=(right[pack.method],) * 5)
        for table in ("main", "fewshot_k4", "significance"):
            write_table(experiment, table)
        picture = Path("results/figures/few_shot.svg")
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_text('<?xml version="1.0"?>\n<svg id="drawn">\n\n<g/></svg>')
        return experiment

    return make


def test_the_sentences_have_the_numbers_of_the_tables(made):
    experiment = made({"pt": 100, "bitfit": 190, "ept": 150})
    results = Results(experiment)
    rows = {row["method"]: row for row in results.averages("main")}
    best, tested, few = sentences(results)
    assert "BitFit" in best and f"{rows['bitfit']['mean']:.1f}" in best
    numbers = re.findall(r"\d+\.\d", best)
    assert numbers[1:] == [f"{rows['bitfit'][name]:.1f}" for name in ("ci_low", "ci_high", "majority_baseline")]
    assert re.search(r"better than PT and worse than BitFit", tested)
    assert "k = 4" in few and "BitFit" in few


def test_what_is_not_significant_is_not_claimed(made):
    _, tested, _ = sentences(Results(made({"pt": 120, "bitfit": 120, "ept": 121})))
    assert "not" in tested and "better" not in tested and "worse" not in tested


def test_the_page_holds_the_table_and_the_drawing_and_is_sound(made):
    text = findings(made({"pt": 100, "bitfit": 190, "ept": 150}))
    html = publish_parts(text, writer="html", settings_overrides={"halt_level": 2})["html_body"]
    assert html.count("<table>") == 1 and '<svg id="drawn">' in html and "<?xml" not in html
    assert re.findall(r"<td>(.+?)</td>", html) == ["majority", "PT", "BitFit", "EPT"]
