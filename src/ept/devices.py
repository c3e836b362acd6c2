"""GPUs, CPU threads and precision of a job among others on the same machine. Imports torch only where it is needed."""

import contextlib
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from ept.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 0.2
# torch and numpy, their BLAS, pyarrow (OMP), tokenizers (RAYON).
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
# As /proc/cpuinfo calls them, the fastest first: Intel's tiles, AVX-512 of Intel and AMD, ARM.
BFLOAT16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")
# More than any machine has cores; libraries crash at a hundred thousand.
MOST_THREADS = 1024


def limit_threads(threads: int) -> None:
    """Let libraries that are imported after this start at most so many CPU threads each.

    Raises InputError unless the number is from 1 to 1024.
    """
    if not 1 <= threads <= MOST_THREADS:
        raise InputError(f"--threads is {threads}; use a number from 1 to {MOST_THREADS}")
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)


def set_tf32(allowed: bool) -> None:
    """Let CUDA multiply float32 matrices in TF32 (10-bit mantissas), or in float32 throughout; a CPU ignores it.

    Tensors stay float32. Matrix products are then up to eight times as fast on data-center GPUs since Ampere. It holds
    for the whole process until it is called again: call it before the first product of a training or prediction.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def cpu_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """The instructions with which this CPU multiplies bfloat16 matrices, for example avx512_bf16; None without any.

    With them `backbone.dtype: bfloat16` roughly doubles the rate of matrix products, and without them it is slower than
    float32. Known on Linux only.
    """
    with contextlib.suppress(OSError):
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        # x86 has `flags`, ARM `Features`.
        flags = next((line.split() for line in lines if line.startswith(("flags", "Features"))), [])
        return next((name for name in BFLOAT16_INSTRUCTIONS if name in flags), None)
    return None


@contextlib.contextmanager
def free_gpus(count: int) -> Iterator[None]:
    """Show torch `count` free GPUs of those that are visible (CUDA_VISIBLE_DEVICES), all of them where there are fewer.

    They stay locked against this user's other jobs on the machine until the block ends or the process exits, even if it
    is killed. Where too few are free it waits. With 0, or on a machine without GPUs, torch sees none. Call it before
    anything uses CUDA.
    """
    names = visible_gpus() if count else []
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(taken(names, min(count, len(names)), lock_folder())) if names else []
        stack.enter_context(_environment(VISIBLE, ",".join(found)))
        yield


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, each as CUDA_VISIBLE_DEVICES names it."""
    import torch

    # Counted without initializing CUDA, which reads the variable only once.
    count = torch.cuda.device_count()
    named = os.environ.get(VISIBLE)
    names = [str(index) for index in range(count)] if named is None else named.split(",")[:count]
    return [name.strip() for name in names]


def lock_folder() -> Path:
    """The folder in which this user's jobs on this machine lock GPUs.

    Each Slurm job has one of its own, because Slurm may number the GPUs of every job from 0.
    """
    scope = "-".join(["ept-gpus", str(os.getuid()), *filter(None, [os.environ.get("SLURM_JOB_ID")])])
    return Path(tempfile.gettempdir()) / scope


@contextlib.contextmanager
def taken(names: Sequence[str], count: int, folder: Path) -> Iterator[list[str]]:
    """Lock the first `count` free devices of `names`; waits until there are as many.

    Args:
        names: The devices, in the order of preference.
        count: How many of them are wanted.
        folder: Where their lock files are.

    Yields:
        The names of the locked devices, which are free again when the block ends or the process exits.

    Raises:
        InputError: Where `folder` is a link or belongs to somebody else, who could write elsewhere through it.
    """
    _make_private(folder)
    with contextlib.ExitStack() as locks:
        found = _lock(names, count, folder, locks)
        if len(found) < count:
            print(_waiting(names, count), file=sys.stderr, flush=True)
        while len(found) < count:
            # All or none: two jobs never wait for each other.
            locks.close()
            time.sleep(POLL_SECONDS)
            found = _lock(names, count, folder, locks)
        yield found


def _lock(names: Sequence[str], count: int, folder: Path, locks: contextlib.ExitStack) -> list[str]:
    """Lock the free devices of `names`, at most `count` of them; closing `locks` frees them."""
    found: list[str] = []
    for name in names:
        lock = FileLock(folder / f"{name.replace('/', '-')}.lock")
        if len(found) < count:
            with contextlib.suppress(Timeout):
                lock.acquire(blocking=False)
                locks.callback(lock.release)
                found.append(name)
    return found


def _make_private(folder: Path) -> None:
    """Make a folder that this user alone can write to. Raises InputError for a link, and for somebody else's."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise InputError(f"{folder} is not a folder of this user; remove it, or set TMPDIR to another folder")


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
