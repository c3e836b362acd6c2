"""The lock files, the metadata of the package, what a wheel holds, and what runs without extras."""

import importlib.metadata
import os
import re
import resource
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Only the CUDA build of torch needs these.
CUDA = re.compile(r"triton|(nvidia|cuda)-.+")
# Extras that `make env` leaves out.
NOT_INSTALLED = {"remotes", "track", "vision"}


@dataclass(frozen=True)
class Lock:
    """The lines of a lock file."""

    text: str

    @property
    def versions(self) -> dict[str, str]:
        """The pinned version of every package."""
        lines = re.findall(r"^([a-z\d-]+)==([\w.]+)", self.text, re.M)
        assert len(dict(lines)) == len(lines), "a package is pinned twice"
        return dict(lines)


@pytest.fixture(scope="module")
def locks(project) -> dict[str, Lock]:
    """The lock files of requirements/ by name."""
    return {path.stem: Lock(path.read_text()) for path in (project / "requirements").glob("*.txt")}


@pytest.fixture(scope="module")
def settings(project) -> dict:
    """pyproject.toml."""
    return tomllib.loads((project / "pyproject.toml").read_text())


def _declared(settings: dict) -> list[Requirement]:
    """Every requirement of the package and of the extras that `make env` installs."""
    extras = settings["project"]["optional-dependencies"]
    lists = [texts for name, texts in extras.items() if name not in NOT_INSTALLED]
    return [Requirement(text) for texts in (settings["project"]["dependencies"], *lists) for text in texts]


def test_every_dependency_is_locked_within_its_range(settings, locks):
    for requirement in _declared(settings):
        locked = locks["cuda"].versions.get(canonicalize_name(requirement.name))
        assert locked, f"requirements/cuda.txt lacks {requirement.name}; run make lock"
        assert requirement.specifier.contains(locked), f"{requirement} excludes {locked}; run make lock"
    for text in settings["dependency-groups"]["test-remotes"]:
        assert canonicalize_name(Requirement(text).name) in locks["remotes"].versions, f"{text}: run make lock"


def test_lock_files_agree(locks):
    cuda, cpu = locks["cuda"].versions, locks["cpu"].versions
    assert cpu == {name: version for name, version in cuda.items() if name != "torch" and not CUDA.fullmatch(name)}
    assert locks["torch"].versions == {"torch": cuda["torch"]}
    assert not locks["remotes"].versions.keys() & cuda.keys()


@pytest.mark.parametrize("name", ["cpu", "cuda", "remotes"])
def test_a_lock_file_has_a_hash_for_every_package_and_no_index(locks, name):
    entries = re.sub(r"\\\n\s*", "", locks[name].text).splitlines()
    entries = [line for line in entries if not line.startswith("#")]
    assert len(entries) == len(locks[name].versions)
    assert all(re.search(r"--hash=sha256:[\da-f]{64}", line) for line in entries)
    assert not re.search(r"^\s*-[if-]|://", locks[name].text.replace("--hash=", ""), re.M)


