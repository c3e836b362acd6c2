"""docs/adding-a-method.md and docs/adding-a-task.md: their blocks, in a copy of the package, are all that it takes.

In the copy every test that holds for all methods and tasks runs, and a small training ends in a table.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from ept.methods.registry import METHODS

EXAMPLE = "docs/examples/superpos.py"
NAME = "superpos"
# What the copied tests read beside the package: schemas, documents, and the shipped configurations.
COPIED = ("src", "tests", "config", "docs", "scripts", "workflow", "pyproject.toml", "README.md", "CONTRIBUTING.md")


def _blocks(path: Path) -> list[str]:
    """The Python blocks of a document."""
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S)


def _insert(path: Path, opening: str, closing: str, block: str) -> None:
    """Put `block` before the first `closing` line behind the line `opening`."""
    before, rest = path.read_text(encoding="utf-8").split(opening, 1)
    inside, after = rest.split(closing, 1)
    entry = "".join(f"    {line}\n" for line in block.rstrip().splitlines())
    path.write_text(f"{before}{opening}{inside}\n{entry.rstrip()},{closing}{after}", encoding="utf-8")


@pytest.fixture(scope="module")
def copy(project, tmp_path_factory) -> Path:
    """A copy of the project with one more method and one more task, and nothing else changed."""
    folder = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        if (project / name).is_dir():
            shutil.copytree(project / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(project / name, folder / name)
    _, record = _blocks(project / "docs/adding-a-method.md")
    shutil.copy(project / EXAMPLE, folder / f"src/ept/methods/{NAME}.py")
    _insert(folder / "src/ept/methods/registry.py", "_RECORDS = (", "\n)\n", record)
    (task,) = _blocks(project / "docs/adding-a-task.md")
    _insert(folder / "src/ept/tasks/glue.py", "GLUE = (", "\n)\n", task)
    return folder


def _run(copy: Path, *command, cwd: Path | None = None) -> str:
    environment = os.environ | {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd or copy, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_the_document_has_the_file_and_it_is_short(project):
    text = (project / EXAMPLE).read_text(encoding="utf-8")
    assert _blocks(project / "docs/adding-a-method.md")[0] == text
    assert len(text.splitlines()) <= 60


def test_the_copy_has_one_more_of_each(copy):
    code = "import ept, sys; from ept.methods.registry import METHODS; from ept.tasks.registry import TASKS;"
    code += "print(ept.__file__, len(METHODS), list(METHODS)[-1], 'wnli' in TASKS, 'torch' in sys.modules)"
    assert _run(copy, "-c", code).split() == [
        str(copy / "src/ept/__init__.py"),
        str(len(METHODS) + 1),
        NAME,
        "True",
        "False",
    ]


def test_the_task_can_be_planned_in_the_copy(copy):
    code = (
        "from ept.config.configuration import parse_configuration as parse; from ept.plan.experiment import Experiment;"
    )
    code += "config = parse({'tasks': {'target': ['wnli'], 'source': ['mnli']}, 'data': {'source': 'hub'}});"
    code += "print(sorted({pack.task for pack in Experiment(config).packs}))"
    assert _run(copy, "-c", code).strip() == "['mnli', 'wnli']"


def test_what_holds_for_every_method_and_task_holds_in_the_copy(copy):
    """Record against module, runs apart, saving, transfer, export, costs, styles: without an edit or a patch."""
    options = ("-q", "-m", "registry", "-p", "no:cacheprovider", "-p", "no:randomly")
    found = _run(copy, "-m", "pytest", *options, "-rA", "tests/methods", "tests/figures/test_style.py")
    passed = set(re.findall(r"^PASSED \S+::(\w+)\[.*\b" + NAME + r"\b", found, re.M))
    for part in ("numbers", "pack", "stored", "saved", "cost", "exported", "configuration", "record"):
        assert any(part in name for name in passed), (part, passed)
    assert re.search(r"^PASSED \S+test_style.py::", found, re.M)


def test_the_formula(copy):
    code = f"""
import sys
sys.path.insert(0, "tests")
import torch
from ept.config.settings import EptSettings, PromptSettings
from ept.methods.build import build_prompt_module
embedding = torch.arange(300.0)[:, None] + torch.tensor([0.0, 0.5])
pack = build_prompt_module("{NAME}", embedding, PromptSettings(length=5, short_length=2), EptSettings(), 9, [0, 1])
for run in range(2):
    print(pack.W[run].tolist(), pack.words[run].tolist(), pack().prompt[run].tolist(), sep=";")
"""
    for line in _run(copy, "-c", code).splitlines():
        weights, words, prompt = (np.array(yaml.safe_load(part)) for part in line.split(";"))
        assert words.shape == (128, 2) and len({*words[:, 0]}) == 128
        expected = [sum(weights[i, j] * words[j] for j in range(128)) for i in range(5)]
        np.testing.assert_allclose(prompt, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.long
def test_from_its_name_in_a_configuration_to_its_row_in_a_table(copy, tmp_path):
    training = {"steps": 2, "warmup_steps": 1, "evaluate_every": 1, "validation_rows": 10}
    config = {
        "data": {"source_length": {"default": 64}},
        "tasks": {"target": ["cb"]},
        "methods": [NAME],
        "seeds": [0],
        "training": training,
        "few_shot": {"initialize_from": ["scratch"]},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    for command in (
        "fetch --task cb",
        "tokenize --task cb",
        f"train --method {NAME} --task cb --regime full",
        "table --table main",
    ):
        verb, *words = command.split()
        _run(copy, "-m", "ept.cli", verb, "--config", "config.yaml", *words, cwd=tmp_path)
    with open(tmp_path / "results/main.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert (row["method"], row["task"]) == (NAME, "cb")
    assert int(row["trained_parameters"]) == 100 * 128 and int(row["stored_parameters"]) == 100 * 128
    assert "| SuperPos | " in (tmp_path / "results/main.md").read_text(encoding="utf-8")
