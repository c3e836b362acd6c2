"""The verb that cleans up after a crash."""

import argparse
from pathlib import Path

from ept.commands.options import Verbs, experiment_of


def add_verbs(verbs: Verbs) -> None:
    """mend."""
    verb = verbs.add_with_config(mend)
    verb.add_argument("--look", action="store_true", help="remove nothing; only say if the disk is full")


def mend(options: argparse.Namespace) -> None:
    """After a crash: remove files that are not whole, so that the workflow makes them again."""
    from ept import paths
    from ept.mend import remove_damaged, require_room

    require_room(Path.cwd())
    if options.look:
        return
    output = experiment_of(options).config.output
    for line in remove_damaged(paths.produced_folders(output)):
        print(line)
