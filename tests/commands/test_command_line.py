"""What `ept` prints and how it ends, as a program of its own: pipes, locales, signals, limits."""

import os
import re
import signal
import subprocess
import sys
from importlib.metadata import version

import pytest
import yaml

from commands.written import write_pack
from ept.cli import LONGEST_MESSAGE, main
from ept.config.configuration import load_configuration
from ept.plan.experiment import Experiment

EPT = [sys.executable, "-m", "ept.cli"]
SMALL = {"tasks": {"target": ["cb"]}, "methods": ["pt"], "few_shot": {"k": [4]}}


def ept_with_check(body):
    """Python code that runs `ept check` with another body of that verb."""
    return (
        "import sys, time; from ept import cli, files; from ept.commands import prepare\n"
        f"def check(options):\n    'Check.'\n    {body}\n"
        "prepare.check = check; sys.exit(cli.main(['check']))"
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(SMALL))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and version("ept-prompt-tuning") in capsys.readouterr().out


def test_help_lists_every_verb_once_in_a_group(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    listed = re.findall(r"^  ([a-z-]+)  +[A-Z]", text.split("a first session")[0], re.M)
    assert {"fetch", "train", "table", "import", "mend"} <= set(listed) and len(set(listed)) == len(listed)
    for verb in listed:
        with pytest.raises(SystemExit) as end:
            main([verb, "--help"])
        assert end.value.code == 0 and f"ept {verb}" in capsys.readouterr().out


def test_help_loads_no_torch():
    loaded = "import sys; from ept import cli; cli._parser()[0].format_help(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("stream", ["stdout", "both"])
def test_a_reader_that_closes_the_pipe_ends_it_without_a_word(folder, stream):
    redirected = "2>&1" if stream == "both" else ""
    command = f'{sys.executable} -c "$PRINTS" {redirected} | head -c 1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, "PRINTS": ept_with_check("print('x' * 1_000_000)")},
    )
    assert (done.stdout, done.stderr) == (f"x{128 + signal.SIGPIPE}\n", "")


def test_signs_that_the_locale_lacks_become_question_marks(folder):
    done = subprocess.run(
        [sys.executable, "-c", ept_with_check("print('50 ± 1')")],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stdout) == (0, b"50 ? 1\n"), done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_any_verb_without_a_traceback_or_a_temporary_file(folder, number):
    waits = ept_with_check("with files.write_atomically('result'): print('ready', flush=True); time.sleep(60)")
    process = subprocess.Popen([sys.executable, "-c", waits], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert error.count("\n") == 1 and number.name in error
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("verb", ["fetch", "tokenize"])
def test_a_limit_on_file_sizes_is_one_sentence(folder, verb):
    arguments = ["--config", "config.yaml", "--task", "cb"]
    if verb == "tokenize":
        assert main(["fetch", *arguments]) == 0
    before = sorted(folder.rglob("*"))
    # In units of 1,024 bytes.
    limited = subprocess.run(
        ["bash", "-c", 'ulimit -f 2; exec "$@"', "bash", *EPT, verb, *arguments], capture_output=True, text=True
    )
    assert limited.returncode == 2, limited.stderr
    assert limited.stderr.startswith("error: ") and limited.stderr.count("\n") == 1
    assert "ulimit" in limited.stderr
    assert [path for path in sorted(folder.rglob("*")) if path.is_file()] == [path for path in before if path.is_file()]


def test_a_sentence_is_one_line_of_bounded_length_that_keeps_its_end(folder, capsys):
    assert main(["fetch", "--config", "config.yaml", "--task", "x\ny" * 1000]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and len(line) <= LONGEST_MESSAGE + 1


def test_a_folder_that_may_not_be_written_is_one_sentence(folder):
    if os.geteuid() == 0:
        blocked = folder / "data"
        blocked.write_text("a file where a folder should be")
    else:
        folder.chmod(0o555)
    done = subprocess.run([*EPT, "fetch", "--config", "config.yaml", "--task", "cb"], capture_output=True, text=True)
    folder.chmod(0o755)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "data" in done.stderr


def test_a_home_that_is_not_there_stops_nothing(folder):
    done = subprocess.run(
        [*EPT, "fetch", "--config", "config.yaml", "--task", "cb"],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere/cache"},
    )
    assert done.returncode == 0, done.stderr


def test_a_finished_training_is_not_repeated(folder, capsys):
    pack = Experiment(load_configuration("config.yaml")).packs[0]
    write_pack(pack)
    before = {path: path.stat().st_mtime_ns for path in pack.files}
    assert main(["train", "--config", "config.yaml", "--hash", pack.hash]) == 0
    assert str(pack.folder) in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in pack.files}
    # Not what was damaged: it wants the texts, which are not there.
    (pack.folder / "runs.json").write_text("damaged")
    assert main(["train", "--config", "config.yaml", "--hash", pack.hash]) == 2
    assert "data/tokenized" in capsys.readouterr().err


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_a_shell_may_close_the_standard_streams(tmp_path, closed):
    def run(name):
        command = f"{sys.executable} -m ept.cli check --config {name} {closed}"
        return subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)

    (tmp_path / "sound.yaml").write_text("tasks: {target: [rte], source: [sst2]}\n")
    sound, missing = run("sound.yaml"), run("missing.yaml")
    assert (sound.returncode, missing.returncode) == (0, 2)
    assert sound.stderr == "" and bool(sound.stdout) != (">&-" in closed.split())
    assert missing.stdout == "" and ("missing.yaml" in missing.stderr) != ("2>&-" in closed)
    assert missing.stderr.count("\n") <= 1


def test_show_names_the_output_folder_for_scripts(tmp_path, capsys):
    path = tmp_path / "my.yaml"
    path.write_text(yaml.safe_dump({**SMALL, "output": "my results"}))
    assert main(["show", "--config", str(path), "--folder"]) == 0
    assert capsys.readouterr().out == "my results\n"
