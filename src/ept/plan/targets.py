"""What the rules of the workflow need: the configuration, and the files that they read and write. No Snakemake here."""

import contextlib
import fcntl
import os
import shlex
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from ept.config.configuration import Configuration, load_configuration, parse_configuration, write_resolved
from ept.config.settings import SOURCE
from ept.config.yaml_file import read_yaml
from ept.files import digest, parse_json, write_text
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.plan.packs import backbone_settings
from ept.plan.tables import EFFICIENCY, SUMMARY, ZERO_SHOT, headline_tables, measured_packs

# What is made in one job besides tables: drawings, and the pages of the report.
FIGURES, PAGES = "figures", "report"
SPLITS = ("train", "validation", "test")
# Modification times of a list: older than any table. A table that is older than its list is made again.
OLD = 1.0


class Targets:
    """The files of one configuration's jobs. All paths are relative to the folder in which the workflow runs."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.output = experiment.config.output

    # ---- Data and training ------------------------------------------------------------------------------------------

    def tokens(self, *tasks: str) -> list[Path]:
        """Every tokenized split of the tasks."""
        return splits(map(self.experiment.tokenized_folder, tasks))

    @property
    def backbone_inputs(self) -> list[Path]:
        """The files of the backbone that rules depend on."""
        return _in_folder(self.experiment.backbone_files)

    @property
    def tokenizer_inputs(self) -> list[Path]:
        """The files of the tokenizer that rules depend on."""
        return _in_folder(self.experiment.tokenizer_files)

    def pack_tokens(self, pack: Pack) -> list[Path]:
        """The tokenized splits that a pack trains, selects and reports on, and the features of their images."""
        return [*splits(pack.token_folders), *pack.visual_folders]

    def visual_folders(self, tasks: Iterable[str]) -> list[Path]:
        """The features of the images of the tasks that have images."""
        return [folder for task in tasks if (folder := self.experiment.visual_folder(task))]

    def source_prompts(self, pack: Pack) -> list[Path]:
        """The source prompts that a pack may start from, or that MPT's source training distills."""
        return [candidate.source_prompt for candidate in pack.candidates]

    @cached_property
    def source_packs(self) -> list[Pack]:
        """The packs that train source prompts."""
        return [pack for pack in self.experiment.packs if pack.regime == SOURCE]

    def run_file(self, name: str, regime: str = "{regime}") -> str:
        """A record of a pack, with Snakemake's wildcards in its path."""
        return str(paths.run_folder("{backbone}", "{method}", "{task}", regime, "{hash}") / name)

    def prompt_file(self, name: str, regime: str = "{regime}") -> str:
        """A prompt of a pack or the settings file next to it, with Snakemake's wildcards in its path."""
        return str(paths.prompt_folder("{backbone}", "{method}", "{task}", regime, "{hash}") / name)

    # ---- Tables -----------------------------------------------------------------------------------------------------

    def table(self, table: str) -> list[Path]:
        """A table in all its forms, and last its settings file."""
        csv = paths.table_file(self.output, table)
        forms = [csv.with_suffix(f".{ending}") for ending in paths.TABLE_ENDINGS]
        return [*forms, paths.table_settings_file(self.output, table)]

    @property
    def tables(self) -> list[Path]:
        """Every file of every table that the configuration asks for by default.

        Settings and all forms are named because Snakemake misses only what is asked for: a rule that was killed between
        two outputs must be noticed.
        """
        return [path for table in self.experiment.default_tables for path in self.table(table)]

    @property
    def summary(self) -> list[Path]:
        """The headline numbers, long and short, and their settings file."""
        files = [paths.summary_file(self.output), paths.headline_file(self.output)]
        return [*files, paths.table_settings_file(self.output, SUMMARY)]

    @property
    def summarized_tables(self) -> list[Path]:
        """The tables whose headline numbers the summary holds."""
        return [paths.table_file(self.output, table) for table in headline_tables(self.experiment.config)]

    def records(self, table: str) -> list[Path]:
        """The records and predictions behind a table."""
        names = ("runs.json", "predictions.parquet", "settings.json")
        return [pack.folder / name for pack in self.experiment.table_packs(table) for name in names]

    def tables_of(self, tables: Iterable[str]) -> list[Path]:
        """The CSV files of tables, each once."""
        return [paths.table_file(self.output, table) for table in sorted(set(tables))]

    def measured_packs(self, table: str) -> list[Pack]:
        """The packs whose predictions a table times; none for a table that is put together from records."""
        return measured_packs(self.experiment.table_packs(table)) if table == EFFICIENCY else []

    def measured_files(self, table: str) -> list[Path]:
        """What a table times predictions with: trained prompts, and texts."""
        packs = self.measured_packs(table)
        prompts = [paths.prompt_file(pack.prompts, pack.seeds[0]) for pack in packs]
        return prompts + [pack.tokenized / "test.arrow" for pack in packs if pack.tokenized]

    # ---- Figures and the report -------------------------------------------------------------------------------------

    def figures(self, names: Iterable[str]) -> list[Path]:
        """The figures of these names in all their forms, and first their settings file."""
        files = [path for name in names for path in paths.figure_files(self.output, name)]
        return [paths.figure_settings_file(self.output), *files]

    def figures_in_report(self, titles: Mapping[str, str], folder: Path) -> dict[Path, dict[str, Any]]:
        """The files of the figures, each with its caption and labels where the report shows it.

        It shows each figure twice, as a page with its caption and as the drawing alone, and no other file.

        Args:
            titles: The title of each figure by its name, in their order.
            folder: The folder that the figures' paths are relative to. The caption's path is absolute, because
                Snakemake looks for captions next to the rules.
        """
        shown: dict[Path, dict[str, Any]] = {path: {} for path in self.figures(titles)}
        for number, (name, title) in enumerate(titles.items(), start=1):
            drawing, _, caption, page = paths.figure_files(self.output, name)
            for path, form in ((page, "page with caption"), (drawing, "vector graphics")):
                labels = {"figure": f"{number:02}. {title}", "form": form}
                shown[path] = {"caption": str((folder / caption).resolve()), "labels": labels}
        return shown

    def everything(self, figures: Iterable[str]) -> list[Path]:
        """What `snakemake all` means: tables, headline numbers, these figures, and the pages of the report."""
        pages = paths.report_files(self.output).values()
        return [*self.tables, *self.summary, *self.figures(figures), *pages]

    # ---- Written when the workflow is parsed ------------------------------------------------------------------------

    def write_configuration(self) -> Path:
        """Write the resolved configuration that jobs read, and return its path."""
        return write_resolved(self.experiment.config, paths.job_configurations_folder())

    def write_lists(self, *, refresh: bool = True) -> dict[str, Path]:
        """Write the list of every table, of the summary, zero_shot, figures and pages, and return their paths.

        Each is an input of the rule that makes the table, and only its time matters. It is old if the table's settings
        file says that the table was made from exactly this, and new otherwise. So a table of another configuration is
        made again, whatever Snakemake remembers and whatever a copy did to the times of files.

        Args:
            refresh: set the times too. A job of a cluster, which parses the workflow again, leaves them alone.
        """
        names = [*self.experiment.tables, SUMMARY, ZERO_SHOT, FIGURES, PAGES]
        return {name: self._write_list(name, refresh) for name in names}

    def _write_list(self, table: str, refresh: bool) -> Path:
        path = paths.table_list_file(self.output, table)
        parts = made_from(self.experiment, table)
        content = "".join(f"{part}\n" for part in parts)
        known = path.is_file() and path.read_bytes() == content.encode()
        if not known:
            write_text(path, content)
        if refresh or not known:
            current = parts_in_settings(settings_file(self.output, table)) == parts
            os.utime(path, (OLD, OLD) if current else None)
        return path


