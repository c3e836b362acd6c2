"""What a log shows of a long training."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

from ept.training.progress import Progress, RowProgress


def test_time_left_is_that_of_the_steps_of_this_process(monkeypatch, capsys):
    """Resumed from step 900 of 1,000, with two steps a second."""
    now = [50.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress("ept rte", 1000, seconds_between_lines=10)
    for step in range(901, 941):
        now[0] += 0.5
        progress.step(step, examples=32, alive=2, runs=3)
    assert capsys.readouterr().err.splitlines() == [
        f"ept rte: step {step}/1000, {left} s left, 64 examples/s, best validation none yet, 2/3 runs alive"
        for step, left in ((901, 50), (921, 40))
    ]


def test_a_training_whose_runs_all_ended_says_so(capsys):
    progress = Progress("ept rte", 1000, seconds_between_lines=1e9)
    progress.step(1, examples=32, alive=1, runs=3)
    progress.step(2, examples=16, alive=0, runs=3)
    first, last = capsys.readouterr().err.splitlines()
    assert "step 1/1000" in first and "1/3" in first
    assert "step 2/1000" in last and "0/3" in last


def test_rows_and_the_time_left_in_a_log(monkeypatch, capsys):
    now = [50.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    known, unknown = RowProgress("predict", 4000, 10), RowProgress("predict", None, 10)
    for _ in range(3):
        now[0] += 6.0
        known.update(600)
        unknown.update(600)
    assert capsys.readouterr().err.splitlines() == [
        "predict: 1,200 of 4,000 rows, 100 rows/s, 28 s left",
        "predict: 1,200 rows, 100 rows/s",
    ]


TRAINING = """
import time
from ept.training.progress import Progress
progress = Progress("ept rte k16", 4)
for step in (1, 2, 3, 4):
    time.sleep(0.12)
    progress.step(step, examples=24, alive=2, runs=3)
    if step == 2:
        progress.validated(71.25)
progress.close()
"""


def test_a_terminal_shows_a_bar_with_the_same():
    ours, theirs = pty.openpty()
    # 40 lines of 150 columns; without a size a bar shows nothing.
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 150, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", TRAINING], stderr=theirs)
    os.close(theirs)
    shown = b""
    # The terminal of a process that has ended reads as an error.
    while part := _read(ours):
        shown += part
    assert process.wait() == 0
    text = shown.decode()
    assert "ept rte k16:  75%" in text and "step 3/4, 00:00 left" in text and "examples/s" in text
    assert "best validation none yet, 2/3 runs alive" in text and "best validation 71.2, 2/3 runs alive" in text


def _read(terminal):
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""
