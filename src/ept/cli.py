"""The command-line program `ept`: one verb for each rule of the workflow, and a few for people.

All that a verb can end with is decided here: status 0, 2 for a user's mistake (one sentence), 128 + the number of the
signal that stopped it.
"""

import argparse
import contextlib
import functools
import importlib
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from ept import DISTRIBUTION
from ept.commands.warm_start import hand_over, leave, serve
from ept.errors import InputError, unknown

# Characters of the longest message; the end of a sentence says what to do, so the middle is cut.
LONGEST_MESSAGE = 500

# What takes long to import, by the verb that needs it; of other projects what they import at the first call.
PARQUET = ("pyarrow.dataset", "pandas")
TABLES = ("ept.results.write", "ept.results.tables.scores", *PARQUET)
MODULES = {
    "fetch": ("ept.data.fetch", *PARQUET),
    "tokenize": ("ept.data.prepare", *PARQUET),
    "train": ("ept.training.train", *PARQUET),
    "table": TABLES,
    "summary": TABLES,
    "figures": ("ept.figures.write", *TABLES),
    "report-pages": ("ept.report.write", *TABLES),
}

SESSION = """\
a first session, in a clone:
  snakemake --cores all all     everything that config/config.yaml asks for
  ept show                      its main table, and where all tables are

the same step by step:
  ept check                                               what the configuration asks for
  ept plan                                                what that costs: memory, steps, hours
  ept fetch --task rte                                    data/raw: the published splits
  ept tokenize --task rte                                 data/tokenized: train, validation, test
  ept train --method ept --task rte --regime full         prompts/ and runs/: all rates and seeds

few-shot training from a source prompt (fetch and tokenize the source tasks, too):
  ept train --method ept --task mnli --regime source      once for each task in tasks.source
  ept train --method ept --task qqp --regime source
  ept train --method ept --task rte --regime k16 --initialize-from source

All settings are in one YAML file: --config FILE (default: config/config.yaml). config/README.md explains every key.
Mistakes in the configuration or data are reported in one sentence with exit status 2; no partial files are left behind.
`ept VERB --help` describes one verb.
"""


class _Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb and return its exit status.

    Args:
        arguments: the words after `ept`; those of the command line if left out.

    Returns:
        0, or 2 for a user's mistake, which is printed in one sentence, or 128 + the number of the signal (SIGINT,
        SIGTERM, SIGPIPE) that stopped the verb.
    """
    if arguments is None and (status := hand_over(sys.argv[1:])) is not None:
        return status
    _open_what_is_closed()
    _print_what_the_terminal_lacks_as_question_marks()
    try:
        with _sigterm_like_sigint():
            status = _run(sys.argv[1:] if arguments is None else arguments)
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output (`| head`) has seen enough; without this, Python complains again at its end.
        _discard_output()
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt as stop:
        number = signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT
        _complain(f"stopped by {number.name}")
        return 128 + number
    return status


def serve_jobs() -> None:
    """The warm process of a workflow (`ept.commands.warm_start`) and, in its forks, their jobs."""
    _address, listening, lifeline = sys.argv[1:]
    if (request := serve(int(listening), int(lifeline), _prepare)) is not None:
        leave(_status_of(request.arguments))


def _status_of(arguments: list[str]) -> int:
    """Run one verb as the interpreter would, with the exit status of whatever ends it."""
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1


def _prepare(verb: str) -> None:
    """Import what a verb imports, so that jobs which are forked after this find it."""
    _parser()
    for module in MODULES.get(verb, ()):
        importlib.import_module(module)


def _run(arguments: list[str]) -> int:
    parser, verbs = _parser()
    if arguments and not arguments[0].startswith("-") and arguments[0] not in verbs:
        parser.error(unknown("verb", arguments[0], verbs))
    options, began = parser.parse_args(arguments), time.perf_counter()
    try:
        options.verb(options)
        if costs := getattr(options, "costs", None):
            from ept.report.costs import write_cost

            write_cost(costs, time.perf_counter() - began)
    except BrokenPipeError:
        raise
    except InputError as error:
        _complain(f"error: {error}")
        return 2
    except OSError as error:
        # A path that cannot be read or written, or a limit of the system. Without a number it is not the system's.
        if error.errno is None:
            raise
        path = error.filename2 or error.filename
        where = f"{path}: " if path else ""
        remedy = (
            "check the path and its permissions" if path else "check the disk and the limits of this shell (ulimit)"
        )
        _complain(f"error: {where}{error.strerror or os.strerror(error.errno)}; {remedy}")
        return 2
    return 0


def _complain(sentence: str) -> None:
    """Print a sentence on one line of stderr, without its middle if it is very long."""
    line = " ".join(sentence.split())
    if len(line) > LONGEST_MESSAGE:
        end = LONGEST_MESSAGE // 2 - 5
        line = f"{line[: LONGEST_MESSAGE - end - 5]} ... {line[-end:]}"
    print("".join(character if character.isprintable() else "?" for character in line), file=sys.stderr)


def _open_what_is_closed() -> None:
    """A shell may start a program without standard output or error (`>&-`); what is printed there goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _print_what_the_terminal_lacks_as_question_marks() -> None:
    """In a Latin-1 or ASCII locale, signs such as ≈ must not end a verb with a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextlib.contextmanager
def _sigterm_like_sigint() -> Iterator[None]:
    """Let SIGTERM unwind the verb as Ctrl-C does, so that it removes its temporary files. Training replaces both."""

    def terminate(_number: int, _frame: FrameType | None) -> NoReturn:
        raise _Terminated

    try:
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        signal.signal(signal.SIGTERM, terminate)
    except ValueError:
        # Not the main thread of a program that calls `main`: its signals are its own.
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _discard_output() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())


class _Parser(argparse.ArgumentParser):
    """A parser that reports mistakes like all others: one sentence, status 2."""

    def error(self, message: str) -> NoReturn:
        _complain(f"error: {message}; see `{self.prog} --help`")
        self.exit(2)


@functools.cache
def _parser() -> tuple[_Parser, list[str]]:
    """The parser and the names of the verbs."""
    # Imported here, where Ctrl-C during the import is no traceback.
    from ept.commands import maintain, prepare, results, train, use
    from ept.commands.options import Verbs

    parser = _Parser(
        prog="ept",
        usage="ept VERB [options]",
        description="EPT (efficient prompt tuning) and its comparison methods, trained under one protocol. Each rule "
        "of the Snakemake workflow calls one of these verbs; you can also run any of them by hand.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    verbs = Verbs(parser, _Parser)
    # In the order of `ept --help`.
    for group in (prepare, train, results, use, maintain):
        group.add_verbs(verbs)
    parser.epilog = f"{verbs.overview()}\n{SESSION}"
    return parser, verbs.names


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"ept {version(DISTRIBUTION)}"
    except PackageNotFoundError:
        # Sources on PYTHONPATH that were never installed.
        return "ept (not installed)"


if __name__ == "__main__":
    sys.exit(main())
