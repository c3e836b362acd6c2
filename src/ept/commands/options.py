"""What the verbs share: how one is added, and the options that several have."""

import argparse
from collections.abc import Callable

Verb = Callable[[argparse.Namespace], None]


class Verbs:
    """Adds verbs to the parser. A verb's docstring is its help."""

    def __init__(self, parser: argparse.ArgumentParser):
        self._parsers = parser.add_subparsers(required=True, metavar="VERB")

    def add(self, verb: Verb, name: str | None = None) -> argparse.ArgumentParser:
        """A verb without a configuration, called as its function or `name`."""
        parser = self._parsers.add_parser(name or verb.__name__, help=verb.__doc__, description=verb.__doc__)
        parser.set_defaults(verb=verb)
        return parser

    def add_with_config(self, verb: Verb, name: str | None = None) -> argparse.ArgumentParser:
        """A verb that reads a configuration (--config, or --configfile as Snakemake calls it)."""
        parser = self.add(verb, name)
        parser.add_argument(
            "--config", "--configfile", default="config/config.yaml", help="configuration file (%(default)s)"
        )
        return parser


def experiment_of(options: argparse.Namespace):
    """The experiment that --config describes. Raises InputError for a configuration that is none."""
    from ept.config.configuration import load_configuration
    from ept.plan.experiment import Experiment

    return Experiment(load_configuration(options.config))


def add_task(parser: argparse.ArgumentParser) -> None:
    """--task, required."""
    parser.add_argument("--task", required=True, help="task name, for example rte")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """--threads, one by default."""
    parser.add_argument("--threads", type=_threads, default=1, help="CPU threads (%(default)s)")


def gpu_count(text: str) -> int:
    """A number of GPUs, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of GPUs")
    return int(text)


def _threads(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of threads above 0")
    return int(text)
