"""The command-line program behind every rule of the workflow: one verb a rule, each usable by hand."""

import argparse
import signal
import sys
from pathlib import Path
from typing import NoReturn

from ept.errors import InputError
from ept.exchange.transfer import FORMATS

SESSION = """\
a first session, in a clone:
  snakemake --cores all all     everything that config/config.yaml asks for
  ept show                      its main table, and where all tables are

the same by hand, one training at a time:
  ept check                                               what the configuration asks for
  ept fetch --task rte                                    data/raw: the published splits
  ept tokenize --task rte                                 data/tokenized: train, validation, test
  ept train --method ept --task rte --regime full         prompts/ and results/runs/: all rates and seeds

with few examples, from a source prompt (fetch and tokenise the source tasks too):
  ept train --method ept --task mnli --regime source      once for each task in tasks.source
  ept train --method ept --task sst2 --regime source
  ept train --method ept --task rte --regime k16 --initialise-from source

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


def _experiment(options: argparse.Namespace):
    from ept.config import load_configuration
    from ept.experiment import Experiment

    return Experiment(load_configuration(options.config))


def check(options: argparse.Namespace) -> None:
    """Check a configuration and say what it asks for."""
    experiment = _experiment(options)
    runs = sum(_runs(pack) for pack in experiment.packs)
    tables = {name: experiment.tables[name] for name in experiment.default_tables}
    print(f"{options.config}: {len(tables)} tables from {len(experiment.packs)} packs of {runs} runs in all")
    for name, packs in tables.items():
        print(f"  {name}: {len(packs)} packs, methods {', '.join(dict.fromkeys(pack.method for pack in packs))}")


def _runs(pack) -> int:
    runs = len(pack.seeds)
    for rates in pack.settings["training"]["learning_rates"].values():
        runs *= len(rates)
    return runs


def fetch(options: argparse.Namespace) -> None:
    """Bring a task's published splits into data/raw, checked."""
    from ept.data.source import fetch
    from ept.tasks import get_task

    experiment = _experiment(options)
    fetch(get_task(options.task), experiment.data, experiment.raw_folder(options.task))


def tokenize(options: argparse.Namespace) -> None:
    """Split a task by the protocol and tokenise it into memory-mapped Arrow."""
    from ept.data.tokenize import tokenize_task
    from ept.tasks import get_task

    experiment = _experiment(options)
    tokenize_task(
        get_task(options.task),
        raw_folder=experiment.raw_folder(options.task),
        tokenizer_folder=experiment.backbone_folder,
        source_length=experiment.config.source_length(options.task),
        out_folder=experiment.tokenized_folder(options.task),
        source_identity=experiment.data_identity(options.task),
    )


def download_backbone(options: argparse.Namespace) -> None:
    """Download the configuration's backbone from the Hugging Face hub."""
    from ept.backbones.download import download_backbone

    experiment = _experiment(options)
    backbone = experiment.config.backbone
    if backbone.source != "hub":
        raise InputError(f"{options.config}: backbone.source is {backbone.source}; only a hub backbone is downloaded")
    download_backbone(backbone.id, backbone.revision, experiment.backbone_folder)


def rebuild_demo_backbone(options: argparse.Namespace) -> None:
    """Train the demonstration backbone and its tokenizer anew."""
    import torch

    from ept.demo.pretrain import rebuild

    torch.set_num_threads(options.threads)
    rebuild(options.folder)


def train(options: argparse.Namespace) -> None:
    """Train a pack: all learning rates and seeds of one method, task and regime."""
    experiment = _experiment(options)
    if options.hash:
        pack = experiment.find(options.hash)
    elif options.method and options.task and options.regime:
        pack = experiment.pack(options.method, options.task, options.regime, options.initialise_from)
    else:
        raise InputError("name a pack by --hash, or by --method, --task and --regime")
    from ept.pack import MULTITASK
    from ept.training.checkpoint import Interrupted

    if pack.task == MULTITASK:
        from ept.training.distil_job import distil_job as train_job
    else:
        from ept.training.job import train_job

    try:
        train_job(experiment, pack, options.threads, options.checkpoint_seconds)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)


