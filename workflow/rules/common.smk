# The configuration and the functions that rules look their files up with. No rule stands here.
from ept.plan import paths
from ept.config.configuration import load_configuration, parse_configuration, write_resolved
from ept.cost.resources import DOWNLOAD_MINUTES, LIGHT_MB, LIGHT_MINUTES, JobResources
from ept.cost.resources import grown_memory, grown_minutes
from ept.errors import InputError
from ept.plan.experiment import Experiment
from ept.figures.registry import asked_for
from ept.files import digest
from ept.config.settings import SOURCE
from ept.plan.packs import backbone_settings
from ept.results.write import write_list
from ept.plan.tables import EFFICIENCY, MAIN, SUMMARY, headline_tables, measured_packs
from ept.config.yaml_file import read_yaml


def resolve_configuration():
    """The checked configuration: --configfile and --config, or config/config.yaml when none was given.

    A `configfile:` directive would be merged under every --configfile and keep its leftovers.
    """
    # Snakemake has read these files already, but takes the last of two equal keys.
    for path in workflow.configfiles:
        read_yaml(path)
    if config:
        return parse_configuration(config)
    return load_configuration("config/config.yaml")


try:
    EXPERIMENT = Experiment(resolve_configuration())
    PACKS = {pack.hash: pack for pack in EXPERIMENT.packs}
except InputError as error:
    raise WorkflowError(str(error))

OUTPUT = EXPERIMENT.config.output
SEEDS = EXPERIMENT.config.seeds
RESOURCES = JobResources(EXPERIMENT)
SOURCE_PACKS = [pack for pack in EXPERIMENT.packs if pack.regime == SOURCE]
RESOLVED = write_resolved(EXPERIMENT.config, paths.configurations_folder(OUTPUT))
# Written before Snakemake looks at any file: it reads a folder once and would miss a list that comes later.
LISTS = {
    table: write_list(EXPERIMENT, table) for table in [*EXPERIMENT.tables, SUMMARY]
}
# For the report's landing page, which sees only this.
config["output"] = OUTPUT


wildcard_constraints:
    backbone=r"[^/]+",
    method=r"[a-z0-9_]+",
    task=r"[a-z0-9]+",
    regime=r"full|k\d+",
    hash=r"[0-9a-f]{8}",
    table=r"(?!summary|zero_shot)[a-z]+(_[a-z0-9]+)?",


def final_output():
    """What `snakemake all` means: every table, figure and page of the report that the configuration asks for, and the
    headline numbers.
    """
    summary = [paths.summary_file(OUTPUT), paths.table_settings_file(OUTPUT, SUMMARY)]
    pages = paths.report_files(OUTPUT).values()
    return [*table_files(), *summary, *figure_files(), *pages]


def table_files():
    """Every table of the configuration, in all its forms and with its settings: Snakemake misses only what is asked for,
    and a rule that was cut off between two outputs must be seen.
    """
    return [
        path
        for table in EXPERIMENT.default_tables
        for path in (
            *(
                paths.table_file(OUTPUT, table).with_suffix(f".{ending}")
                for ending in paths.TABLE_ENDINGS
            ),
            paths.table_settings_file(OUTPUT, table),
        )
    ]


def figure_files():
    """Every figure of the configuration, in all its forms."""
    files = [paths.figure_settings_file(OUTPUT)]
    for kind in asked_for(EXPERIMENT):
        files += paths.figure_files(OUTPUT, kind.name)
    return files


def figure_outputs():
    """The same as outputs, of which the report shows the page with its caption and the drawing alone."""
    files = [paths.figure_settings_file(OUTPUT)]
    for kind in asked_for(EXPERIMENT):
        svg, png, text, page = paths.figure_files(OUTPUT, kind.name)
        for path, form in ((page, "page with caption"), (svg, "vector graphics")):
            # Snakemake looks for captions beside the rules. A line that began with `report` would be the directive.
            shown = report(
                path,
                caption=str(text.resolve()),
                category="Figures",
                labels={"figure": kind.title, "form": form},
            )
            files.append(shown)
        files += [png, text]
    return files


def figure_tables(wildcards):
    """The tables that figures are drawn from."""
    names = {
        table for kind in asked_for(EXPERIMENT) for table in kind.tables_of(EXPERIMENT)
    }
    return [paths.table_file(OUTPUT, table) for table in sorted(names)]


def figure_records(wildcards):
    """The records that figures are drawn from: those of the full-data runs."""
    return [pack.folder / "runs.json" for pack in EXPERIMENT.table_packs(MAIN)]


