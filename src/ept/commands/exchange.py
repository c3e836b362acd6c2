"""Verbs that exchange prompts with other programs."""

import argparse

from ept.commands.options import Verbs
from ept.exchange.formats import FORMATS


def add_verbs(verbs: Verbs) -> None:
    """Add `import` and `export`."""
    verbs.group("exchange prompts with other programs")
    importing, exporting = verbs.add(import_prompt, "import"), verbs.add(export_prompt, "export")
    for exchange, source, target in (
        (importing, "adapter folder", "prompt file"),
        (exporting, "prompt file", "folder"),
    ):
        exchange.add_argument("--format", required=True, choices=FORMATS, help="the other program's format")
        exchange.add_argument("--from", dest="origin", required=True, help=f"the {source} to read")
        exchange.add_argument("--to", required=True, help=f"the new {target}")
    importing.add_argument("--backbone-folder", help="check that the prompt fits the backbone in this folder")
    exporting.add_argument("--backbone", help="public name of the base model, for the folder's configuration")


def import_prompt(options: argparse.Namespace) -> None:
    """Make a prompt file from an adapter folder of another program (DePT's released code, PEFT)."""
    from ept.exchange.formats import import_prompt

    print("\n".join(import_prompt(options.format, options.origin, options.to, options.backbone_folder)))


def export_prompt(options: argparse.Namespace) -> None:
    """Make an adapter folder for another program (DePT's released code, PEFT) from a prompt file."""
    from ept.exchange.formats import export_prompt

    print("\n".join(export_prompt(options.format, options.origin, options.to, options.backbone)))
