"""Verbs around DVC: a remote, and the comparison of recorded results with a rebuild."""

import argparse
import sys

from ept.commands.options import Verbs


def add_verbs(verbs: Verbs) -> None:
    """push, pull, clean-room."""
    verbs.add(push)
    verbs.add(pull).add_argument("targets", nargs="*", help="outputs or files in them; without any, everything")
    verbs.add(clean_room, "clean-room")


def push(options: argparse.Namespace) -> None:
    """Send data, prompts and results that dvc.lock names to the remote."""
    from ept.remote import push

    print(f"{push()} files sent")


def pull(options: argparse.Namespace) -> None:
    """Fetch data, prompts and results that dvc.lock names from the remote; `make pull` then tells Snakemake."""
    from ept.remote import pull

    print(f"{pull(options.targets)} files fetched")


def clean_room(options: argparse.Namespace) -> None:
    """Make everything again in a clone without results, and compare its tables with the recorded ones."""
    from ept.clean_room import compared_files, differing, rebuild, remove
    from ept.config import load_configuration
    from ept.experiment import Experiment

    # The configuration that dvc.yaml reads.
    experiment = Experiment(load_configuration("config/config.yaml"))
    clone = rebuild(experiment)
    files, different = compared_files(experiment), differing(experiment, clone)
    print(f"{len(files) - len(different)} of {len(files)} files are byte for byte the recorded ones")
    if different:
        for path in different:
            print(f"differs: {path}")
        print(f"the rebuilt ones are in {clone}")
        sys.exit(1)
    remove(clone)
