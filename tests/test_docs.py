"""README.md and docs/: generated parts, links, and everything of the code that they name."""

import ast
import csv
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys

import pytest

import ept
from ept.cli import SESSION, main
from ept.config.configuration import load_configuration, parse_configuration


def _script(project, name):
    spec = importlib.util.spec_from_file_location(name, project / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fill(project):
    """The script behind `make documents`."""
    return _script(project, "fill_documents")


@pytest.fixture(scope="module")
def documents(project) -> dict[str, str]:
    """The text of README.md and of every document in docs/, by its path in the project."""
    pages = [*sorted((project / "docs").glob("*.md")), *sorted((project / "docs/tutorials").glob("*.md"))]
    paths = [project / "README.md", project / "CONTRIBUTING.md", *pages]
    return {str(path.relative_to(project)): path.read_text(encoding="utf-8") for path in paths}


def test_generated_parts_are_up_to_date(fill, documents, project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The scores of `make run` belong to the machine that made them.
    parts = [name for name in fill.PARTS if name != "main-table"]
    for path, text in documents.items():
        assert fill.filled(text, parts) == text, f"{path}: run `make documents`"


def test_every_part_has_a_place_and_every_place_a_part(fill, documents):
    named = [name for text in documents.values() for name in re.findall(r"<!-- generated: (\S+) -->", text)]
    closed = [match["name"] for text in documents.values() for match in fill.PART.finditer(text)]
    assert set(named) == set(fill.PARTS)
    assert named == closed


def test_the_readme_takes_four_columns_of_the_main_table(fill, tmp_path, monkeypatch):
    monkeypatch.setattr(fill, "ROOT", tmp_path)
    text = "before\n<!-- generated: main-table -->\nold\n<!-- end -->\nafter\n"
    assert fill.filled(text) == text
    (tmp_path / "results").mkdir()
    (tmp_path / "results/main.md").write_text(
        "| method | stored | RTE acc. | GLUE | SuperGLUE | All |\n| --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| PT | 5 | 1.0 | **2.0 ± 0.1** | 3.0 | 4.0 |\n\nA note.\n"
    )
    table = fill.filled(text).splitlines()[2:-2]
    assert table[0] == "| method | GLUE | SuperGLUE | All |"
    assert table[2:] == ["| PT | **2.0 ± 0.1** | 3.0 | 4.0 |"]
    # An average over one task is left out.
    (tmp_path / "results/main.md").write_text(
        "| method | All | GLUE | RTE acc. | CB acc. | invalid |\n| --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| PT | 4.0 | 2.0 | 1.0 | 3.0 | 0.1 |\n"
    )
    assert fill.filled(text).splitlines()[2] == "| method | GLUE | CB acc. | All |"
    assert fill.filled(text).splitlines()[4] == "| PT | 2.0 | 3.0 | 4.0 |"


def test_a_check_names_what_is_out_of_date_and_writes_nothing(fill, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fill, "ROOT", tmp_path)
    monkeypatch.setattr(fill, "documents", lambda: [tmp_path / "README.md"])
    stale = "<!-- generated: tasks -->\nold\n<!-- end -->\n"
    (tmp_path / "README.md").write_text(stale)
    monkeypatch.setattr(sys, "argv", ["fill", "--check"])
    assert fill.main() == 1
    assert "-old" in capsys.readouterr().out and (tmp_path / "README.md").read_text() == stale
    monkeypatch.setattr(sys, "argv", ["fill"])
    assert fill.main() == 0
    monkeypatch.setattr(sys, "argv", ["fill", "--check"])
    assert fill.main() == 0


def test_links_lead_somewhere(project, documents):
    for name, text in documents.items():
        for target in re.findall(r"\]\(([^)]+)\)", text):
            if target.startswith("http"):
                continue
            path, _, anchor = target.partition("#")
            found = (project / name).parent / path if path else project / name
            assert found.exists(), (name, target)
            if anchor:
                titles = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in {_anchor(title) for title in titles}, (name, target)


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-")


def test_the_index_lists_every_document(project, documents):
    listed = set(re.findall(r"^([\w-]+)$", documents["docs/index.md"], re.MULTILINE))
    assert listed == {path.stem for path in (project / "docs").glob("*.md")} - {"index"}


def test_keys_that_documents_name_exist(documents):
    config = parse_configuration({"tasks": {"target": ["rte"], "source": ["mnli"]}})
    sections = {name for name in type(config).model_fields if not isinstance(getattr(config, name), list | str)}
    for name, text in documents.items():
        for section, key in re.findall(r"`([a-z_]+)\.([a-z_]+)(?:: [^`]*)?`", text):
            # `attempt.py` is a file, `ept.train` a function.
            if section in sections - {"source_training"} and key not in ("py", *ept.__all__):
                assert hasattr(getattr(config, section), key), (name, section, key)


def test_files_that_documents_name_exist(project, documents):
    for name, text in documents.items():
        for path in re.findall(r"`((?:src|config|profiles|workflow|tests|benchmarks|scripts)/[\w./-]*)`", text):
            # The tutorial and the reader make this one.
            if path != "config/mine.yaml":
                assert (project / path).exists(), (name, path)


def test_commands_that_help_and_documents_show_are_commands(project, documents, capsys):
    texts = [re.sub(r"\\\n *", "", text) for text in (*documents.values(), SESSION)]
    shown = [line for text in texts for line in re.findall(r"^ *(?:\$ )?ept ([a-z].*)$", text, re.MULTILINE)]
    assert len(shown) > 8
    helps = {}
    for line in shown:
        # What stands two blanks after a command, or behind #, explains it.
        verb, *words = re.split(r"  +| #", line)[0].split()
        if verb not in helps:
            with pytest.raises(SystemExit) as ended:
                main([verb, "--help"])
            assert ended.value.code == 0, line
            helps[verb] = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
        assert {word for word in words if word.startswith("--")} <= helps[verb], line
    config = load_configuration(project / "config/config.yaml")
    assert set(re.findall(r"--task (\w+) --regime source", SESSION)) == set(config.tasks.source)


def test_make_targets_that_documents_name_exist(project, documents):
    targets = set(re.findall(r"^([a-z-]+):", (project / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for name, text in documents.items():
        for line in re.findall(r"(?:`|^(?:\$ )?)make ([a-z][a-z -]*)", text, re.MULTILINE):
            assert set(line.split()) <= targets, (name, line)


def test_the_readme_is_short_and_cites_both_papers(documents):
    readme = documents["README.md"]
    assert len(readme.split()) <= 800
    for paper in ("2405.11464", "2309.05173"):
        assert f"https://arxiv.org/abs/{paper}" in readme


def test_the_readme_trains_and_uses_one_prompt_as_written(documents, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    section = documents["README.md"].partition("\n## Train and use one prompt\n")[2].partition("\n## ")[0]
    blocks = dict(re.findall(r"```(python|sh)\n(.*?)```", section, re.DOTALL))
    words = {"good": ["lovely", "superb"], "bad": ["awful", "broken"]}
    rows = [
        {"text": f"the meal was {word}", "label": label} for _ in range(10) for label in words for word in words[label]
    ]
    for name in ("my.csv", "new.csv", "labeled.csv"):
        with open(name, "w", newline="") as file:
            writer = csv.DictWriter(file, ["text", "label"])
            writer.writeheader()
            writer.writerows(rows)
    *statements, last = ast.parse(blocks["python"]).body
    namespace: dict = {}
    exec(compile(ast.Module(statements, []), "README.md", "exec"), namespace)
    (answer,) = eval(compile(ast.Expression(last.value), "README.md", "eval"), namespace)
    assert answer in words
    capsys.readouterr()
    commands = [shlex.split(line) for line in blocks["sh"].splitlines()]
    assert [main(command[1:]) for command in commands] == [0] * len(commands) and len(commands) > 1
    found = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [row["prediction"] for row in found] == [row["label"] for row in rows]
    assert "accuracy: 100.0" in capsys.readouterr().out


def test_the_figure_of_the_method_is_what_its_script_draws(project, tmp_path, monkeypatch):
    script = _script(project, "draw_method")
    monkeypatch.setattr(script, "DOCS", tmp_path)
    script.main()
    assert (tmp_path / "method.svg").read_bytes() == (project / "docs/method.svg").read_bytes()


@pytest.mark.long
def test_the_site_builds_without_warnings_and_without_a_network(project, tmp_path):
    # A proxy that refuses every connection.
    offline = os.environ | {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", tmp_path / "cache"]
    command += ["-b", "html", project / "docs", tmp_path / "site"]
    done = subprocess.run(command, env=offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "EptPrompt" in (tmp_path / "site/api.html").read_text(encoding="utf-8")
    assert 'href="configuration.html' in (tmp_path / "site/tutorial.html").read_text(encoding="utf-8")