def workflow_configuration(values: dict[str, Any], files: Iterable[Path], default: Path) -> Configuration:
    """The checked configuration of a workflow.

    Args:
        values: What Snakemake has read from --configfile and --config, merged; empty if neither was given.
        files: The files that it has read. They are checked here, because Snakemake takes the last of two equal keys.
        default: The file to read if neither was given. As `configfile:` in the Snakefile it would be merged under every
            --configfile, and its leftovers would stay.

    Raises:
        InputError: The configuration is not valid.
    """
    for path in files:
        read_yaml(path)
    return parse_configuration(values) if values else load_configuration(default)


def next_steps(output: str, configuration: Path | None = None) -> str:
    """What a person can do after a run, in one line; `configuration` is the file of --configfile, if there was one."""
    file = f" {shlex.quote(str(configuration))}" if configuration else ""
    show = f"ept show --config{file}" if file else "ept show"
    report = f"snakemake --report {shlex.quote(f'{output}/report.zip')}" + (f" --configfile{file}" if file else "")
    return f"Next: `{show}` prints the main table; `{report}` makes a report that opens in a browser."


def lock_workflow() -> IO[str]:
    """Say that a workflow runs in this folder, for as long as this process lives; `ept mend` asks. Keep the result."""
    path = paths.workflow_lock_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")
    # On a file system without locks nobody can be told.
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_SH)
    return file


def splits(folders: Iterable[Path]) -> list[Path]:
    """The tokenized splits in folders of tokenized tasks."""
    return [folder / f"{split}.arrow" for folder in folders for split in SPLITS]


def _in_folder(files: Iterable[Path]) -> list[Path]:
    """Those of a backbone's files that are below the workflow's folder.

    The others, such as the shipped ones, are known by their digests. Their paths differ between installations, which
    must not make anything again.
    """
    return [file for file in files if not file.is_absolute()]


def settings_file(output: str, name: str) -> Path:
    """The file that says what a table, the summary, zero_shot, the figures or the pages were made from."""
    others = {FIGURES: paths.figure_settings_file(output), PAGES: paths.report_files(output)["settings"]}
    return others.get(name) or paths.table_settings_file(output, name)


def made_from(experiment: Experiment, name: str) -> list[str]:
    """What something is made from.

    Tables and the summary: the folders of their runs. zero_shot: the backbone and tokenized texts. Figures and pages,
    besides the tables: the configuration.
    """
    if name in (FIGURES, PAGES):
        return [f"configuration {digest(experiment.config.model_dump(mode='json'))}"]
    if name != ZERO_SHOT:
        return [str(pack.folder) for pack in experiment.packs_behind(name)]
    backbone = backbone_settings(experiment.config.backbone, experiment.backbone_identity)
    folders = map(experiment.tokenized_folder, experiment.config.tasks.target)
    return [f"backbone {digest(backbone)}", *map(str, folders)]


def parts_in_settings(path: Path) -> list[str] | None:
    """What the settings file of a finished table says that it was made from; None if there is none or it is damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        settings = parse_json(path.read_bytes())
        return settings["made_from"] if "made_from" in settings else [run["folder"] for run in settings["runs"]]
    return None
