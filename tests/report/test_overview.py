"""The landing page says what was run and what was left out, and is sound reStructuredText."""

import re

import pytest
from docutils.core import publish_parts

from ept.config.configuration import load_configuration
from ept.config.settings import SOURCE
from ept.methods.registry import METHODS
from ept.plan.experiment import Experiment
from ept.report.write import overview
from ept.tasks.registry import get_task


@pytest.fixture(scope="module")
def text(project):
    return overview(Experiment(load_configuration(project / "config/config.yaml")))


def test_it_names_the_run(text, project, monkeypatch):
    monkeypatch.chdir(project)
    assert "Backbone: demo-t5; data: a benchmark generated with seed 0" in text
    assert "**It is a demonstration, not science**" in text
    config = load_configuration("config/config.yaml")
    assert f"- Target tasks: {', '.join(get_task(task).title for task in config.tasks.target)}\n" in text
    assert f"- Methods: {', '.join(METHODS[method].title for method in config.methods)}\n" in text
    packs = Experiment(config).packs
    sources = sum(pack.regime == SOURCE for pack in packs)
    for number in (sum(pack.number_of_runs for pack in packs), len(packs), sources):
        assert re.search(rf"\b{number}\b", text)


def test_it_says_what_was_left_out_and_why(text):
    left_out = text[text.index("Left out") :]
    assert "- Figure Ablation of EPT (``ablation.tasks`` names no task)\n" in left_out
    assert (
        "- Figure Learning-rate sensitivity (``training.learning_rates`` gives every method one combination" in left_out
    )
    assert "- Table ``comparison`` (only for the backbone of published scores)\n" in left_out
    assert "- Table ``ablation`` (to have it, name tasks in ``ablation.tasks``)\n" in left_out
    assert "- Table ``transfer`` (to have it, name methods in ``transfer.methods``)\n" in left_out
    assert "name several rates in ``training.learning_rates``, or a ``rate_study``)\n" in left_out
    assert [line.split()[1] for line in left_out.splitlines()[2:]] == ["Table"] * 4 + ["Figure"] * 4


def test_docutils_finds_nothing_wrong(text):
    html = publish_parts(text, writer="html", settings_overrides={"halt_level": 2})["html_body"]
    assert "<strong>It is a demonstration, not science</strong>" in html
