"""What goes wrong on a cluster, done to real jobs of a real SLURM while they train."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from slurm.single_node import call


class Training:
    """A running `ept train` in a SLURM job."""

    def __init__(self, pid: int, pack_hash: str, job: str, logs: Path):
        self.pid, self.hash, self.job, self._logs = pid, pack_hash, job, logs

    @property
    def has_begun(self) -> bool:
        """Whether its log tells of a step: by now there is something that a checkpoint could keep."""
        return any("step 1/" in path.read_text() for path in self._logs.rglob(f"{self.hash}.log"))

    def hang(self, until_seconds: float = 180) -> None:
        """Stop until SLURM has sent SIGTERM, so that a job of seconds reaches the limit on any machine; then go on."""
        self.send(signal.SIGSTOP)
        end = time.monotonic() + until_seconds
        while self.alive and time.monotonic() < end and not self._has("ShdPnd", signal.SIGTERM):
            time.sleep(0.1)
        self.send(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens where it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return Path(f"/proc/{self.pid}/cmdline").exists()

    def _has(self, field: str, number: signal.Signals) -> bool:
        with suppress(OSError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith(f"{field}:"):
                    return bool(int(line.split()[1], 16) >> (number - 1) & 1)
        return False


Fault = Callable[[Training], None]


def cancel(training: Training) -> None:
    """Somebody cancels the job."""
    call("scancel", training.job)


def kill(training: Training) -> None:
    """The process is killed and has no time for anything."""
    training.send(signal.SIGKILL)


def preempt(training: Training) -> None:
    """A job of higher rank takes the node; the job must be in a partition that allows that."""
    call("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true")
    training.hang()


def reach_the_time_limit(training: Training) -> None:
    """The job does not get ready in its time."""
    training.hang()


def trainings(folder: Path) -> list[Training]:
    """The trainings that run below `folder` as SLURM jobs."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            words = (process / "cmdline").read_text().split("\0")
            # The interpreter, the program, its verb: no shell that starts it.
            if Path(words[1]).name != "ept" or words[2] != "train" or not (process / "cwd").samefile(folder):
                continue
            environment = dict(word.partition("=")[::2] for word in (process / "environ").read_text().split("\0"))
            pack_hash = words[words.index("--hash") + 1]
            found.append(Training(int(process.name), pack_hash, environment["SLURM_JOB_ID"], folder / "logs/train"))
    return found


def strike(snakemake: subprocess.Popen, folder: Path, faults: dict[str, Fault]) -> None:
    """Do each pack's fault (by hash) to its first training that has begun, until Snakemake ends.

    What was done is taken out of `faults`.
    """
    with ThreadPoolExecutor() as threads:
        done = []
        try:
            while snakemake.poll() is None:
                for training in trainings(folder):
                    if training.hash in faults and training.has_begun:
                        done.append(threads.submit(faults.pop(training.hash), training))
                time.sleep(0.1)
        finally:
            snakemake.kill()
    for fault in done:
        fault.result()