def test_hooks_before_a_commit_run_locked_programs(project, locks):
    (repository,) = yaml.safe_load((project / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    distributions = {"lint-imports": "import-linter"}
    for hook in repository["hooks"]:
        folder, program = os.path.split(hook["entry"].split()[0])
        assert folder == ".venv/bin"
        assert distributions.get(program, program) in locks["cpu"].versions


def test_citation_has_version_and_license_of_the_package(project, settings):
    citation = yaml.safe_load((project / "CITATION.cff").read_text())
    assert citation["version"] == settings["project"]["version"]
    assert citation["license"] == settings["project"]["license"]
    assert "Apache License" in (project / "LICENSE").read_text().splitlines()[0]
    assert f"## [{citation['version']}]" in (project / "CHANGELOG.md").read_text()


# Snakemake finds a logger by the name of its package.
PACKAGES = ("ept", "snakemake_logger_plugin_ept")


@pytest.fixture(scope="module")
def wheel(project, tmp_path_factory) -> Path:
    """A wheel, built from a copy: a build leaves files in the folder that it is made in."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in PACKAGES:
        shutil.copytree(project / f"src/{name}", source / f"src/{name}", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(project / name, source)
    _run(sys.executable, "-m", "pip", "wheel", *QUIET, "--no-deps", "--no-build-isolation", "-w", folder, source)
    (path,) = folder.glob("*.whl")
    return path


QUIET = ("--quiet", "--disable-pip-version-check", "--no-index")


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints. It sees no module but those of its own environment."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_wheel_holds_every_module_all_data_and_the_license(project, settings, wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    source = project / "src"
    found = [path for name in PACKAGES for path in source.glob(f"{name}/**/*")]
    files = [path for path in found if path.is_file() and "__pycache__" not in path.parts]
    metadata = f"{settings['project']['name'].replace('-', '_')}-{settings['project']['version']}.dist-info/"
    assert {name for name in names if not name.startswith(metadata)} == {str(p.relative_to(source)) for p in files}
    assert "ept/py.typed" in names
    assert f"{metadata}licenses/LICENSE" in names


@pytest.fixture(scope="module")
def without_extras(wheel, tmp_path_factory) -> Path:
    """A fresh environment with the wheel and what it requires without extras; its Python.

    The required packages are links to those of the running environment, so nothing is downloaded.
    """
    folder = tmp_path_factory.mktemp("environment")
    _run(sys.executable, "-m", "venv", folder)
    python = folder / "bin/python"
    site = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    _run(python, "-m", "pip", "install", *QUIET, "--no-deps", wheel)
    (installed,) = site.glob("ept_prompt_tuning-*.dist-info")
    for distribution in _required(importlib.metadata.Distribution.at(installed).requires):
        # Whatever a distribution has at the top of site-packages. Two of them may share a folder (google, ruamel).
        for entry in {Path(file).parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (site / entry).exists():
                (site / entry).symlink_to(distribution.locate_file(entry))
    return python


def _required(texts: list[str]) -> list[importlib.metadata.Distribution]:
    """The installed distributions that requirements ask for, directly or through others."""
    waiting, seen, found = [Requirement(text) for text in texts], set(), {}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in requirement.extras | {""}:
            if (name, extra) in seen or not (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
                continue
            seen.add((name, extra))
            found[name] = importlib.metadata.distribution(name)
            needed = [Requirement(text) for text in found[name].requires or []]
            waiting += [each for each in needed if each.marker is None or each.marker.evaluate({"extra": extra})]
    return list(found.values())


@pytest.mark.long
def test_without_extras_nothing_is_missing_and_nothing_heavy_is_there(without_extras):
    _run(without_extras, "-m", "pip", "check")
    heavy = ("snakemake", "dvc", "datasets", "evaluate", "scipy", "bitsandbytes", "peft", "matplotlib", "pandas")
    code = f"import importlib.util as u; print(*[name for name in {heavy!r} if u.find_spec(name)])"
    assert _run(without_extras, "-c", code).split() == []


@pytest.mark.long
def test_without_extras_the_package_imports_and_checks_a_configuration(project, without_extras, tmp_path):
    where = _run(without_extras, "-c", "import ept; print(ept.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(without_extras.parents[1])
    ept = without_extras.with_name("ept")
    assert "usage: ept" in _run(ept, "--help", cwd=tmp_path)
    # Computes every hash of the default configuration, which reads the backbone that the wheel brings.
    assert "fewshot_k16" in _run(ept, "check", "--config", project / "config/config.yaml", cwd=tmp_path)


@pytest.mark.long
def test_without_extras_a_prompt_loads_and_the_core_imports(without_extras, tmp_path):
    from ept.methods.prompt_file import save_prompt

    save_prompt(tmp_path / "seed0.safetensors", {"prompt": torch.ones(4, 8)}, {}, {"method": "pt"})
    code = """
import ept.evaluation.predict, ept.methods.build, ept.training.loop
from ept.methods.prompt_file import read_prompt
print(tuple(read_prompt("seed0.safetensors").tensors["prompt"].shape))
"""
    assert _run(without_extras, "-c", code, cwd=tmp_path).strip() == "(4, 8)"


FIVE_LINES = """\
import csv, ept
rows = list(csv.DictReader(open("reviews.csv")))
model = ept.Prompted.from_pretrained("demo-t5")
prompt = ept.train(rows, template="text: {text}", label="verdict", model=model)
print(model.predict(["the meal was lovely , order 3", "the parcel was broken , order 4"], prompt))
"""


@pytest.mark.long
def test_from_a_csv_file_to_a_prediction_in_five_lines(without_extras, tmp_path):
    """The wheel in an empty folder: 3,000 rows, the defaults of `ept.train`, less than three minutes of one core."""
    assert len(FIVE_LINES.splitlines()) == 5
    words = {"good": ["great", "lovely", "superb"], "bad": ["awful", "broken", "rude"]}
    lines = [
        f"the {('parcel', 'meal')[number % 3 % 2]} was {words[verdict][number % 5 % 3]} , order {number},{verdict}"
        for number, verdict in enumerate(["bad", "good"] * 1500)
    ]
    csv_lines = [f'"{line.rpartition(",")[0]}",{line.rpartition(",")[2]}' for line in lines]
    (tmp_path / "reviews.csv").write_text("text,verdict\n" + "\n".join(csv_lines) + "\n")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    printed = _run(without_extras, "-c", FIVE_LINES, cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{seconds:.0f} s of processor time, {time.monotonic() - started:.0f} s")
    assert printed.strip() == "['good', 'bad']"
    assert seconds < 180
    assert [path.name for path in tmp_path.iterdir()] == ["reviews.csv"]
