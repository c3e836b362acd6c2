"""A real SLURM of one node on this machine: installed where that is allowed, started, and taken away again."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from filelock import FileLock

# Where SLURM's programs look when nothing else is said; the plugin's inner step drops SLURM_CONF.
CONFIGURATION = Path("/etc/slurm/slurm.conf")
SAVED = CONFIGURATION.with_name("slurm.conf.before-ept-tests")
DAEMONS = ("slurmctld", "slurmd")
PACKAGES = (*DAEMONS, "slurm-client")
# So that two suites on one machine do not meet at the standard place.
LOCK = Path("/run/ept-tests-slurm.lock")

# auth/none: whoever reaches the port may run jobs as root, so it must listen on loopback alone (NoCtldInAddrAny,
# NoInAddrAny). cred_expire is how long a requeued job waits before it starts again. Memory is enforced by a look at the
# processes every second, which needs no cgroups. `urgent` alone takes the node from jobs in `spare`.
TEMPLATE = """\
ClusterName=ept-tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
AuthInfo=cred_expire=10
CredType=cred/none
MpiDefault=none
ReturnToService=2
MinJobAge=3600
KillWait=30
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 PreemptMode=OFF
PartitionName=spare Nodes=ALL PriorityTier=1
PartitionName=urgent Nodes=ALL PriorityTier=9 PreemptMode=OFF
"""


class Unavailable(Exception):
    """Why no SLURM can be started here."""


class SingleNode:
    """`with SingleNode(folder):` SLURM runs, with its state and logs in `folder`. Raises Unavailable."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        self.daemons: list[subprocess.Popen] = []
        self.lock = FileLock(LOCK)

    def __enter__(self) -> "SingleNode":
        if os.geteuid() != 0:
            raise Unavailable("SLURM's daemons need root")
        self.lock.acquire()
        try:
            _end_daemons_left()
            _restore_configuration()
            if any(_program(process) in DAEMONS for process in Path("/proc").glob("[0-9]*")):
                raise Unavailable("a SLURM runs on this machine already")
            install()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.daemons:
                self._end_jobs()
        finally:
            for daemon in reversed(self.daemons):
                daemon.terminate()
                daemon.wait()
            self.daemons.clear()
            _restore_configuration()
            self.lock.release()

    def _start(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        CONFIGURATION.parent.mkdir(parents=True, exist_ok=True)
        if CONFIGURATION.exists():
            CONFIGURATION.rename(SAVED)
        CONFIGURATION.write_text(TEMPLATE.format(host=self.host, folder=self.folder))
        for command in (["slurmctld", "-c", "-D"], ["slurmd", "-N", self.host, "-D"]):
            with open(self.folder / f"{command[0]}.log", "w") as log:
                self.daemons.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
        if not wait_for(lambda: "idle" in call("sinfo", "--noheader", "--format=%T"), seconds=60):
            logs = "".join(path.read_text()[-1500:] for path in sorted(self.folder.glob("*.log")))
            raise RuntimeError(f"SLURM did not come up:\n{logs}")

    def _end_jobs(self) -> None:
        """Every job is asked to end and, after KillWait, made to, so that no process outlives the daemons."""
        call("scancel", "--user=root")
        if not wait_for(lambda: not call("squeue", "--noheader"), seconds=45):
            raise RuntimeError(f"jobs did not end:\n{call('squeue')}")


def call(*command: str) -> str:
    """What a SLURM command prints; its errors stand there too, for it may be asked before the daemons answer."""
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout.strip()


def wait_for(condition, seconds: float) -> bool:
    """Whether `condition()` came true within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.3)
    return False


def _restore_configuration() -> None:
    if _is_ours():
        CONFIGURATION.unlink()
    if SAVED.exists():
        SAVED.rename(CONFIGURATION)


def _is_ours() -> bool:
    return CONFIGURATION.exists() and "ClusterName=ept-tests" in CONFIGURATION.read_text()


def _end_daemons_left() -> None:
    """Of a test run that was killed: its configuration says where their process numbers are."""
    if _is_ours():
        for path in re.findall(r"PidFile=(.+)", CONFIGURATION.read_text()):
            with contextlib.suppress(OSError, ValueError):
                pid = int(Path(path).read_text())
                if _program(Path(f"/proc/{pid}")) in DAEMONS:
                    os.kill(pid, signal.SIGKILL)


def install(pause_seconds: float = 20) -> None:
    """Install SLURM if it is missing, in three tries, because a mirror may fail for a moment. Raises Unavailable."""
    if all(shutil.which(program) for program in (*DAEMONS, "sbatch")):
        return
    if not shutil.which("apt-get"):
        raise Unavailable(f"{', '.join(PACKAGES)} are not installed, and there is no apt-get to install them with")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for pause in (pause_seconds, pause_seconds, 0):
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
            done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True)
        if done.returncode == 0:
            return
        time.sleep(pause)
    raise Unavailable(f"apt-get cannot install {', '.join(PACKAGES)}: {done.stderr.strip()[-300:]}")


def _program(process: Path) -> str:
    """The name of what runs in a folder of /proc; nothing for a process that has ended and is not waited for."""
    with contextlib.suppress(OSError):
        return Path((process / "cmdline").read_text().split("\0")[0]).name
    return ""
