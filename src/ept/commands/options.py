"""What the verbs share: how one is added, and the options that several have."""

import argparse
import contextlib
import inspect
import math
from collections.abc import Callable
from pathlib import Path

from ept.devices import MOST_THREADS
from ept.plan.experiment import Experiment

Verb = Callable[[argparse.Namespace], None]


class Verbs:
    """Adds verbs to the parser, in groups. The docstring of a verb's function is its help."""

    def __init__(self, parser: argparse.ArgumentParser, parser_class: type[argparse.ArgumentParser]):
        self._parsers = parser.add_subparsers(
            prog=parser.prog, required=True, metavar="VERB", parser_class=parser_class, help=argparse.SUPPRESS
        )
        self._groups: dict[str, dict[str, str]] = {}

    def group(self, title: str) -> None:
        """Put the verbs that are added from now on under this title of `ept --help`."""
        self._groups[title] = {}

    def add(self, verb: Verb, name: str | None = None) -> argparse.ArgumentParser:
        """Add a verb without a configuration, called `name` or as its function."""
        name = name or verb.__name__
        text = inspect.getdoc(verb) or ""
        parser = self._parsers.add_parser(name, description=text)
        parser.set_defaults(verb=verb)
        self._groups[next(reversed(self._groups))][name] = text.splitlines()[0]
        return parser

    def add_with_config(self, verb: Verb, name: str | None = None, several: bool = False) -> argparse.ArgumentParser:
        """Add a verb that reads a configuration (--config, or --configfile as Snakemake calls it), or several."""
        parser = self.add(verb, name)
        path = "config/config.yaml"
        if several:
            words = f"configuration files, a backbone each ({path})"
            parser.add_argument("--config", "--configfile", nargs="+", default=[path], help=words)
        else:
            parser.add_argument("--config", "--configfile", default=path, help="configuration file (%(default)s)")
        parser.add_argument("--costs", type=Path, help="write wall time, CPU time and peak memory to this file")
        parser.add_argument("--allow-code", action="store_true", help="run the Python code of the key `plugins`")
        return parser

    @property
    def names(self) -> list[str]:
        """All verbs, in the order in which they were added."""
        return [name for verbs in self._groups.values() for name in verbs]

    def overview(self) -> str:
        """The verbs by group, one line each, for `ept --help`."""
        width = max(map(len, self.names)) + 2
        return "".join(
            f"{title}:\n" + "".join(f"  {name:{width}}{text}\n" for name, text in verbs.items()) + "\n"
            for title, verbs in self._groups.items()
        )


def experiment_of(options: argparse.Namespace) -> Experiment:
    """Return the experiment that --config describes. Raises InputError for an invalid configuration."""
    from ept.config.configuration import load_configuration

    return Experiment(load_configuration(options.config, options.allow_code))


def add_task(parser: argparse.ArgumentParser) -> None:
    """Add --task, required."""
    parser.add_argument("--task", required=True, help="task name, for example rte")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add --threads, 1 by default."""
    parser.add_argument("--threads", type=_threads, default=1, help="CPU threads (%(default)s)")


def gpu_count(text: str) -> int:
    """Parse a number of GPUs, for argparse."""
    return _number(text, "GPUs", 0, MOST_THREADS)


def count(text: str) -> int:
    """Parse how many of something there may be, for argparse: 1 or more."""
    return _number(text, "rows or characters", 1, 10**8)


def port(text: str) -> int:
    """Parse a port to listen on, for argparse."""
    return _number(text, "the port", 1, 65535)


def seconds(text: str) -> float:
    """Parse a duration in seconds, for argparse."""
    with contextlib.suppress(ValueError):
        if 0 <= (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"found {text!r}; it must be a number of seconds, 0 or more")


def _threads(text: str) -> int:
    return _number(text, "threads", 1, MOST_THREADS)


def _number(text: str, what: str, least: int, most: int) -> int:
    # A length first: Python refuses to read integers of thousands of digits.
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"found {text!r}; the number of {what} must be from {least} to {most}")
    return int(text)
