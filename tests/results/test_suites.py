"""Averages by suite, whatever the suites are called, and wide tables that stay readable."""

import re

import pytest

from ept.results.render import Cell, Layout, table_page, to_markdown
from ept.results.statistics import averaged_tasks, distinct_averages
from ept.results.tables.scores import column_group, column_order, column_title
from ept.tasks.record import Task
from ept.tasks.registry import TASKS


@pytest.fixture
def made_up(monkeypatch):
    """Two tasks of a suite that nobody has heard of."""
    for name in ("walls", "moons"):
        task = Task(
            name=name,
            suite="elsewhere",
            config=name,
            title=name.title(),
            kind="classification",
            columns={"text": "text"},
            template="{text}",
            metrics=("accuracy",),
            split="carve",
            sets=("madeup",),
            labels=("0", "1"),
        )
        monkeypatch.setitem(TASKS, name, task)


def test_a_made_up_suite_has_its_average_its_column_and_its_group(made_up):
    tasks = ["walls", "rte", "squad", "moons", "cb", "sst2"]
    assert averaged_tasks(tasks) == {
        "average_glue": ["rte", "sst2"],
        "average_super_glue": ["cb"],
        "average_madeup": ["walls", "moons"],
        "average": tasks,
    }
    # One task alone is its own average.
    assert list(distinct_averages(tasks)) == ["average_glue", "average_madeup", "average"]
    columns = [(task, "accuracy") for task in tasks] + [(name, "average") for name in distinct_averages(tasks)]
    ordered = sorted(columns, key=column_order)
    assert [name for name, _ in ordered] == [
        *("average", "average_glue", "average_madeup"),
        *("rte", "sst2", "cb", "walls", "moons", "squad"),
    ]
    assert column_title("average_madeup", "average") == "madeup" and column_title("average", "average") == "All"
    groups = [column_group(column) for column in ordered]
    assert groups == ["average"] * 3 + ["GLUE"] * 2 + ["SuperGLUE"] + ["madeup"] * 2 + [column_group(("squad", "f1"))]


def test_groups_stand_over_their_columns_and_titles_still_sort():
    layout = Layout(["method", "All", "RTE", "CB", "COPA"], [[Cell(text) for text in "a1234"]])
    page = table_page("t", to_markdown(layout), ["", "average", "GLUE", "SuperGLUE", "SuperGLUE"])
    spans = re.findall(r'<th colspan="(\d)">(.*?)</th>', page)
    assert spans == [("1", ""), ("1", "average"), ("1", "GLUE"), ("2", "SuperGLUE")]
    assert page.index("colspan") < page.index(">RTE<")
    assert "colspan" not in table_page("t", to_markdown(layout), ["", "", "GLUE", "GLUE", "GLUE"])
