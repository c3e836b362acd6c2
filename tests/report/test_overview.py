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
    assert re.search(r"demo-t5\b.*\bseed 0\b", text) and re.search(r"\*\*.*not science\*\*", text)
    config = load_configuration("config/config.yaml")
    assert f"- Target tasks: {', '.join(get_task(task).title for task in config.tasks.target)}\n" in text
    assert f"- Methods: {', '.join(METHODS[method].title for method in config.methods)}\n" in text
    packs = Experiment(config).packs
    sources = sum(pack.regime == SOURCE for pack in packs)
    for number in (sum(pack.number_of_runs for pack in packs), len(packs), sources):
        assert re.search(rf"\b{number}\b", text)


def test_it_says_what_was_left_out_and_why(text):
    left_out = text[text.index("Left out") :]
    for name, key in (
        ("Figure Ablation of EPT", "``ablation.tasks``"),
        ("Figure Learning-rate sensitivity", "``training.learning_rates``"),
        ("Figure Images, questions and answers", "images"),
        ("Table ``comparison``", "published"),
        ("Table ``ablation``", "``ablation.tasks``"),
        ("Table ``transfer``", "``transfer.methods``"),
        ("Table ``learning_rates``", "``rate_study``"),
    ):
        assert any(line.startswith(f"- {name} (") and key in line for line in left_out.splitlines()), name
    assert [line.split()[1] for line in left_out.splitlines()[2:]] == ["Table"] * 4 + ["Figure"] * 5


def test_docutils_finds_nothing_wrong(text):
    html = publish_parts(text, writer="html", settings_overrides={"halt_level": 2})["html_body"]
    assert re.search("<strong>[^<]*not science</strong>", html)
