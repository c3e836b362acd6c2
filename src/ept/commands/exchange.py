"""Verbs that exchange prompts with other programs."""

import argparse
from pathlib import Path

from ept.commands.options import Verbs
from ept.exchange.formats import FORMATS, IMPORTS


def add_verbs(verbs: Verbs) -> None:
    """Add `import` and `export`."""
    verbs.group("exchange prompts with other programs")
    importing, exporting = verbs.add(import_prompt, "import"), verbs.add(export_prompt, "export")
    for exchange, source, target in (
        (importing, "adapter folder or hub:owner/name[@revision]", "prompt file"),
        (exporting, "prompt file", "folder"),
    ):
        exchange.add_argument("--from", dest="origin", required=True, help=f"the {source} to read")
        exchange.add_argument("--to", required=True, help=f"the new {target}")
    importing.add_argument("--format", choices=IMPORTS, help="the other program's format (what the folder says)")
    exporting.add_argument("--format", required=True, choices=FORMATS, help="the other program's format")
    importing.add_argument("--backbone-folder", help="check that the prompt fits the backbone in this folder")
    exporting.add_argument("--backbone", help="public name of the base model, for the folder's configuration")


def import_prompt(options: argparse.Namespace) -> None:
    """Convert another program's adapter folder (DePT's released code, PEFT) to a prompt file."""
    from ept.exchange.formats import import_prompt
    from ept.exchange.read import format_of

    if options.origin.startswith("hub:"):
        _import_from_hub(options)
        return
    options.format = options.format or format_of(Path(options.origin))
    print("\n".join(import_prompt(options.format, options.origin, options.to, options.backbone_folder)))


def export_prompt(options: argparse.Namespace) -> None:
    """Convert a prompt file to an adapter folder of another program (DePT's code, PEFT)."""
    from ept.exchange.formats import export_prompt

    print("\n".join(export_prompt(options.format, options.origin, options.to, options.backbone)))


def _import_from_hub(options: argparse.Namespace) -> None:
    """Write the prompt of a Hub repository as a prompt file."""
    from ept.api.prompt import Prompt
    from ept.errors import InputError
    from ept.methods.prompt_file import save_prompt

    repository, _, revision = options.origin.removeprefix("hub:").partition("@")
    if Path(options.to).exists():
        raise InputError(f"{options.to} exists already; name a new file with --to, or remove that one")
    prompt = Prompt.from_pretrained(repository, revision=revision or None)
    save_prompt(options.to, prompt.saved.tensors, prompt.saved.collapsed, prompt.metadata)
    print(f"{options.to}: {prompt!r}")
