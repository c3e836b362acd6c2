"""What a person sees of a run: on a terminal, in a log, and in Snakemake's own log."""

import logging
import os
import pty
import re
import subprocess
import sys

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from ept.config.configuration import parse_configuration
from ept.plan.experiment import Experiment
from snakemake_logger_plugin_ept.jobs import Jobs, time_left
from workflow.ept_stand_in import install

VALUES = {"tasks": {"target": ["cb", "rte"]}, "methods": ["pt", "bitfit"], "few_shot": {"k": []}, "seeds": [0]}
TABLE = "| method | parameters | All |\n| --- | ---: | ---: |\n| PT | 12,345 | **67.8** |\n\nA note.\n"


@pytest.fixture
def programs(workflow):
    """A folder with a stand-in of `ept` that prints, writes a main table, and fails where `fails` names its verb."""
    folder = install(workflow.folder, Experiment(parse_configuration(VALUES)))
    program = (folder / "ept").read_text()
    (folder / "ept").write_text(
        f"{program}    if name.endswith('main.md'):\n        Path(name).write_text({TABLE!r})\n"
        "if Path('fails').exists() and verb == Path('fails').read_text():\n    sys.exit('error: a sentence, and why')\n"
    )
    return folder


def test_a_log_has_a_line_for_each_job_the_main_table_and_no_blocks(workflow, programs):
    config = workflow.configure(VALUES)
    process = workflow.start("tables", config=config, programs=programs)
    text = process.communicate()[0]
    assert process.returncode == 0, text
    done = [tuple(map(int, found)) for found in re.findall(r"^(\d+) of (\d+) jobs done", text, re.M)]
    assert done[-1][0] == done[-1][1] and [count for count, _ in done] == sorted(count for count, _ in done)
    for name in ("fetch cb", "tokenize rte", "train pt cb full", "train_weights bitfit rte full", "table main"):
        assert re.search(rf"jobs done.*: (.*, )?{name}(,|$)", text, re.M), name
    assert re.search(r"^PT +12,345 +67\.8\*$", text, re.M)
    assert "    input: " not in text and "    reason: " not in text and "Execute " not in text
    assert re.search(f"ept show --config {config}", text)
    (log,) = (workflow.folder / ".snakemake/log").iterdir()
    assert log.read_text().count("    input: ") >= 8


def test_the_sentence_of_a_failed_job_stands_in_a_log(workflow, programs):
    (workflow.folder / "fails").write_text("tokenize")
    process = workflow.start("tables", config=workflow.configure(VALUES), programs=programs)
    text = process.communicate()[0]
    assert process.returncode == 1
    assert "error: a sentence, and why" in text and "ept show" not in text
    assert "    reason: " not in text


def test_a_terminal_shows_progress_what_runs_and_the_main_table(workflow, project, programs):
    config = workflow.configure(VALUES)
    ours, theirs = pty.openpty()
    command = ["--snakefile", project / "Snakefile", "--workflow-profile", project / "profiles/default", "--cores", "1"]
    path = os.pathsep.join([str(programs), os.path.dirname(sys.executable), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "COLUMNS": "100", "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *command, "tables", "--configfile", config],
        cwd=workflow.folder,
        env=environment,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    # The system ends a terminal without writers by an error.
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:
        pass
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode())
    assert process.wait() == 0, text
    assert re.search(r"now: \w+ ", text) and re.search(r"Total Progress.*\d+/\d+", text)
    assert re.search(r"PT +12,345 +67\.8\*", text) and "    input: " not in text


def _event(event, **fields):
    return logging.makeLogRecord({"event": event, **fields})


def test_time_left_is_work_left_over_jobs_at_one_time():
    clock = [0.0]
    jobs = Jobs(lambda: clock[0])
    jobs.update(_event(LogEvent.RUN_INFO, stats={"train": 5, "table": 1, "total": 6}))
    for number in (1, 2):
        wildcards = {"backbone": "b", "method": "pt", "task": f"t{number}", "regime": "full", "hash": "01234567"}
        jobs.update(_event(LogEvent.JOB_INFO, jobid=number, rule_name="train", wildcards=wildcards, output=[]))
    assert [job.name for job in jobs.running.values()] == ["train pt t1 full", "train pt t2 full"]
    clock[0] = 10.0
    assert jobs.seconds_left() is None
    assert jobs.update(_event(LogEvent.JOB_FINISHED, job_id=1)).name == "train pt t1 full"
    # Left: three trainings and a table of 10 s each (none has ended, so the mean of all), nothing of the second
    # training. Two ran at one time.
    assert jobs.seconds_left() == pytest.approx((3 + 1) * 10 / 2)
    assert jobs.update(_event(LogEvent.JOB_ERROR, jobid=2)) is None
    assert jobs.running == {}
    assert jobs.update(_event(LogEvent.JOB_FINISHED, job_id=99)) is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, ()), (59, ("minute",)), (240, ("4 min",)), (7500, ("2 h", "5 min"))]
)
def test_time_left_in_words(seconds, words):
    assert all(word in time_left(seconds) for word in words) and bool(time_left(seconds)) == bool(words)
