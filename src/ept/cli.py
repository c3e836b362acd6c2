"""The command-line program behind every rule of the workflow: one verb a rule, each usable by hand."""

import argparse
import sys
from typing import NoReturn

from ept.commands import exchange, prepare, results, train
from ept.commands.options import Verbs
from ept.errors import InputError

# In the order of `ept --help`.
VERBS = (prepare, train, results, exchange)

SESSION = """\
a first session, in a clone:
  snakemake --cores all all     everything that config/config.yaml asks for
  ept show                      its main table, and where all tables are

the same by hand, one training at a time:
  ept check                                               what the configuration asks for
  ept plan                                                and what that costs: memory, steps, hours
  ept fetch --task rte                                    data/raw: the published splits
  ept tokenize --task rte                                 data/tokenized: train, validation, test
  ept train --method ept --task rte --regime full         prompts/ and results/runs/: all rates and seeds

with few examples, from a source prompt (fetch and tokenize the source tasks too):
  ept train --method ept --task mnli --regime source      once for each task in tasks.source
  ept train --method ept --task sst2 --regime source
  ept train --method ept --task rte --regime k16 --initialize-from source

Settings stand in one YAML file: --config FILE, else config/config.yaml; config/README.md explains every key. What a
mistake in it or in the data is, one sentence says; the exit status is then 2 and nothing half-written is left.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb. A user's mistake prints one sentence and returns 2."""
    options = _parser().parse_args(arguments)
    try:
        options.verb(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        # A path that cannot be read or written; what names no file is no user's mistake.
        if error.filename is None:
            raise
        where = error.filename2 or error.filename
        print(f"error: {where}: {error.strerror}; mend that path or the rights to it", file=sys.stderr)
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser whose errors look like all others."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see `{self.prog} --help`\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ept",
        description="EPT and its comparison methods under one protocol. Snakemake calls these verbs; each works alone.",
        epilog=SESSION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = Verbs(parser)
    for room in VERBS:
        room.add_verbs(verbs)
    return parser


if __name__ == "__main__":
    sys.exit(main())
