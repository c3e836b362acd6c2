"""A unit of work: the runs that one job trains."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ept.config.settings import FULL, SOURCE
from ept.config.variants import Variant
from ept.plan import paths
from ept.tasks.record import Task

# What can become of a run (`status` in runs.json).
FINISHED, DIVERGED, STOPPED_EARLY, HALVED = "finished", "diverged", "stopped early", "halved"


@dataclass(frozen=True)
class Pack:
    """All runs (learning rates x seeds) of one backbone, method, task and regime: one job.

    `settings` holds every resolved setting that can change the result; `hash` is its digest. `candidates` are the
    packs of the source prompts that it may start from (empty: from scratch). `variant` has the settings of its prompts,
    and the name of its row in the table `ablation`. The pack of MPT's source training has the task `multitask` and no
    data of its own: it trains on the data of its candidates, which are its teachers. `visual` holds the features of its
    images (None: a task without images). `record` is the task as the configuration has it; of a distilled prompt, its
    first teacher's.
    """

    method: str
    variant: Variant
    task: str
    record: Task
    regime: str
    hash: str
    settings: dict[str, Any]
    seeds: tuple[int, ...]
    prompts: Path
    folder: Path
    checkpoints: Path
    tokenized: Path | None
    visual: Path | None = None
    candidates: tuple["Pack", ...] = ()

    @property
    def k(self) -> int | None:
        """The number of training examples of a few-shot pack; None with all data."""
        return None if self.regime in (FULL, SOURCE) else int(self.regime.removeprefix("k"))

    @property
    def grid(self) -> dict[str, list[float]]:
        """The learning rates that are tried, by group of parameters."""
        return self.settings["training"]["learning_rates"]

    @property
    def initialize_from(self) -> str:
        """`source` or `scratch`."""
        return "source" if self.candidates else "scratch"

    @property
    def token_folders(self) -> tuple[Path, ...]:
        """The tokenized tasks that it trains on."""
        return (self.tokenized,) if self.tokenized else tuple(pack.token_folders[0] for pack in self.candidates)

    @property
    def visual_folders(self) -> tuple[Path, ...]:
        """The features of images that it trains on; empty for tasks without images."""
        found = (self.visual,) if self.tokenized else tuple(pack.visual for pack in self.candidates)
        return tuple(folder for folder in found if folder is not None)

    @property
    def number_of_runs(self) -> int:
        """Combinations of learning rates, times seeds."""
        return math.prod(len(rates) for rates in self.grid.values()) * len(self.seeds)

    @property
    def title(self) -> str:
        """The task, or the tasks that were trained together."""
        return self.task if self.tokenized else joined_title(self.candidates)

    @property
    def files(self) -> list[Path]:
        """Every file that its training leaves. The test split of a source prompt is not predicted."""
        predictions = [] if self.regime == SOURCE else [self.folder / "predictions.parquet"]
        prompts = [paths.prompt_file(self.prompts, seed) for seed in self.seeds]
        records = [self.folder / "runs.json", self.folder / "settings.json", self.prompts / "settings.json"]
        return prompts + predictions + records

    @property
    def source_prompt(self) -> Path:
        """The prompt that other packs start from (packs of the regime `source` have one seed)."""
        return paths.prompt_file(self.prompts, self.seeds[0])


def joined_title(packs: tuple[Pack, ...]) -> str:
    """What tables call several source tasks that are used together, for example mnli+sst2."""
    return "+".join(pack.task for pack in packs)
