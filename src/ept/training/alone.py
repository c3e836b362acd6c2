"""One process trains a pack at a time, on whatever node, even where a workflow that died has left its jobs running."""

import contextlib
import sys
from collections.abc import Iterator

from filelock import FileLock

from ept import paths
from ept.pack import Pack


@contextlib.contextmanager
def alone_with(pack: Pack) -> Iterator[bool]:
    """Hold the pack's lock, which the system frees when its process dies; waits for another process's end.

    Yields whether there is still something to do: not where that other process has made every file of the pack.
    """
    path = paths.lock_file(pack.checkpoints)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    with contextlib.suppress(TimeoutError):
        lock.acquire(blocking=False)
    waits = not lock.is_locked
    if waits:
        print(f"another process trains {pack.folder}; waiting for its end", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield not (waits and all(file.is_file() for file in pack.files))
    finally:
        lock.release()
