"""What is installed, from which pins, and what a wheel holds."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Their modules have other names than they have.
MODULES = {"pyyaml": "yaml", "scikit-learn": "sklearn", "huggingface-hub": "huggingface_hub"}


@pytest.fixture(scope="module")
def pins(project) -> dict[str, str]:
    """The version of every package that constraints.txt pins, by canonical name."""
    lines = (project / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    found = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    assert len(found) == len(lines), "a package is pinned twice"
    return found


@pytest.fixture(scope="module")
def settings(project) -> dict:
    """pyproject.toml."""
    return tomllib.loads((project / "pyproject.toml").read_text())


def _declared(settings: dict) -> list[Requirement]:
    """Every requirement in pyproject.toml: of the package, its extras, and the build."""
    extras = settings["project"]["optional-dependencies"].values()
    lists = [settings["build-system"]["requires"], settings["project"]["dependencies"], *extras]
    return [Requirement(text) for texts in lists for text in texts]


def test_every_dependency_is_pinned_within_its_range(settings, pins):
    for requirement in _declared(settings):
        pinned = pins.get(canonicalize_name(requirement.name))
        assert pinned, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(pinned), f"{requirement} does not admit {pinned}"


def test_whatever_dependencies_need_is_pinned_too(settings, pins):
    waiting, seen = _declared(settings), set()
    while waiting:
        requirement = waiting.pop()
        for extra in requirement.extras or {""}:
            if (key := (canonicalize_name(requirement.name), extra)) in seen:
                continue
            seen.add(key)
            for text in importlib.metadata.requires(requirement.name) or []:
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    # CUDA builds of torch name these exactly themselves; CPU builds do without.
    needed = {name for name, _ in seen if not name.startswith(("nvidia-", "cuda-")) and name != "triton"}
    assert sorted(needed - set(pins)) == []


def test_a_dependency_that_the_package_does_not_import_says_what_it_is_for(project, settings):
    modules = "\n".join(path.read_text() for path in (project / "src").rglob("*.py"))
    lines = (project / "pyproject.toml").read_text().splitlines()
    for text in settings["project"]["dependencies"]:
        name = Requirement(text).name
        if not re.search(rf"^\s*(import|from) {MODULES.get(name, name)}\b", modules, re.M):
            (line,) = (line for line in lines if f'"{text}"' in line)
            assert re.search(r"# \w+", line), f"pyproject.toml does not say what {name} is for"
    for extra in set(settings["project"]["optional-dependencies"]) - {"test"}:
        (row,) = (number for number, line in enumerate(lines) if line.startswith(f"{extra} = "))
        assert lines[row - 1].startswith("# "), f"pyproject.toml does not say why {extra} is an extra"


def test_hooks_before_a_commit_run_the_pinned_programs(project, pins):
    (repository,) = yaml.safe_load((project / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    programs = {hook["entry"].split()[0] for hook in repository["hooks"]}
    assert programs == {".venv/bin/ruff", ".venv/bin/snakefmt"}
    for program in programs:
        name = Path(program).name
        assert importlib.metadata.version(name) == pins[name], "`make env` brings the environment up to date"


def test_citation_has_version_and_licence_of_the_package(project, settings):
    citation = yaml.safe_load((project / "CITATION.cff").read_text())
    assert citation["version"] == settings["project"]["version"]
    assert citation["license"] == settings["project"]["license"]
    assert "Apache License" in (project / "LICENSE").read_text().splitlines()[0]


@pytest.fixture(scope="module")
def wheel(project, tmp_path_factory) -> Path:
    """A wheel, built from a copy: a build leaves its traces in the folder that it is made in."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(project / "src/ept", source / "src/ept", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(project / name, source)
    _pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder, source)
    (path,) = folder.glob("*.whl")
    return path


def _pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_wheel_holds_every_module_the_backbone_and_the_licence(project, settings, wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    source = project / "src"
    expected = {str(path.relative_to(source)) for path in source.glob("ept/**/*.py")}
    for data in ("ept/cost/*.json", "ept/cost/*.csv", "ept/demo/backbone/*", "ept/results/published.csv"):
        expected |= {str(path.relative_to(source)) for path in source.glob(data)}
    metadata = f"ept-{settings['project']['version']}.dist-info/"
    assert {name for name in names if not name.startswith(metadata)} == expected
    assert f"{metadata}licenses/LICENSE" in names


@pytest.mark.long
def test_installed_wheel_runs_without_the_clone(project, wheel, tmp_path):
    target = tmp_path / "installed"
    _pip("install", "--no-deps", "--no-index", "--target", target, wheel)
    environment = {**os.environ, "PYTHONPATH": str(target)}

    def run(*arguments: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("-c", "import ept; print(ept.__file__)").startswith(str(target))
    assert "usage: ept" in run("-m", "ept.cli", "--help")
    # Works out every hash of the default configuration, which reads the backbone that came with the wheel.
    assert "fewshot_k16" in run("-m", "ept.cli", "check", "--config", project / "config/config.yaml")
