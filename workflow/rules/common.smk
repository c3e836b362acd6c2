# The configuration, and the functions that rules get their files and resources from. No rules here.
import contextlib
import shlex
from pathlib import Path

from ept.commands import warm_start
from ept.config.settings import MULTITASK, SOURCE
from ept.cost.resources import DOWNLOAD_MINUTES, LIGHT_MB, LIGHT_MINUTES, JobResources
from ept.cost.resources import grown_memory, grown_minutes
from ept.errors import InputError
from ept.figures.registry import asked_for
from ept.files import digest
from ept.methods.registry import METHODS
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.plan.tables import MAIN, SUMMARY, ZERO_SHOT
from ept.plan.targets import FIGURES, PAGES, SPLITS, Targets
from ept.plan.targets import lock_workflow, next_steps, workflow_configuration
from ept.results.tables.registry import caption_of, numbered_title
from ept.tasks.registry import TASKS

# The folder that all paths are relative to. It is the `prefix:` of another workflow that uses these rules as a module;
# Snakemake puts it before the files of the rules, and everything else works in it.
FOLDER = Path(workflow.modifier.path_modifier.replace_prefix("."))
(FOLDER / ".snakemake").mkdir(parents=True, exist_ok=True)

try:
    # In another folder, the configuration that comes with these rules.
    DEFAULT = Path("config/config.yaml")
    if not DEFAULT.exists():
        DEFAULT = workflow.source_path(f"../../{DEFAULT}")
    CONFIGURATION = workflow_configuration(config, workflow.configfiles, DEFAULT)
    with contextlib.chdir(FOLDER):
        EXPERIMENT = Experiment(CONFIGURATION)
        TARGETS, RESOURCES = Targets(EXPERIMENT), JobResources(EXPERIMENT)
        DRAWN = asked_for(EXPERIMENT)
        TITLES = {kind.name: kind.title for kind in DRAWN}
        # Below .snakemake, because a dry run must not write elsewhere.
        RESOLVED = TARGETS.write_configuration()
        LISTS = TARGETS.write_lists(refresh=workflow.is_main_process)
        # Held until this process ends, however it ends.
        LOCK = lock_workflow()
except InputError as error:
    raise WorkflowError(str(error))

OUTPUT = EXPERIMENT.config.output
# Logs and benchmarks of what belongs to the output folder, whose name may be absolute.
NAME = paths.job_name(OUTPUT)
# For the report's landing page, which sees only this.
config["output"] = str(FOLDER / OUTPUT)


wildcard_constraints:
    backbone=r"[^/]+",
    method="|".join(METHODS),
    task="|".join(dict.fromkeys([*TASKS, *EXPERIMENT.tasks, MULTITASK])),
    regime=r"full|k\d+",
    hash=r"[0-9a-f]{8}",
    table=rf"(?!{SUMMARY}|{ZERO_SHOT})[a-z]+(_[a-z0-9]+)*",


def ept(arguments):
    """The shell command of a rule: `ept` with these arguments in the folder of the paths, its output in the rule's log.

    `exec`, because a scheduler's SIGTERM must reach `ept`, which saves its state; a shell would die without waiting for it.
    """
    return f"exec > {{log:q}} 2>&1; cd {shlex.quote(str(FOLDER))}; exec ept {arguments}"


def known(look_up, *arguments):
    """What a function of the plan returns. If this configuration lacks it, Snakemake ends with one sentence; for any
    other exception of an input function it prints a traceback.
    """
    try:
        return look_up(*arguments)
    except InputError as error:
        raise SystemExit(f"error: {error}")


def pack(wildcards):
    """The pack that a job trains."""
    return known(EXPERIMENT.find, wildcards.hash)


def pack_tokens(wildcards):
    """The tokenized splits of a pack.

    The hash in the path identifies the content, so times are ignored: copies from a remote have other times, and must
    not start any training.
    """
    return ancient(TARGETS.pack_tokens(pack(wildcards)))


def pack_sources(wildcards):
    """The source prompts of a pack."""
    return ancient(TARGETS.source_prompts(pack(wildcards)))


def table_list(wildcards):
    """The list of what a table is made of."""
    known(EXPERIMENT.table_packs, wildcards.table)
    return LISTS[wildcards.table]


def table_labels(form):
    """The labels of a table in the report, which sorts by them."""
    return lambda wildcards: {
        "table": numbered_title(EXPERIMENT.default_tables, wildcards.table),
        "form": form,
    }


def resolved_configuration(wildcards, input):
    """The file with the resolved configuration that jobs read; its name is its content.

    The hash in a result's path covers what it depends on, so a new file must not make results out of date. Because this
    function takes `input`, Snakemake counts it as derived and does not compare it with the last run.
    """
    return RESOLVED


def light_memory(wildcards, attempt):
    """MB of main memory for a rule that trains nothing, more at the second attempt."""
    return grown_memory(LIGHT_MB, attempt)


def light_minutes(wildcards, attempt):
    """A time limit for a rule that trains nothing, longer at each attempt."""
    return grown_minutes(LIGHT_MINUTES, attempt)
