"""The configuration: typed, checked before anything runs, and the one place that puts all settings together."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from ept.ablation import AblationSettings, variants
from ept.baselines.settings import BaselineSettings, check_baselines
from ept.config_checks import check_backbone, check_names, check_sources, check_training, refuse_repeats
from ept.config_sections import (
    BackboneSettings,
    DataSettings,
    RateStudySettings,
    Section,
    TaskSettings,
    TransferSettings,
)
from ept.errors import InputError
from ept.files import digest, write_text
from ept.methods import get_method
from ept.pack import FULL, SOURCE
from ept.prompts.budget import check_budget
from ept.prompts.settings import EptSettings, PromptSettings
from ept.tasks import get_task
from ept.training.settings import (
    FEW_SHOT_LEARNING_RATES,
    FULL_LEARNING_RATES,
    FewShotSettings,
    MptSettings,
    TrainingSettings,
)
from ept.yaml_file import read_yaml

# The backbone of the published numbers (src/ept/results/published.csv).
PUBLISHED_BACKBONE = "t5-base"
# The remedy of many a sentence.
KEYS = "config/README.md lists the keys"


class Configuration(Section):
    """One experiment."""

    output: str = "results"
    """Folder of runs and tables; give each configuration its own to keep them side by side."""
    backbone: BackboneSettings = BackboneSettings()
    """The frozen language model."""
    data: DataSettings = DataSettings()
    """Where the tasks' examples come from."""
    tasks: TaskSettings
    """Target and source tasks."""
    methods: list[str] = Field(["pt", "spot", "dept", "ept"], min_length=1)
    """Methods to compare."""
    seeds: list[int] = Field([0, 1, 2], min_length=1)
    """One run per seed; source prompts are trained with the first one alone."""
    prompt: PromptSettings = PromptSettings()
    """Shape and start of the prompts."""
    ept: EptSettings = EptSettings()
    """EPT's fusion and spaces."""
    baselines: BaselineSettings = BaselineSettings()
    """Options of the methods that train inside the backbone."""
    mpt: MptSettings = MptSettings()
    """MPT's source training."""
    training: TrainingSettings = TrainingSettings()
    """Training on all data."""
    source_training: TrainingSettings | None = None
    """Training of source prompts; left out, as `training`."""
    few_shot: FewShotSettings = FewShotSettings()
    """Training with k examples."""
    ablation: AblationSettings = AblationSettings()
    """Variants of EPT."""
    transfer: TransferSettings = TransferSettings()
    """Source prompts on every target."""
    rate_study: RateStudySettings = RateStudySettings()
    """More learning rates on some tasks."""

    @field_validator("methods")
    @classmethod
    def _methods_are_known(cls, names: list[str]) -> list[str]:
        check_names(names, get_method)
        return names

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        refuse_repeats(seeds)
        if min(seeds) < 0:
            raise ValueError(f"{min(seeds)} is below 0")
        # Tables of predictions hold them as 64-bit integers.
        if max(seeds) >= 2**63:
            raise ValueError(f"{max(seeds)} is too large; seeds must be below 2**63")
        return seeds

    @field_validator("ablation")
    @classmethod
    def _ablation_is_a_list_of_variants(cls, ablation: AblationSettings) -> AblationSettings:
        for name in ablation.tasks:
            get_task(name)
        for values in vars(ablation).values():
            refuse_repeats(values)
        return ablation

    @model_validator(mode="after")
    def _parts_fit(self) -> "Configuration":
        check_budget(self.prompt, self.ept)
        check_baselines(self.baselines)
        if not 0 <= self.mpt.distillation_weight < float("inf"):
            raise ValueError(f"mpt.distillation_weight is {self.mpt.distillation_weight}; it must be 0 or more")
        for section in ("training", "source_training", "few_shot"):
            if (settings := getattr(self, section)) is not None:
                check_training(section, settings)
        for method in self.methods:
            check_backbone(self.backbone, method)
        check_sources(self)
        if self.ablation.tasks:
            variants(self.prompt, self.ept, self.ablation)
        return self

    @property
    def has_published_backbone(self) -> bool:
        """Whether published numbers may stand beside this configuration's: their backbone, on published data sets."""
        return self.backbone.public_name.split("/")[-1] == PUBLISHED_BACKBONE and self.data.source != "demo"

    def training_settings(self, regime: str) -> TrainingSettings:
        """How runs of a regime (full, source or k<number>) are trained."""
        if regime == FULL:
            return self.training
        return (self.source_training or self.training) if regime == SOURCE else self.few_shot

    def learning_rates(self, section: TrainingSettings, method: str) -> dict[str, list[float]]:
        """The grid of one method in a training section, the defaults filled in."""
        defaults = FEW_SHOT_LEARNING_RATES if isinstance(section, FewShotSettings) else FULL_LEARNING_RATES
        return {**defaults, **section.learning_rates}[method]

    def source_length(self, task: str) -> int:
        """The longest source text of a task in pieces."""
        lengths = self.data.source_length
        return lengths.get(task, lengths.get("default", get_task(task).source_length))


def load_configuration(path: str | Path) -> Configuration:
    """Read and check a YAML file. Raises InputError with one sentence that names the file and the key."""
    return parse_configuration(read_yaml(path), str(path))


def parse_configuration(values: Any, origin: str = "the configuration") -> Configuration:
    """Check settings that are already read. `origin` stands in error sentences."""
    if values is None:
        raise InputError(f"{origin} is empty; write settings there ({KEYS})")
    if not isinstance(values, dict):
        raise InputError(f"{origin} must be a mapping of settings, found {type(values).__name__}; {KEYS}")
    try:
        return Configuration.model_validate(values)
    except ValidationError as error:
        raise InputError(_sentence(error, origin)) from error


def _sentence(error: ValidationError, origin: str) -> str:
    """The first problem in one sentence: key, what was found, what is allowed."""
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in problem["loc"]) or "the whole"
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{origin}: unknown key {key}; {KEYS}"
    if problem["type"] in ("missing", "missing_argument"):
        return f"{origin}: the key {key} is missing; add it ({KEYS})"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{origin}: {message}" if key == "the whole" else f"{origin}, key {key}: {message}"
    return f"{origin}, key {key}: found {problem['input']!r}; {message[0].lower()}{message[1:]}"


def write_resolved(config: Configuration, folder: str | Path) -> Path:
    """Write the resolved configuration under a name made of its content and return the path.

    Jobs read this file. Its name changes with its content, so a running job never sees another configuration.
    """
    values = config.model_dump(mode="json")
    path = Path(folder) / f"{digest(values)}.yaml"
    if not path.exists():
        write_text(path, yaml.safe_dump(values, sort_keys=False))
    return path
