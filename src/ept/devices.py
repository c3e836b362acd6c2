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
def one_gpu_or_cpu(gpus: int) -> Iterator[None]:
    """Show torch one free GPU of those that are visible (CUDA_VISIBLE_DEVICES), or none where `gpus` is 0 or there is
    none.

    No other job on this machine that goes through here gets the same GPU before this one ends, however it ends. Where
    all are taken it waits. Call it before anything uses CUDA.
    """
    names = visible_gpus() if gpus else []
    with taken(names, lock_folder()) if names else contextlib.nullcontext("") as name, _environment(VISIBLE, name):
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
def taken(names: Sequence[str], folder: Path) -> Iterator[str]:
    """The first free one of `names`, locked in `folder` until the block or the process ends; waits for one to be
    freed.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    said = False
    while True:
        for name in names:
            lock = FileLock(folder / f"{name.replace('/', '-')}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            try:
                yield name
            finally:
                lock.release()
            return
        if not said:
            print(_waiting(names), file=sys.stderr, flush=True)
            said = True
        time.sleep(POLL_SECONDS)


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


def _waiting(names: Sequence[str]) -> str:
    return (
        f"waiting for a GPU: other jobs train on all that are visible ({', '.join(names)}); `snakemake --resources "
        f"gpu={len(names)}` would start no more jobs than there are GPUs"
    )
