"""The Containerfile's steps where no engine is at hand: what it copies exists and is enough for what it runs."""

import re
import shlex
import shutil
import subprocess

import pytest


@pytest.fixture
def steps(project):
    """The instructions of the Containerfile: (name, words), without comments and with lines joined."""
    text = re.sub(r"\\\n\s*", "", (project / "Containerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def test_what_is_copied_before_the_installation_is_enough_for_it(project, tmp_path, steps):
    """`make --dry-run env` fails where a file that the installation is made from is missing."""
    (installing,) = (place for place, (name, words) in enumerate(steps) if name == "RUN" and "make env" in words)
    for name, words in steps[:installing]:
        if name == "COPY":
            *sources, target = words.split()
            for source in sources:
                found = project / source
                assert found.exists(), source
                if found.is_dir():
                    shutil.copytree(
                        found, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors")
                    )
                else:
                    shutil.copy(found, tmp_path / target)
    for torch in ("cpu", "cuda"):
        command = steps[installing][1].replace("${TORCH}", torch).replace("make", "make --dry-run")
        done = subprocess.run(shlex.split(command), cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        files = re.findall(r"--requirement (\S+)", done.stdout)
        assert files and all((tmp_path / file).is_file() for file in files)


def test_nothing_that_a_run_needs_is_left_out_of_the_image(project, steps):
    ignored = (project / ".dockerignore").read_text().split()
    tracked = subprocess.run(["git", "ls-files"], cwd=project, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    needed = [
        path for path in tracked if re.match(r"src/|workflow/|config/|profiles/|requirements/|Makefile|Snakefile", path)
    ]
    assert needed
    for pattern in ignored:
        top = pattern.strip("/").removeprefix("**/")
        assert not [path for path in needed if path == top or path.startswith(f"{top}/")], pattern


def test_the_image_starts_the_run_with_the_installed_commands(project, steps):
    values = dict(name_and_words for name_and_words in steps if name_and_words[0] in ("CMD", "ENV", "WORKDIR"))
    program, target = re.findall(r'"(\w+)"', values["CMD"])
    assert program == "make" and re.search(rf"^{target}:", (project / "Makefile").read_text(), re.MULTILINE)
    assert values["ENV"].startswith(f"PATH={values['WORKDIR']}/.venv/bin:")
