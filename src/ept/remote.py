"""Data, prompts and results to and from a remote with DVC, every failure as one sentence."""

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from ept.errors import InputError

SETTING = "`dvc remote add --local --default NAME URL`, see docs/dvc.md"

# Every kind of store reports in its own library's words; names of exceptions are part of them.
_REASONS = (
    (r"No space left on device|Disk quota exceeded|disk is full", "a disk is full; free some space"),
    (
        r"NoCredentials|PartialCredentials|InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|Forbidden|ExpiredToken"
        r"|PermissionDenied|PermissionError|AuthError",
        "it refuses the key or the password; set the right one with `dvc remote modify --local`",
    ),
    (r"NoSuchBucket|bucket does not exist", "its bucket does not exist; make it or mend the URL"),
    (
        r"RemoteMissingDeps|requires? 'dvc-",
        "DVC's part for such stores is not installed; pip install --editable '.[remotes]'",
    ),
    (
        r"EndpointConnection|Connect(ion|or|Timeout)|TimeoutError|timed out|gaierror|HostKeyNotVerifiable"
        r"|Service ?Unavailable|ClientPayloadError|IncompleteRead",
        "it cannot be reached, or the connection broke off; look at its URL and the network",
    ),
    (r"CheckoutError|FileMissing|FileNotFoundError", "it lacks files; push them from the clone that made them"),
)


def push(targets: Sequence[str] = ()) -> int:
    """Send what dvc.lock names and the remote lacks; return the number of files. Raises InputError for any failure."""
    return _move("push", targets)


def pull(targets: Sequence[str] = ()) -> int:
    """Fetch what dvc.lock names (of `targets`: paths of outputs, or in them) and put it in its place; return the number
    of files that came from the remote. Raises InputError for any failure.
    """
    fetched = _move("pull", targets)
    return fetched["stats"]["fetched"]


def _move(verb: Literal["push", "pull"], targets: Sequence[str]):
    if not Path("dvc.lock").exists():
        raise InputError("there is no dvc.lock, so that nothing is recorded to move; `dvc repro` makes and records it")
    from dvc.repo import Repo

    with _collected_failures() as failures:
        remote = "the remote"
        try:
            with Repo() as repo:
                remote = _named_remote(repo)
                return getattr(repo, verb)(targets=list(targets) or None)
        except InputError:
            raise
        # Whatever DVC and the libraries of its stores raise, the user gets one sentence.
        except Exception as error:
            reason = _reason([*failures, error])
            raise InputError(
                f"{verb} stopped at {remote}: {reason}; what has arrived stays, and the next `make {verb}` goes on"
            ) from error


def _named_remote(repo) -> str:
    """The default remote with its URL. Raises InputError where none is set."""
    name = repo.config["core"].get("remote")
    if name is None or name not in repo.config["remote"]:
        raise InputError(f"no remote is set; add yours: {SETTING}")
    return f"the remote {name} ({repo.config['remote'][name]['url']})"


def _reason(errors: list[BaseException]) -> str:
    """Why it failed, from the first error whose kind is known, else in the words of the first."""
    texts = [" ".join(_words(error)) for error in errors]
    for text in texts:
        for pattern, reason in _REASONS:
            if re.search(pattern, text):
                return reason
    return " ".join(texts[0].split())


def _words(error: BaseException) -> Iterator[str]:
    """The names and texts of an error and of what caused it."""
    while error is not None:
        yield f"{type(error).__name__}: {error}"
        error = error.__cause__ or error.__context__


class _Failures(logging.Handler):
    """Keeps the errors that DVC logs for single files; it would print a line for each."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.errors.append(record.exc_info[1])


@contextlib.contextmanager
def _collected_failures() -> Iterator[list[BaseException]]:
    handler = _Failures()
    loggers = [logging.getLogger(name) for name in ("dvc", "dvc_data", "dvc_objects")]
    before = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    try:
        yield handler.errors
    finally:
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
