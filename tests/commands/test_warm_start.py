"""Jobs that start from one warm process look from outside like any others. Here the verb is Python code to run."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ept.cli import MODULES
from ept.commands import warm_start

# In the place of Snakemake: it starts the warm process, says its address and waits until it is ended.
WORKFLOW = """
import os, subprocess, sys
from pathlib import Path
from ept.cli import MODULES
from ept.commands import warm_start
start = subprocess.Popen
def started(command, **options):
    return start([command[0], "-c", sys.argv[1], *command[3:]], **options)
subprocess.Popen = started
warm_start.start(Path("warm_start.log"))
print(os.environ[warm_start.ADDRESS], flush=True)
sys.stdin.read()
"""
# In the place of `ept.cli.serve_jobs`.
WARM = """
import sys
from ept.commands.warm_start import leave, serve
request = serve(int(sys.argv[2]), int(sys.argv[3]), lambda verb: None)
if request is not None:
    try:
        exec(request.arguments[0])
    except SystemExit as end:
        leave(end.code)
    leave(0)
"""
# In the place of `ept.cli.main`. What nohup ignores is not ignored here.
JOB = "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); "
JOB += "from ept.commands.warm_start import hand_over; status = hand_over(sys.argv[1:]); "
JOB += "sys.exit(99 if status is None else status)"
SECONDS = 60


@pytest.fixture
def workflow(tmp_path):
    """The process in the place of Snakemake, and the environment of its jobs."""
    command = [sys.executable, "-c", WORKFLOW, WARM]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    environment = os.environ | {warm_start.ADDRESS: process.stdout.readline().strip(), warm_start.THREADS: "1"}
    yield process, environment
    process.kill()
    process.wait()
    process.stdin.close(), process.stdout.close()


@pytest.fixture
def job(workflow):
    """Starts a job."""

    def start(code, **options):
        command = [sys.executable, "-c", JOB, code]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, **{"env": workflow[1]} | streams | options)

    return start


def _warm(environment):
    """The warm process and its jobs."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if environment[warm_start.ADDRESS] in (process.info["cmdline"] or [])
    ]


def _until(condition):
    last = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.02)


WAIT = "import time; print('started', flush=True); time.sleep(600)"


def test_streams_folder_environment_and_exit_status_are_those_of_the_one_that_waits(job, workflow, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    code = "import os, sys; print(os.getcwd(), os.environ['ONE'], os.getppid(), sys.stdin.read()); "
    code += "print('wrong', file=sys.stderr); sys.exit(7)"
    process = job(code, cwd=folder, env=workflow[1] | {"ONE": "1\n2"}, stdin=subprocess.PIPE)
    out, err = process.communicate("words", timeout=SECONDS)
    parent = psutil.Process(int(out.split()[3]))
    assert out == f"{folder} 1\n2 {parent.pid} words\n"
    assert (err, process.returncode) == ("wrong\n", 7)
    # Not the one that waits, and another process than the job.
    assert parent.pid in {each.pid for each in _warm(workflow[1])} and parent.pid != process.pid


def test_jobs_run_side_by_side_and_share_nothing(job):
    first = job("import sys, time; sys.mine = 1; print(input(), flush=True); sys.exit(1)", stdin=subprocess.PIPE)
    second = job("import sys; print(hasattr(sys, 'mine')); sys.exit(2)")
    assert second.communicate(timeout=SECONDS)[0] == "False\n" and second.returncode == 2
    assert first.communicate("go\n", timeout=SECONDS)[0] == "go\n" and first.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_the_job_which_may_save_itself(job, number):
    code = "import signal, sys, time\ndef save(number, frame): print('saved', number); sys.exit(3)\n"
    code += f"signal.signal({int(number)}, save); print('ready', flush=True); time.sleep(600)"
    process = job(code)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.communicate(timeout=SECONDS)[0] == f"saved {int(number)}\n" and process.returncode == 3


def test_a_job_that_dies_of_a_signal_has_the_exit_status_of_a_shell(job):
    process = job("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert process.wait(timeout=SECONDS) == 128 + signal.SIGKILL


def test_the_job_dies_with_the_one_that_waits(job, workflow):
    process = job(WAIT)
    assert process.stdout.readline() == "started\n"
    assert len(_warm(workflow[1])) == 2
    process.kill()
    _until(lambda: len(_warm(workflow[1])) == 1)


def test_the_job_dies_with_the_warm_process_and_the_next_one_starts_by_itself(job, workflow):
    process = job(WAIT)
    assert process.stdout.readline() == "started\n"
    parent = min(_warm(workflow[1]), key=lambda each: each.create_time())
    parent.kill()
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 128 + signal.SIGKILL and err.count("\n") == 1
    _until(lambda: not [each for each in _warm(workflow[1]) if each.status() != psutil.STATUS_ZOMBIE])
    assert job("").wait(timeout=SECONDS) == 99


@pytest.mark.parametrize("how", ["ends", "is killed"])
def test_nothing_is_left_when_the_workflow_has_ended(job, workflow, how, tmp_path):
    process, environment = workflow
    running = job("print(input(), flush=True)", stdin=subprocess.PIPE)
    _until(lambda: len(_warm(environment)) == 2)
    process.kill() if how == "is killed" else process.stdin.close()
    process.wait(timeout=SECONDS)
    # Its last job ends as it would have.
    assert running.communicate("good\n", timeout=SECONDS)[0] == "good\n" and running.returncode == 0
    _until(lambda: not _warm(environment))
    assert (tmp_path / "warm_start.log").read_text() == ""


@pytest.mark.parametrize(
    "change",
    [{warm_start.THREADS: "2"}, {warm_start.ADDRESS: ""}, {warm_start.ADDRESS: "ept-nobody"}],
    ids=["several threads", "no warm process", "one that has ended"],
)
def test_where_something_speaks_against_it_the_job_runs_where_it_was_started(job, workflow, change):
    assert job("", env=workflow[1] | change).wait(timeout=SECONDS) == 99


def test_another_installation_of_the_package_is_not_mixed_with_this_one(job, workflow, tmp_path):
    package = tmp_path / "other"
    package.mkdir()
    (package / "ept").symlink_to(Path(warm_start.__file__).parents[1])
    assert job("", env=workflow[1] | {"PYTHONPATH": str(package)}).wait(timeout=SECONDS) == 99
    assert job("").wait(timeout=SECONDS) == 0


@pytest.mark.parametrize("verb", MODULES)
def test_what_a_verb_imports_before_its_jobs_exists(verb):
    """A module that is not there would start every job of the verb cold, without a word."""
    assert all(importlib.util.find_spec(module) for module in MODULES[verb])