def table(options: argparse.Namespace) -> None:
    """Make a table (CSV, Markdown, LaTeX) from the runs of the configuration."""
    from ept.results.write import write_table

    write_table(_experiment(options), options.table)


def show(options: argparse.Namespace) -> None:
    """Print the configuration's main table and say where all tables are."""
    from ept.results.show import show_tables

    show_tables(_experiment(options))


def import_prompt(options: argparse.Namespace) -> None:
    """Make a prompt file from an adapter folder of another program (DePT's released code, PEFT)."""
    from ept.exchange.transfer import import_prompt

    print("\n".join(import_prompt(options.format, options.origin, options.to, options.backbone_folder)))


def export_prompt(options: argparse.Namespace) -> None:
    """Make an adapter folder for another program (DePT's released code, PEFT) from a prompt file."""
    from ept.exchange.transfer import export_prompt

    print("\n".join(export_prompt(options.format, options.origin, options.to, options.backbone)))


def reference(options: argparse.Namespace) -> None:
    """Write the configuration's schema and its reference from the typed settings."""
    from ept.reference import write_reference

    write_reference(Path("."))


class _Parser(argparse.ArgumentParser):
    """A parser whose errors look like all others."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see `{self.prog} --help`\n")


def _threads(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of threads above 0")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ept",
        description="EPT and its comparison methods under one protocol. Snakemake calls these verbs; each works alone.",
        epilog=SESSION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def add(verb, name: str | None = None) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name or verb.__name__, help=verb.__doc__, description=verb.__doc__)
        sub.set_defaults(verb=verb)
        return sub

    def add_with_config(verb, name: str | None = None) -> argparse.ArgumentParser:
        sub = add(verb, name)
        sub.add_argument("--config", default="config/config.yaml", help="configuration file (%(default)s)")
        return sub

    add_with_config(check)
    for verb in (fetch, tokenize):
        add_with_config(verb).add_argument("--task", required=True, help="task name, for example rte")
    add_with_config(download_backbone, "download-backbone")
    rebuild = add(rebuild_demo_backbone, "rebuild-demo-backbone")
    rebuild.add_argument("--folder", required=True, help="where config.json, weights and tokenizer go")
    rebuild.add_argument("--threads", type=_threads, default=1, help="CPU threads (%(default)s)")
    training = add_with_config(train)
    training.add_argument("--hash", help="settings hash of the pack, as in its path; instead of the next four")
    training.add_argument("--method", help="for example ept")
    training.add_argument("--task", help="for example rte")
    training.add_argument("--regime", help="full, source, or k<number of examples>")
    training.add_argument(
        "--initialise-from",
        choices=["scratch", "source"],
        default="scratch",
        help="start from scratch or from the best source prompt, trained before (%(default)s)",
    )
    training.add_argument("--threads", type=_threads, default=1, help="CPU threads (%(default)s)")
    training.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=60,
        help="seconds between checkpoints, from which a killed job goes on",
    )
    add_with_config(table).add_argument("--table", required=True, help="for example main or fewshot_k16")
    add_with_config(show)
    importing, exporting = add(import_prompt, "import"), add(export_prompt, "export")
    for exchange, source, target in (
        (importing, "adapter folder", "prompt file"),
        (exporting, "prompt file", "folder"),
    ):
        exchange.add_argument("--format", required=True, choices=FORMATS, help="the other program's format")
        exchange.add_argument("--from", dest="origin", required=True, help=f"the {source} to read")
        exchange.add_argument("--to", required=True, help=f"the new {target}")
    importing.add_argument("--backbone-folder", help="check that the prompt fits the backbone in this folder")
    exporting.add_argument("--backbone", help="public name of the base model, for the folder's configuration")
    add(reference)
    return parser


if __name__ == "__main__":
    sys.exit(main())