def resolved_configuration(wildcards, input):
    """The file with the resolved configuration that jobs read; its name is its content.

    What a result depends on is in the hash of its path, so another file must make nothing out of date. Because this
    function takes `input`, Snakemake counts it as derived and does not compare it with the last run.
    """
    return RESOLVED


def splits(folder):
    """The tokenized splits of a task."""
    return [folder / f"{split}.arrow" for split in ("train", "validation", "test")]


def tokenized_files(wildcards):
    """The tokenized splits that a pack trains, selects and reports on.

    A hash in the path says what is in a file, so that its time says nothing: a copy from a remote has other times,
    and that must train nothing again.
    """
    folders = PACKS[wildcards.hash].token_folders
    return ancient([path for folder in folders for path in splits(folder)])


def training_memory(wildcards, attempt):
    """MB of main memory, more at the second attempt."""
    return RESOURCES.memory_mb(PACKS[wildcards.hash], attempt)


def training_minutes(wildcards, attempt):
    """A time limit, longer at each attempt; what it cuts off goes on from its checkpoint."""
    return RESOURCES.minutes(PACKS[wildcards.hash], attempt)


def light_memory(wildcards, attempt):
    """MB of main memory for a rule that trains nothing, more at the second attempt."""
    return grown_memory(LIGHT_MB, attempt)


def light_minutes(wildcards, attempt):
    """A time limit for a rule that trains nothing, longer at each attempt."""
    return grown_minutes(LIGHT_MINUTES, attempt)


def download_memory(wildcards, attempt):
    """MB of main memory for the backbone's download and conversion, more at the second attempt."""
    return RESOURCES.download_mb(attempt)


def download_minutes(wildcards, attempt):
    """A time limit for the backbone's download, longer at each attempt."""
    return grown_minutes(DOWNLOAD_MINUTES, attempt)


def target_tokens(wildcards):
    """The tokenized splits of all target tasks."""
    folders = map(EXPERIMENT.tokenized_folder, EXPERIMENT.config.tasks.target)
    return ancient([path for folder in folders for path in splits(folder)])


def candidate_prompts(wildcards):
    """The source prompts that a pack may start from, or that MPT's source training distils."""
    return ancient([pack.source_prompt for pack in PACKS[wildcards.hash].candidates])


def table_list(wildcards):
    """The list of a table's packs, written when the workflow is parsed and only if it differs.

    Going from configuration A to B and back to A therefore makes A's table again, whatever Snakemake remembers.
    For a table that this configuration does not have, Snakemake ends with the sentence alone: round any other exception
    of an input function it puts a traceback.
    """
    try:
        EXPERIMENT.table_packs(wildcards.table)
    except InputError as error:
        raise SystemExit(f"error: {error}")
    return LISTS[wildcards.table]


def table_runs(wildcards):
    """The records and predictions behind a table."""
    return [
        pack.folder / name
        for pack in EXPERIMENT.table_packs(wildcards.table)
        for name in ("runs.json", "predictions.parquet", "settings.json")
    ]


def measured_files(wildcards):
    """What the table `efficiency` measures predictions with: trained prompts, and texts."""
    packs = packs_to_measure(wildcards)
    prompts = [paths.prompt_file(pack.prompts, pack.seeds[0]) for pack in packs]
    return ancient(prompts + [pack.tokenized / "test.arrow" for pack in packs])


def packs_to_measure(wildcards):
    """None for a table that is put together from records."""
    if wildcards.table != EFFICIENCY:
        return []
    return measured_packs(EXPERIMENT.table_packs(EFFICIENCY))


def table_gpus(wildcards):
    """A GPU for the table that measures on one."""
    return RESOURCES.gpus if packs_to_measure(wildcards) else 0


def zero_shot_memory(wildcards, attempt):
    """MB of main memory, more at the second attempt: no more than training takes."""
    packs = EXPERIMENT.table_packs(MAIN)
    return max(RESOURCES.memory_mb(pack, attempt) for pack in packs)


def zero_shot_minutes(wildcards, attempt):
    """A time limit, longer at each attempt."""
    return RESOURCES.zero_shot_minutes(attempt)


def table_memory(wildcards, attempt):
    """MB of main memory, more at the second attempt; measuring takes no more than training."""
    needed = [RESOURCES.memory_mb(pack) for pack in packs_to_measure(wildcards)]
    return grown_memory(max([LIGHT_MB, *needed]), attempt)


def summarized_tables(wildcards):
    """The tables whose headline numbers the summary holds."""
    return [
        paths.table_file(OUTPUT, table) for table in headline_tables(EXPERIMENT.config)
    ]
