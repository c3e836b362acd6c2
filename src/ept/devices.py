"""Which GPU a job trains on, and how many CPU threads it starts: what jobs share that run side by side. No torch before
it is needed.
"""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 0.2
# torch and numpy, their BLAS, pyarrow (OMP), tokenizers (RAYON).
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


def limit_threads(threads: int) -> None:
    """Let libraries that are imported after this start at most so many CPU threads each."""
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)


@contextlib.contextmanager
def free_gpus(count: int) -> Iterator[None]:
    """Show torch `count` free GPUs of those that are visible (CUDA_VISIBLE_DEVICES), all of them where there are fewer.

    No other job of this user on this machine that goes through here gets them before this one ends, however it ends.
    Where too few are free it waits. With 0, or on a machine without GPUs, torch sees none. Call it before anything uses
    CUDA.
    """
    names = visible_gpus() if count else []
    locked = taken(names, min(count, len(names)), lock_folder()) if names else contextlib.nullcontext([])
    with locked as found, _environment(VISIBLE, ",".join(found)):
        yield


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, each as CUDA_VISIBLE_DEVICES names it."""
    import torch

    # Counted without starting CUDA, which would read the variable once and for all.
    count = torch.cuda.device_count()
    named = os.environ.get(VISIBLE)
    names = [str(index) for index in range(count)] if named is None else named.split(",")[:count]
    return [name.strip() for name in names]


def lock_folder() -> Path:
    """Where this user's jobs on this machine lock GPUs. A job of a cluster has GPUs of its own, which Slurm may number
    from 0 in each, so that its processes share a folder among themselves alone.
    """
    scope = "-".join(["ept-gpus", str(os.getuid()), *filter(None, [os.environ.get("SLURM_JOB_ID")])])
    return Path(tempfile.gettempdir()) / scope


@contextlib.contextmanager
def taken(names: Sequence[str], count: int, folder: Path) -> Iterator[list[str]]:
    """The first `count` free ones of `names`, locked in `folder` until block or process ends; waits for them."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as locks:
        found = _lock(names, count, folder, locks)
        if len(found) < count:
            print(_waiting(names, count), file=sys.stderr, flush=True)
        while len(found) < count:
            # All or none, so that no two jobs wait for each other.
            locks.close()
            time.sleep(POLL_SECONDS)
            found = _lock(names, count, folder, locks)
        yield found


def _lock(names: Sequence[str], count: int, folder: Path, locks: contextlib.ExitStack) -> list[str]:
    """Those of the first `count` free ones of `names` that there are, which `locks` frees."""
    found: list[str] = []
    for name in names:
        lock = FileLock(folder / f"{name.replace('/', '-')}.lock")
        if len(found) < count:
            with contextlib.suppress(Timeout):
                lock.acquire(blocking=False)
                locks.callback(lock.release)
                found.append(name)
    return found


@contextlib.contextmanager
def _environment(variable: str, value: str) -> Iterator[None]:
    before = os.environ.get(variable)
    os.environ[variable] = value
    try:
        yield
    finally:
        del os.environ[variable]
        if before is not None:
            os.environ[variable] = before


def _waiting(names: Sequence[str], count: int) -> str:
    return (
        f"waiting for {count} of the GPUs that are visible ({', '.join(names)}): other jobs train on them; `snakemake "
        f"--resources gpu={len(names)}` would start no more jobs than there are GPUs"
    )
