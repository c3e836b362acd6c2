"""Code that a configuration names: methods and tasks of `plugins`, and metrics of the library `evaluate`.

Such code runs only where the user allows it, with `--allow-code` or EPT_ALLOW_CODE=1: a configuration may be somebody
else's.
"""

import hashlib
import importlib.metadata
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ept.errors import InputError, reason_of, shortened

ALLOW = "EPT_ALLOW_CODE"
# Groups of entry points, and the names of a file's lists of records.
GROUPS = {"ept.methods": "METHODS", "ept.tasks": "TASKS"}
# How a metric of the library `evaluate` begins in a list of metrics: a Python file, or name@revision on the Hub.
METRIC = "evaluate:"
_HUB_METRIC = re.compile(r"(?P<name>[\w.-]+(?:/[\w.-]+)?)@(?P<revision>[0-9a-f]{40})")
_allowed_metrics: set[str] = set()


@dataclass(frozen=True)
class Plugin:
    """The records that a file or an installed package defines, and the digest of its code, which enters hashes."""

    name: str
    methods: tuple[Any, ...]
    tasks: tuple[Any, ...]
    digest: str


def register(records: dict[str, Any], kind: type[Any], record: Any, code: str) -> None:
    """Add the record of a plugin to a registry.

    Args:
        records: The registry: records by name.
        kind: Their class, which has `name` and `code`.
        record: What the plugin lists.
        code: Digest of the plugin's code.

    Raises:
        InputError: It is not such a record, or has the name of one of this package.
    """
    if not isinstance(record, kind):
        raise InputError(f"found {type(record).__name__}; list records of {kind.__module__}.{kind.__name__}")
    if record.name in records and not records[record.name].code:
        raise InputError(f"{record.name} is the name of a {kind.__name__.lower()} of this package; choose another")
    records[record.name] = replace(record, code=code)


def load_plugin(name: str, allow_code: bool = False) -> Plugin:
    """Run the code of a plugin and return its records. A file that was run before in this process is not run again.

    Args:
        name: A Python file with lists METHODS and TASKS (either may be missing), or the name of an entry point of an
            installed package in the group `ept.methods` or `ept.tasks`.
        allow_code: Whether the user allows code; EPT_ALLOW_CODE=1 in the environment allows it too.

    Raises:
        InputError: Code is not allowed, the file or entry point does not exist, or its code fails.
    """
    shown = shortened(ascii(name), 100)
    _check_allowed("plugins", name, allow_code)
    try:
        return _of_file(name) if name.endswith(".py") else _of_entry_points(name)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"plugins: {shown} cannot be read ({error.strerror}); check the path") from error
    except Exception as error:  # whatever that code raises
        raise InputError(f"plugins: {shown} failed with {type(error).__name__}: {reason_of(error)}") from error


def metric_code(metric: str) -> str:
    """What a metric of `evaluate` is known by in hashes: the digest of its file, or its revision on the Hub.

    Raises ValueError for a file that cannot be read, and for a name of the Hub without a revision.
    """
    source = metric.removeprefix(METRIC)
    if source.endswith(".py"):
        try:
            return hashlib.sha256(Path(source).read_bytes()).hexdigest()
        except OSError as error:
            shown = shortened(ascii(metric), 100)
            raise ValueError(f"metrics contains {shown}, which cannot be read ({error.strerror})") from error
    if found := _HUB_METRIC.fullmatch(source):
        return found["revision"]
    raise ValueError(
        f"metrics contains {shortened(ascii(metric), 100)}; write {METRIC}path/to/metric.py, or {METRIC}name@revision "
        "with a commit of 40 hexadecimal digits"
    )


def allow_metrics(metrics: Sequence[str], allow_code: bool) -> None:
    """Let the metrics of `evaluate` among these run in this process. Raises InputError where code is not allowed."""
    for metric in metrics:
        if metric.startswith(METRIC):
            _check_allowed("metrics", metric, allow_code)
            _allowed_metrics.add(metric)


def _check_allowed(key: str, name: str, allow_code: bool) -> None:
    if not allow_code and os.environ.get(ALLOW) != "1":
        raise InputError(
            f"{key} contains {shortened(ascii(name), 100)}, which is Python code; a configuration alone runs no code: "
            f"if you trust it, add --allow-code or set {ALLOW}=1"
        )


@cache
def load_metric(metric: str) -> Any:
    """The metric as a module of `evaluate`. Raises InputError: it was not allowed here, is missing, or fails."""
    shown = shortened(ascii(metric), 100)
    if metric not in _allowed_metrics:
        raise InputError(f"{shown} is Python code and was not allowed; add --allow-code or set {ALLOW}=1")
    try:
        import evaluate
    except ImportError as error:
        raise InputError(f"{shown} needs the library evaluate; install the extra `data`") from error
    source = metric.removeprefix(METRIC)
    found = _HUB_METRIC.fullmatch(source)
    where = {"path": found["name"], "revision": found["revision"]} if found else {"path": str(Path(source).resolve())}
    try:
        return evaluate.load(**where, keep_in_memory=True)
    except Exception as error:  # whatever that library or the metric's code raises
        raise InputError(f"{shown} failed with {type(error).__name__}: {reason_of(error)}") from error


def _of_file(path: str) -> Plugin:
    content = Path(path).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    # Records name their classes by the module's name: of equal files there is one module.
    name = f"ept_plugin_{digest[:16]}"
    if name not in sys.modules:
        module = ModuleType(name)
        module.__file__ = path
        sys.modules[name] = module
        try:
            exec(compile(content, path, "exec"), module.__dict__)  # noqa: S102 - allowed by the user
        except BaseException:
            del sys.modules[name]
            raise
    methods, tasks = (tuple(getattr(sys.modules[name], listed, ())) for listed in GROUPS.values())
    return Plugin(path, methods, tasks, digest)


def _of_entry_points(name: str) -> Plugin:
    found = {group: importlib.metadata.entry_points(group=group, name=name) for group in GROUPS}
    if not any(found.values()):
        raise InputError(
            f"plugins contains {shortened(ascii(name), 100)}, neither a Python file (.py) nor an entry point of "
            f"an installed package in the groups {' and '.join(GROUPS)}"
        )
    digest = hashlib.sha256()
    records: dict[str, list[Any]] = {group: [] for group in GROUPS}
    for group, points in found.items():
        for point in points:
            value = point.load()
            records[group] += value if isinstance(value, Sequence) else [value]
            digest.update(Path(str(sys.modules[point.module].__file__)).read_bytes())
            digest.update(f"{point.dist.name}=={point.dist.version}".encode() if point.dist else b"")
    methods, tasks = (tuple(found) for found in records.values())
    return Plugin(name, methods, tasks, digest.hexdigest())
