"""What is known of the jobs of a run from Snakemake's events: which run, how many are done, how long the rest takes."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from logging import LogRecord
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

# The table that is printed as soon as it is made.
FIRST_TABLE = "main.md"
# Wildcards that name no job for a reader: what all jobs share, and digests.
UNNAMED = ("backbone", "hash", "identity")


@dataclass(frozen=True)
class RunningJob:
    """A job, the moment (seconds) at which it started, and its output files."""

    rule: str
    name: str
    started: float
    outputs: tuple[Path, ...]


class Jobs:
    """The jobs of one run of the workflow.

    Args:
        now: The clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self.now = now
        self.began = now()
        self.running: dict[int, RunningJob] = {}
        self.waiting: dict[str, int] = {}
        self.seconds: dict[str, list[float]] = {}

    def update(self, record: LogRecord) -> RunningJob | None:
        """Take an event of Snakemake; returns the job that it says has finished."""
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            self.waiting = {rule: count for rule, count in _field(record, "stats").items() if rule != "total"}
            self.began = self.now()
        elif event == LogEvent.JOB_INFO:
            self._start(record)
        elif event == LogEvent.JOB_FINISHED:
            if job := self.running.pop(_field(record, "job_id"), None):
                self.seconds.setdefault(job.rule, []).append(self.now() - job.started)
            return job
        elif event == LogEvent.JOB_ERROR:
            self.running.pop(_field(record, "jobid"), None)
        return None

    def _start(self, record: LogRecord) -> None:
        rule = _field(record, "rule_name")
        wildcards = _field(record, "wildcards") or {}
        name = " ".join([rule, *(str(value) for key, value in wildcards.items() if key not in UNNAMED)])
        outputs = tuple(map(Path, _field(record, "output") or ()))
        self.running[_field(record, "jobid")] = RunningJob(rule, name, self.now(), outputs)
        self.waiting[rule] = max(0, self.waiting.get(rule, 0) - 1)

    def seconds_left(self) -> float | None:
        """Estimated seconds until the last job ends; None until a first job has ended.

        A job is expected to take the mean of those of its rule, or of all if none of its rule has ended. The work left
        is divided by the mean number of jobs that have run at one time.
        """
        known = [seconds for found in self.seconds.values() for seconds in found]
        elapsed = self.now() - self.began
        if not known or elapsed <= 0:
            return None
        means = {rule: sum(found) / len(found) for rule, found in self.seconds.items()}
        usual = sum(known) / len(known)
        ages = [(job.rule, self.now() - job.started) for job in self.running.values()]
        work = sum(count * means.get(rule, usual) for rule, count in self.waiting.items())
        work += sum(max(0.0, means.get(rule, usual) - age) for rule, age in ages)
        together = (sum(known) + sum(age for _, age in ages)) / elapsed
        return work / max(together, 1.0)


def time_left(seconds: float | None) -> str:
    """The estimate in words; empty if there is none."""
    if seconds is None:
        return ""
    if seconds < 60:
        return "less than a minute left"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"about {hours} h {minutes} min left" if hours else f"about {minutes} min left"


def first_table(job: RunningJob) -> str:
    """The main table as text for a terminal, with its title, if this job has made it; else empty."""
    for path in job.outputs:
        if path.name == FIRST_TABLE:
            # Imported here: Snakemake loads this plugin before it has read the workflow.
            from ept.results.render import text_of

            # Another workflow, of which this one is a module, may have a file of this name.
            with contextlib.suppress(OSError, ValueError):
                return f"{path.with_suffix('')}: test scores after training on all data\n\n{text_of(path)}"
    return ""


def _field(record: LogRecord, name: str) -> Any:
    return getattr(record, name, None)
