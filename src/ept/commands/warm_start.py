"""Jobs of a local workflow start from one warm process, so that torch is imported once and not by each of them.

Snakemake starts the warm process when its first job is due (`start`) and puts its address into the jobs' environment.
`ept VERB` then only hands itself over (`hand_over`): arguments, environment, working directory and its three standard
streams. The warm process (`serve`) imports what the verb needs, once, and forks; the fork is the job. The process that
Snakemake started waits, passes signals on and ends with the job's exit status: to Snakemake, to a shell and to `kill`
the job seems to run there. It does run there if there is no warm process, or if that one cannot take it.

Nothing outlives the workflow: the warm process holds one end of a pipe whose other end only Snakemake has, and ends
when Snakemake and the jobs that it started have ended. A job ends when the process that waits for it is killed.
"""

import atexit
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import ept

ADDRESS = "EPT_WARM_START"
# A process with threads must not be forked, and importing numpy starts those of its BLAS: only for jobs of one thread.
# Snakemake sets the variable for each job.
THREADS = "OMP_NUM_THREADS"
# What a stopped job must hear of. A terminal sends the last three to every process that it shows.
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
STREAMS = (0, 1, 2)
SECONDS_TO_ASK = 10.0


# ---- In Snakemake ----------------------------------------------------------------------------------------------------


def start(log: Path) -> None:
    """Start the warm process of the jobs that this process will start, which find it by `ADDRESS` in the environment.

    Args:
        log: What the warm process prints; nothing, if all is well.
    """
    # Not at the top: every job imports this module.
    import subprocess

    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return
    # An abstract address is no file that could be left behind.
    address = f"ept-{os.urandom(16).hex()}"
    lifeline, held = os.pipe()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file, socket.socket(socket.AF_UNIX) as listener:
        # Listens from now on: a job that comes while the warm process still imports waits for it.
        listener.bind(f"\0{address}")
        listener.listen(128)
        code, handles = "from ept.cli import serve_jobs; serve_jobs()", (listener.fileno(), lifeline)
        subprocess.Popen(  # noqa: S603
            # The address is there for those who look at the list of processes.
            [sys.executable, "-c", code, address, *map(str, handles)],
            pass_fds=handles,
            env=os.environ | {THREADS: "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            # Ctrl-C is for the processes that wait, which pass it on.
            start_new_session=True,
        )
    os.close(lifeline)
    # Open until this process ends, however it ends; no child inherits it.
    os.set_inheritable(held, False)
    os.environ[ADDRESS] = address


# ---- In the process that Snakemake starts for a job ------------------------------------------------------------------


def hand_over(arguments: list[str]) -> int | None:
    """Let the warm process run `ept` with these arguments, and wait for it.

    Returns:
        The job's exit status, 128 + the number of the signal that ended it, or None where there is no warm process for
        it: then it must run here.
    """
    address = os.environ.get(ADDRESS)
    if not address or os.environ.get(THREADS) != "1":
        return None
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"\0{address}")
        if _user(connection) != os.getuid():
            return None
        request = {
            "arguments": arguments,
            "environment": dict(os.environ),
            "folder": os.getcwd(),
            "package": ept.__path__[0],
        }
        content = json.dumps(request).encode("utf-8", "surrogateescape")
        with _signals_passed_on(connection):
            socket.send_fds(connection, [struct.pack("!Q", len(content))], STREAMS)
            connection.sendall(content)
            return _wait(connection)
    return None


def _wait(connection: socket.socket) -> int | None:
    """The exit status of the job that was handed over; None where it was refused."""
    with connection.makefile() as answers:
        if not (started := answers.readline()):
            return None
        with contextlib.suppress(OSError):
            if status := answers.readline():
                return int(status)
    # The warm process was killed. A job without anybody who waits for it must not write into the next attempt.
    os.kill(int(started), signal.SIGKILL)
    print("error: the process that this job was started from was killed; start the workflow again", file=sys.stderr)
    return 128 + signal.SIGKILL


@contextlib.contextmanager
def _signals_passed_on(connection: socket.socket) -> Iterator[None]:
    """Send the number of each signal that would end this process, and of those that stop and continue it."""

    def pass_on(number: int, _frame: object) -> None:
        connection.send(bytes([number]))

    def stop(_number: int, _frame: object) -> None:
        connection.send(bytes([signal.SIGSTOP]))
        os.kill(os.getpid(), signal.SIGSTOP)

    handlers = dict.fromkeys([*PASSED_ON, signal.SIGCONT], pass_on) | {signal.SIGTSTP: stop}
    # What was ignored stays so (nohup).
    before = {number: signal.getsignal(number) for number in handlers}
    for number, handler in handlers.items():
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


# ---- In the warm process ---------------------------------------------------------------------------------------------


