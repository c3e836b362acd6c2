"""The verb that writes the reference of the configuration."""

import argparse
from pathlib import Path

from ept.commands.options import Verbs


def add_verbs(verbs: Verbs) -> None:
    """reference."""
    verbs.add(reference)


def reference(options: argparse.Namespace) -> None:
    """Write the configuration's schema and its reference from the typed settings."""
    from ept.reference import write_reference

    write_reference(Path("."))
