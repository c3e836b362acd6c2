"""Methods and tasks of one's own from plugin files and entry points: run only where allowed, digests in hashes."""

import json
import re
from pathlib import Path

import pytest
import yaml

from ept.cli import main
from ept.config.configuration import parse_configuration
from ept.errors import InputError
from ept.methods.registry import METHODS
from ept.plan.experiment import Experiment
from ept.tasks.plugins import ALLOW
from ept.tasks.registry import TASKS

RECORD = """
from ept.methods.registry import Method

METHODS = [
    Method(
        name="superpos",
        title="SuperPos",
        module=f"{__name__}:SuperposedPrompt",
        rates={"weights": [0.01]},
        parameters=lambda sizes: sizes.prompt.length * WORDS,
        color="#2D1E00",
        marker="$S$",
    )
]
"""
TASK = """
from ept.tasks.record import OwnData, Task

def shout(row):
    return {**row, "text": row["text"].upper()}

TASKS = [
    Task(
        name="shouted",
        suite="own",
        config="shouted",
        title="Shouted",
        kind="classification",
        columns={"text": "text"},
        template="text: {text}",
        labels=("bad", "good"),
        metrics=("accuracy",),
        split="own",
        prepare=shout,
        own=OwnData(label="verdict", values=("bad", "good"), files=(("train", "rows.csv"),)),
    )
]
"""
MARK = "from pathlib import Path\nPath('ran').touch()\n"


@pytest.fixture(autouse=True)
def _registries(monkeypatch, tmp_path):
    """Records that a test registers are gone after it, and code is not allowed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ALLOW, raising=False)
    before = dict(METHODS), dict(TASKS)
    yield
    for registry, records in zip((METHODS, TASKS), before, strict=True):
        registry.clear()
        registry.update(records)


@pytest.fixture
def superpos(project) -> str:
    """The example of docs/adding-a-method.md as a plugin."""
    Path("superpos.py").write_text((project / "docs/examples/superpos.py").read_text() + RECORD)
    return "superpos.py"


def _values(*plugins, methods=("pt",), target=("rte",)):
    short = {"steps": 2, "warmup_steps": 1, "evaluate_every": 2, "batch_size": 2}
    return {
        "plugins": list(plugins),
        "tasks": {"target": list(target)},
        "methods": list(methods),
        "seeds": [0],
        "training": short,
        "few_shot": {"k": []},
    }


def _parse(*plugins, **values):
    return parse_configuration(_values(*plugins, **values), allow_code=True)


def test_a_plugin_does_not_run_unless_it_is_allowed(capsys, monkeypatch):
    Path("mine.py").write_text(MARK)
    Path("own.yaml").write_text(yaml.safe_dump(_values("mine.py")))
    for verb in ("check", "plan"):
        assert main([verb, "--config", "own.yaml"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert all(word in line for word in ("mine.py", "--allow-code", ALLOW))
    monkeypatch.setenv(ALLOW, "0")
    assert main(["check", "--config", "own.yaml"]) == 2
    assert not Path("ran").exists()
    for verb in ("check", "plan"):
        assert main([verb, "--config", "own.yaml", "--allow-code"]) == 0
    assert Path("ran").exists()


def test_the_environment_allows_it_too(monkeypatch, superpos):
    monkeypatch.setenv(ALLOW, "1")
    assert parse_configuration(_values(superpos, methods=["superpos"])).methods == ["superpos"]


def test_a_method_of_a_plugin_trains_and_stands_in_the_table(superpos):
    Path("own.yaml").write_text(yaml.safe_dump(_values(superpos, methods=["pt", "superpos"])))
    with_code = ["--config", "own.yaml", "--allow-code"]
    for verb in ("fetch", "tokenize"):
        assert main([verb, *with_code, "--task", "rte"]) == 0
    for method in ("pt", "superpos"):
        assert main(["train", *with_code, "--method", method, "--task", "rte", "--regime", "full"]) == 0
    assert main(["table", *with_code, "--table", "main"]) == 0
    (path,) = Path().rglob("superpos/rte/full/*/runs.json")
    # 100 tokens, 128 words each.
    assert json.loads(path.read_text())["trained_parameters"] == 12_800
    assert re.search(r"^\| SuperPos \| 12,800 \|", Path("results/main.md").read_text(), re.M)


def _hash(*plugins, method="superpos", task="rte"):
    experiment = Experiment(_parse(*plugins, methods=[method], target=[task]))
    return experiment.pack(method, task, "full", "scratch").hash


def test_the_code_of_a_method_is_in_its_hash_alone(superpos):
    known, plain = _hash(superpos), _hash(method="pt")
    Path("copy.py").write_text(Path(superpos).read_text())
    assert _hash("copy.py") == known
    assert _hash(superpos, method="pt") == plain
    Path(superpos).write_text(Path(superpos).read_text() + "# changed\n")
    assert _hash(superpos) != known


def test_a_task_of_a_plugin(superpos):
    Path("rows.csv").write_text("text,verdict\n" + "fine,good\nawful,bad\n" * 6)
    Path("mine.py").write_text(TASK)
    config = _parse("mine.py", target=["shouted"])
    example = config.tasks.record("shouted").example({"text": "fine", "label": 1})
    assert (example.source, example.target) == ("text: FINE", "good")
    known = _hash("mine.py", method="pt", task="shouted")
    Path("mine.py").write_text(TASK.replace("upper", "lower"))
    assert _hash("mine.py", method="pt", task="shouted") != known


def test_another_configuration_of_the_process_does_not_see_it(superpos):
    _parse(superpos, methods=["superpos"])
    with pytest.raises(InputError) as error:
        _parse(methods=["superpos"])
    assert "superpos" in str(error.value)


BAD = {
    "no file": ("other.py", "", ["other.py"]),
    "raises": ("mine.py", "1 / 0", ["mine.py", "ZeroDivisionError"]),
    "not Python": ("mine.py", "def", ["mine.py", "SyntaxError"]),
    "no record": ("mine.py", "METHODS = ['superpos']", ["mine.py", "METHODS", "str"]),
    "taken method": (
        "mine.py",
        "from dataclasses import replace\nfrom ept.methods import registry\nMETHODS = [registry.METHODS['pt']]",
        ["mine.py", "pt"],
    ),
    "taken task": (
        "mine.py",
        "from ept.tasks import registry\nTASKS = [registry.TASKS['rte']]",
        ["mine.py", "rte"],
    ),
    "no entry point": ("nowhere", "", ["nowhere", "ept.methods"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_plugin_is_one_sentence(case):
    name, content, words = BAD[case]
    Path("mine.py").write_text(content)
    with pytest.raises(InputError) as error:
        _parse(name)
    assert all(word in str(error.value) for word in ("plugins", *words)), str(error.value)


def test_an_entry_point_of_an_installed_package(tmp_path, monkeypatch, superpos):
    site = tmp_path / "site"
    (site / "mypackage-1.0.dist-info").mkdir(parents=True)
    (site / "mypackage-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: mypackage\nVersion: 1.0\n")
    entry = "[ept.methods]\nmine = mypackage_methods:METHODS\n"
    (site / "mypackage-1.0.dist-info/entry_points.txt").write_text(entry)
    (site / "mypackage_methods.py").write_text(Path(superpos).read_text())
    monkeypatch.syspath_prepend(str(site))
    assert _parse("mine", methods=["superpos"]).methods == ["superpos"]
    assert METHODS["superpos"].module == "mypackage_methods:SuperposedPrompt"
    with pytest.raises(InputError) as error:
        parse_configuration(_values("mine", methods=["superpos"]))
    assert ALLOW in str(error.value)
