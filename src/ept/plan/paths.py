"""Where everything lies. All paths are relative to the folder in which a command runs."""

from collections.abc import Mapping
from pathlib import Path

from ept.files import digest

# Records of all runs, whatever the output folder: a second configuration trains only what the first one did not.
RUNS = Path("runs")
TABLE_ENDINGS = ("csv", "md", "tex", "html")


def raw_folder(identity: str, task: str) -> Path:
    """The published splits of a task as Parquet files."""
    return Path("data/raw") / identity / task


def tokenized_folder(backbone: str, task: str, hash_: str) -> Path:
    """train.arrow, validation.arrow and test.arrow of a task."""
    return Path("data/tokenized") / backbone / task / hash_


def visual_folder(encoder: str, task: str) -> Path:
    """The features of a task's images, by published split; `encoder` is the encoder's name and a hash of all else."""
    return Path("data/visual") / encoder / task


def hub_backbone_folder(name: str, revision: str) -> Path:
    """A backbone downloaded from the hub."""
    return Path("data/backbones") / f"{name}-{revision[:8]}"


def prompt_folder(backbone: str, method: str, task: str, regime: str, hash_: str) -> Path:
    """seed<seed>.safetensors of every reported seed, and settings.json (settings, data and validation scores)."""
    return Path("prompts") / backbone / method / task / regime / hash_


def prompt_file(folder: Path, seed: int) -> Path:
    """The trained prompt of one seed."""
    return folder / f"seed{seed}.safetensors"


def run_folder(backbone: str, method: str, task: str, regime: str, hash_: str) -> Path:
    """runs.json, predictions.parquet and settings.json of a pack: one place for every configuration that has it."""
    return RUNS / backbone / method / task / regime / hash_


def checkpoint_folder(backbone: str, method: str, task: str, regime: str, hash_: str) -> Path:
    """The checkpoints of a pack in training. Not the output of a rule: Snakemake would delete it after a failed job."""
    return Path("data/checkpoints") / backbone / method / task / regime / hash_


def measured_file(backbone: str, device: str, form: Mapping[str, str | bool], threads: int) -> Path:
    """How large a forward pass should be on this machine (ept.training.measure).

    `form` says how the backbone is loaded: dtype, quantization, and whether with gradient_checkpointing.
    """
    parts = [backbone, device, str(form["dtype"])]
    parts += [str(form["quantization"])] if form["quantization"] != "none" else []
    parts += ["checkpointing"] if form["gradient_checkpointing"] else []
    return Path("data/measured") / f"{'-'.join(parts)}-{threads}-threads.json"


def table_file(output: str, table: str) -> Path:
    """A table's CSV; its Markdown, LaTeX and HTML versions have other endings."""
    return Path(output) / f"{table}.csv"


def summary_file(output: str) -> Path:
    """The averages with their intervals and parameters."""
    return Path(output) / "summary.json"


def headline_file(output: str) -> Path:
    """One number for each method and regime: few enough for `dvc metrics show`."""
    return Path(output) / "headline.json"


def table_settings_file(output: str, table: str) -> Path:
    """The hashes of the packs behind a table."""
    return Path(output) / f"{table}.settings.json"


def job_name(output: str) -> Path:
    """A configuration's output folder as part of other paths: relative, and inside the folder that it is joined to."""
    names = {"/": "root", "..": "up"}
    return Path(*(names.get(part, part) for part in Path(output).parts))


def table_list_file(output: str, table: str) -> Path:
    """The list of what a table is made of, among Snakemake's own files: a dry run may write it."""
    return Path(".snakemake/ept/lists") / job_name(output) / f"{table}.txt"


def job_configurations_folder() -> Path:
    """Resolved configurations that jobs read, named by their content; among Snakemake's files for the same reason."""
    return Path(".snakemake/ept/configurations")


def workflow_lock_file() -> Path:
    """What a running workflow locks, so that `ept mend` leaves its files alone."""
    return Path(".snakemake/ept/running.lock")


def warm_start_log() -> Path:
    """What the process that local jobs are started from prints."""
    return Path(".snakemake/ept/warm_start.log")


def configurations_folder(output: str) -> Path:
    """Resolved configurations, named by their content."""
    return Path(output) / "configurations"


def figure_files(output: str, figure: str) -> list[Path]:
    """A figure as SVG and PNG, its caption, and a page with both."""
    return [Path(output) / "figures" / f"{figure}.{ending}" for ending in ("svg", "png", "txt", "html")]


def figure_settings_file(output: str) -> Path:
    """Which figures there are, which were left out and why, and the digests of the files."""
    return Path(output) / "figures" / "settings.json"


def report_files(output: str) -> dict[str, Path]:
    """What the report holds besides tables and figures.

    What was run, what it cost, the folder with a page for each run, and which configuration this is.
    """
    folder = Path(output) / "report"
    return {
        "overview": folder / "overview.rst",
        "costs": folder / "costs.html",
        "runs": folder / "runs",
        "settings": folder / "settings.json",
    }


def benchmark_file(rule: str, job: Path) -> Path:
    """What Snakemake measured of a job, which is named as its result below the rule's folder."""
    return Path("logs/benchmarks") / rule / job.parent / f"{job.name}.tsv"


def lock_file(folder: Path) -> Path:
    """What a process locks while it alone works on `folder`.

    It is in the working directory, which all nodes of a cluster see, and among the logs, which may be deleted while
    nothing runs.
    """
    return Path("logs/locks") / f"{digest(str(folder))}.lock"
