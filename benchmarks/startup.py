"""Where the CPU seconds of a workflow go: `python -m benchmarks.startup --folder CLONE -- snakemake --cores 2 all`.

It runs a command in a folder (for `make run`'s figures a clone without results) and prints the CPU seconds of the
command and all its processes by kind, of which *outside* is what is neither training nor prediction. In every Python
process a timer of CPU time looks at the stack 200 times a second; what has passed since the last look counts for what
is on it.
"""

import argparse
import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
WORK = ("training", "prediction")
"""What a workflow is for; everything else is outside."""

# The first kind that fits counts. A frame's file and function contain the two texts.
KINDS = (
    ("import", "<frozen importlib", ""),
    ("prediction", "ept/evaluation/score.py", "predict_split"),
    ("training", "ept/training/loop.py", "train_runs"),
    ("training", "ept/training/choose_source.py", ""),
    ("measuring", "ept/training/measure.py", ""),
    ("writing", "ept/training/record.py", ""),
    ("reading", "ept/training/job.py", ""),
    ("data", "ept/data/", ""),
    ("tables", "ept/results/", ""),
    ("figures", "ept/figures/", ""),
    ("report", "ept/report/", ""),
    ("configuration", "ept/config/", ""),
    ("configuration", "ept/plan/", ""),
)

# Runs in every Python process of the command, because its folder is on PYTHONPATH.
SAMPLER = """
import atexit, json, os, signal, sys, time
KINDS = {kinds!r}
spent, last = {{}}, time.process_time()
def look(number, frame):
    global last
    now, files = time.process_time(), []
    while frame:
        files.append((frame.f_code.co_filename, frame.f_code.co_name))
        frame = frame.f_back
    kind = next((kind for kind, file, name in KINDS if any(file in f and name in n for f, n in files)), "other")
    spent[kind] = spent.get(kind, 0) + now - last
    last = now
def write():
    signal.setitimer(signal.ITIMER_PROF, 0)
    spent["other"] = spent.get("other", 0) + time.process_time() - last
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    with open(os.path.join({folder!r}, str(os.getpid())), "a") as file:
        file.write(json.dumps([name, sys.argv[1] if len(sys.argv) > 1 else "", spent]) + chr(10))
def start():
    global last
    spent.clear()
    last = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, 0.005, 0.005)
signal.signal(signal.SIGPROF, look)
atexit.register(write)
os.register_at_fork(after_in_child=start)
start()
last = 0.0
"""


def measure(command: list[str], folder: Path) -> tuple[Counter, float, int]:
    """Run a command in a folder, from a process that has no other children: all that end are waited for and counted.

    Returns:
        CPU seconds by kind, of Snakemake's own process as `snakemake`, of what no timer saw as `ends of processes,
        shells`; seconds of the clock; the number of jobs.

    Raises CalledProcessError where the command fails.
    """
    with tempfile.TemporaryDirectory(prefix="ept-startup-") as looks:
        site = Path(looks) / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(SAMPLER.format(kinds=KINDS, folder=looks))
        path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
        # Processes that outlive their parents come to this one, which then counts them too.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), os.times().elapsed
        subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, check=True)
        ended = os.times().elapsed
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found: Counter = Counter()
        jobs = 0
        for file in Path(looks).glob("[0-9]*"):
            for line in file.read_text().splitlines():
                program, _, spent = json.loads(line)
                jobs += program == "ept"
                found.update({"snakemake": sum(spent.values())} if program == "snakemake" else spent)
    whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found["ends of processes, shells"] = whole - sum(found.values())
    return found, ended - began, jobs


def main(arguments: list[str] | None = None) -> None:
    """Run the command and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(), help="where the command runs")
    parser.add_argument("command", nargs="+", help="after --")
    options = parser.parse_args(arguments)
    found, seconds, jobs = measure(options.command, options.folder)
    outside = sum(spent for kind, spent in found.items() if kind not in WORK)
    for kind, spent in found.most_common():
        print(f"{spent:8.1f}  {kind}", file=sys.stderr)
    whole = sum(found.values())
    print(f"{outside:8.1f}  CPU s outside {' and '.join(WORK)}, of {whole:.1f}; {jobs} jobs, {seconds:.0f} s")


if __name__ == "__main__":
    main()
