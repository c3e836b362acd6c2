"""What a run cost by rule, from the file that each job writes about itself.

Snakemake's own `benchmark:` would see the process that waits for a job in place of the job (`ept.commands.warm_start`),
and of a job of a second or two only what is left between two looks.
"""

import contextlib
import csv
import math
import resource
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ept.config.settings import SOURCE
from ept.errors import InputError
from ept.files import write_text
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack

# Columns, named as in a benchmark file of Snakemake: seconds, seconds of CPU time, and the largest resident set in MB.
WALL, CPU, MEMORY = "s", "cpu_time", "max_rss"
# Of ru_maxrss in an MB: bytes on macOS, else KiB.
_PEAK_UNITS = 2**20 if sys.platform == "darwin" else 2**10


@dataclass(frozen=True)
class Cost:
    """The costs of one rule: how many jobs it has, how many of them were measured, and what those took.

    `seconds` and `cpu_seconds` are sums over jobs; `peak_memory_mb` is that of the largest job.
    """

    rule: str
    jobs: int
    measured: int
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float


def costs(experiment: Experiment) -> list[Cost]:
    """The costs of every rule in the order of the workflow, and last their `total`.

    A job that was not run here (its results were fetched) has no file of costs and counts as not measured. Raises
    InputError for a damaged one.
    """
    found = [_cost(rule, files) for rule, files in benchmark_files(experiment).items() if files]
    return [
        *found,
        Cost(
            "total",
            sum(cost.jobs for cost in found),
            sum(cost.measured for cost in found),
            sum(cost.seconds for cost in found),
            sum(cost.cpu_seconds for cost in found),
            _max(cost.peak_memory_mb for cost in found),
        ),
    ]


def write_cost(path: Path, seconds: float) -> None:
    """Write what this process and the processes that it started have cost until now; `seconds`: of the clock."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(each.ru_utime + each.ru_stime for each in used)
    peak = max(_own_peak_mb(), used[1].ru_maxrss / _PEAK_UNITS)
    write_text(path, f"{WALL}\t{CPU}\t{MEMORY}\n{seconds:.2f}\t{cpu:.2f}\t{peak:.2f}\n")


def _own_peak_mb() -> float:
    """The largest resident set of this process. ru_maxrss begins with what the process had that started this one."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _PEAK_UNITS


def benchmark_files(experiment: Experiment) -> dict[str, list[Path]]:
    """By rule, the costs of each of its jobs; those of other configurations are not among them."""
    output = experiment.config.output

    def folder_of(pack: Pack) -> Path:
        return pack.folder.relative_to(paths.RUNS)

    downloaded = experiment.config.backbone.source == "hub"
    visual = [folder for task in experiment.tasks if (folder := experiment.visual_folder(task))]
    jobs = {
        "download_backbone": [experiment.backbone_folder.relative_to("data/backbones")] if downloaded else [],
        "fetch": [experiment.raw_folder(task).relative_to("data/raw") for task in experiment.tasks],
        "tokenize": [experiment.tokenized_folder(task).relative_to("data/tokenized") for task in experiment.tasks],
        "visual_features": [folder.relative_to("data/visual") for folder in visual],
        "train_source": [folder_of(pack) for pack in experiment.packs if pack.regime == SOURCE],
        "train": [folder_of(pack) for pack in experiment.packs if pack.regime != SOURCE],
        "table": [paths.job_name(output) / table for table in experiment.default_tables],
        "summary": [paths.job_name(output)],
        "figures": [paths.job_name(output)],
    }
    return {rule: [paths.benchmark_file(rule, job) for job in found] for rule, found in jobs.items()}


def _cost(rule: str, files: list[Path]) -> Cost:
    rows = [row for file in files if file.exists() for row in _read(file)]
    return Cost(
        rule,
        len(files),
        len(rows),
        sum(row[WALL] for row in rows),
        sum(row[CPU] for row in rows),
        _max(row[MEMORY] for row in rows),
    )


def _max(values: Iterable[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def _read(path: Path) -> list[dict[str, float]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return [{name: float(row[name]) for name in (WALL, CPU, MEMORY)} for row in rows]
    except (KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not a cost file (columns {WALL}, {CPU}, {MEMORY}); remove it") from error
