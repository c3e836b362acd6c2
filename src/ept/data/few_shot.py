"""k training examples, balanced over classes."""

import numpy as np

from ept.errors import InputError

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
