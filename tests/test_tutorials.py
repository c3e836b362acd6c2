"""The tutorials run as notebooks: every cell, in order, in an empty folder."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
# The shortest stays in the fast suite.
FAST = "own-csv"


@pytest.fixture(scope="module")
def script():
    """The script that runs them and writes their pictures."""
    pytest.importorskip("jupytext", reason="needs the extra `docs`")
    spec = importlib.util.spec_from_file_location("run_tutorials", ROOT / "scripts/run_tutorials.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "tutorial",
    [pytest.param(path, id=path.stem, marks=[] if path.stem == FAST else pytest.mark.long) for path in TUTORIALS],
)
def test_every_cell_runs_and_the_pictures_are_drawn(script, tutorial, tmp_path):
    found = script.run(tutorial, tmp_path)
    assert "ept" in found
    shown = set(re.findall(r"\]\(([\w-]+\.png)\)", tutorial.read_text(encoding="utf-8")))
    assert shown == {path.name for path in tmp_path.glob("*.png")} != set()
    assert all((tutorial.parent / name).is_file() for name in shown)


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_it_becomes_a_notebook_and_comes_back(tutorial):
    jupytext = pytest.importorskip("jupytext", reason="needs the extra `docs`")
    notebook = jupytext.read(tutorial)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    again = jupytext.reads(jupytext.writes(notebook, fmt="ipynb"), fmt="ipynb")
    assert [cell.source for cell in again.cells if cell.cell_type == "code"] == cells
    assert len(cells) > 4