class Request(NamedTuple):
    """A job that was handed over."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    package: str


class _Job(NamedTuple):
    """A running job: its process, by number and by handle, and the connection to who waits for it."""

    pid: int
    handle: int
    connection: socket.socket


def serve(listening: int, lifeline: int, prepare: Callable[[str], None]) -> Request | None:
    """Fork a process for every job that is handed over, until the workflow has ended.

    Args:
        listening: A Unix socket that listens.
        lifeline: The reading end of a pipe that closes when the workflow ends.
        prepare: Imports what a verb needs; called before each fork.

    Returns:
        In a forked process, which has the streams, environment and folder of the one that waits for it: its job. In the
        warm process None, at the end.
    """
    # Forks share what is there now, and the collector would copy it by looking at it.
    gc.disable()
    with socket.socket(fileno=listening) as listener, selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(lifeline, selectors.EVENT_READ)
        jobs: list[_Job] = []
        open_ = True
        while open_ or jobs:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    found = _accept(listener, prepare)
                    if found is None:
                        continue
                    connection, request, streams = found
                    if (pid := _fork()) == 0:
                        for job in jobs:
                            job.connection.close()
                            os.close(job.handle)
                        connection.close()
                        os.close(lifeline)
                        _become(request, streams)
                        return request
                    for stream in streams:
                        os.close(stream)
                    if pid is None:
                        connection.close()
                        continue
                    with contextlib.suppress(OSError):
                        connection.sendall(f"{pid}\n".encode())
                    job = _Job(pid, os.pidfd_open(pid), connection)
                    jobs.append(job)
                    selector.register(job.handle, selectors.EVENT_READ, job)
                    selector.register(job.connection, selectors.EVENT_READ, job)
                elif key.fileobj == lifeline:
                    open_ = False
                    selector.unregister(listener)
                    selector.unregister(lifeline)
                elif key.data in jobs and key.fileobj is key.data.connection:
                    _pass_on(key.data, selector)
                elif key.data in jobs:
                    _report(key.data, selector)
                    jobs.remove(key.data)
    return None


def _close(streams: list[int]) -> None:
    for stream in streams:
        os.close(stream)


def _accept(listener: socket.socket, prepare: Callable[[str], None]) -> tuple[socket.socket, Request, list[int]] | None:
    """The connection, the request and its streams; None where it is refused, which its sender sees."""
    connection, _ = listener.accept()
    streams: list[int] = []
    with contextlib.ExitStack() as undo, contextlib.suppress(OSError, ValueError, TypeError, struct.error, ImportError):
        undo.callback(connection.close)
        undo.callback(_close, streams)
        if _user(connection) != os.getuid():
            return None
        connection.settimeout(SECONDS_TO_ASK)
        head, streams, _, _ = socket.recv_fds(connection, struct.calcsize("!Q"), len(STREAMS))
        content = b""
        while len(content) < struct.unpack("!Q", head)[0]:
            if not (part := connection.recv(1 << 16)):
                return None
            content += part
        connection.settimeout(None)
        request = Request(**json.loads(content.decode("utf-8", "surrogateescape")))
        if request.package != ept.__path__[0] or len(streams) != len(STREAMS):
            return None
        prepare(request.arguments[0] if request.arguments else "")
        gc.freeze()
        undo.pop_all()
        return connection, request, streams
    return None


def _fork() -> int | None:
    """As os.fork; None where the system has no process left."""
    try:
        return os.fork()
    except OSError:
        return None


def _become(request: Request, streams: list[int]) -> None:
    """Give this process the streams, environment and folder of the one that waits for it."""
    gc.enable()
    for stream, number in zip(streams, STREAMS, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)


def leave(status: int) -> NoReturn:
    """End a forked process. Python would first take apart what it shares with the others, for a quarter of a second."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _pass_on(job: _Job, selector: selectors.BaseSelector) -> None:
    """Send a job the signals that its waiting process got, and kill it where that one was killed."""
    try:
        numbers = job.connection.recv(64)
    except OSError:
        numbers = b""
    with contextlib.suppress(ProcessLookupError):
        for number in numbers or bytes([signal.SIGKILL]):
            signal.pidfd_send_signal(job.handle, number)
    if not numbers:
        selector.unregister(job.connection)


def _report(job: _Job, selector: selectors.BaseSelector) -> None:
    """Tell the waiting process how its job ended."""
    _, status = os.waitpid(job.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    selector.unregister(job.handle)
    os.close(job.handle)
    with contextlib.suppress(KeyError):
        selector.unregister(job.connection)
    with contextlib.suppress(OSError):
        job.connection.sendall(f"{code if code >= 0 else 128 - code}\n".encode())
    job.connection.close()


def _user(connection: socket.socket) -> int:
    """The user at the other end of a Unix socket."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", credentials)[1]
