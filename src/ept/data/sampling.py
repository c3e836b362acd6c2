"""The order of training examples: random, in batches of like length, the same alone and in a pack."""

import numpy as np

from ept.errors import InputError

# Seeds the order of batches, which all runs share; large, so that no run's seed meets it.
_SHARED = 0x6570745F6F72646572


class BatchOrder:
    """Which rows each run trains on at each step: a pure function of (seed, step).

    An epoch of a run is a permutation of its rows, seeded by (seed, epoch), cut into windows of `window`
    batches. Inside a window rows are sorted by length and cut into batches, and the batches are taken in a
    random order that all runs share: so that at any step all runs of a pack meet batches of like length
    (which are padded together), and a run meets the same batches alone. Seen over steps, every row is equally
    likely at each. Whole batches only: the remainder of an epoch is dropped, other rows each time. With fewer
    rows than `batch_size`, a batch is all rows.

    A small training set would be cut by length into the same batches in every epoch, so that there are at
    least four windows an epoch, where there are as many batches.
    """

    def __init__(
        self, lengths: np.ndarray, rows: np.ndarray, seeds: list[int], batch_size: int, window: int = 50
    ) -> None:
        """`lengths` [split]: of all its rows; `rows` [runs, n]: row numbers of each run's examples."""
        runs, count = rows.shape
        if len(seeds) != runs or not count:
            raise ValueError(f"{len(seeds)} seeds for rows of shape {rows.shape}")
        self._lengths, self._rows, self._seeds = lengths, rows, seeds
        self.batch_size = min(batch_size, count)
        self.batches_per_epoch = count // self.batch_size
        self.window = max(1, min(window, self.batches_per_epoch // 4))
        self._epoch, self._order = -1, np.empty((runs, 0), np.int64)

    def batch(self, step: int) -> np.ndarray:
        """Row numbers [runs, batch], int64, of a step counted from 0."""
        epoch, position = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            self._order = np.stack([self._run_order(run, epoch) for run in range(len(self._seeds))])
            self._epoch = epoch
        window, place = divmod(position, self.window)
        start = window * self.window
        batches = min(self.window, self.batches_per_epoch - start)
        number = start + np.random.default_rng((_SHARED, epoch, window)).permutation(batches)[place]
        return self._order[:, number * self.batch_size : (number + 1) * self.batch_size]

    def _run_order(self, run: int, epoch: int) -> np.ndarray:
        """The epoch's rows of a run, windows in random order and rows of a window by length."""
        kept = self.batches_per_epoch * self.batch_size
        permutation = np.random.default_rng((self._seeds[run], epoch)).permutation(self._rows.shape[1])
        rows = self._rows[run, permutation[:kept]].astype(np.int64)
        windows = np.arange(kept) // (self.window * self.batch_size)
        return rows[np.lexsort((self._lengths[rows], windows))]


# Keeps the sampler's random numbers apart from those of batches, which are seeded by the run's seed too.
_STREAM = 4_016_032


def sample_k_shot(labels: np.ndarray, kind: str, k: int, seed: int, classes: int) -> np.ndarray:
    """Row numbers [k], int64, ascending, of a k-shot sample: a pure function of the arguments.

    `labels` [rows] are class indices (classification), scores (regression) or not looked at (extraction). k
    is the total number of examples. Class counts differ by at most one, and a seeded order decides which
    classes have one more; scores are balanced over their quartiles; extraction is uniform. Raises InputError
    for k < 1, a class without examples, or one with too few.
    """
    if k < 1:
        raise InputError(f"few_shot.k is {k}; k is a number of examples, at least 1")
    random = np.random.default_rng((_STREAM, seed))
    pools = _pools(np.asarray(labels), kind, classes)
    counts = np.full(len(pools), k // len(pools))
    counts[random.permutation(len(pools))[: k % len(pools)]] += 1
    for (name, pool), count in zip(pools.items(), counts, strict=True):
        if not len(pool):
            raise InputError(f"the training split has no example of {name}, so k = {k} cannot be balanced; add some")
        if len(pool) < count:
            raise InputError(f"k = {k} needs {count} examples of {name}, but there are {len(pool)}; choose a smaller k")
    chosen = [random.permutation(pool)[:count] for pool, count in zip(pools.values(), counts, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _pools(labels: np.ndarray, kind: str, classes: int) -> dict[str, np.ndarray]:
    """The rows that are balanced against each other, by their name in messages."""
    if kind == "classification":
        return {f"class {index}": np.flatnonzero(labels == index) for index in range(classes)}
    if kind == "regression":
        quarters = np.array_split(np.argsort(labels, kind="stable"), 4)
        return {f"score quartile {number}": rows for number, rows in enumerate(quarters, start=1)}
    return {"the task": np.arange(len(labels))}
