"""The configuration: typed, checked before anything runs, and the one place that puts all settings together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ept.ablation import AblationSettings, variants
from ept.baselines.settings import BaselineSettings, check_baselines
from ept.errors import InputError
from ept.files import digest, write_text
from ept.methods import METHODS, get_method
from ept.prompts.budget import check_budget
from ept.prompts.settings import EptSettings, PromptSettings
from ept.tasks import get_task
from ept.training.settings import (
    FEW_SHOT_LEARNING_RATES,
    FULL_LEARNING_RATES,
    FewShotSettings,
    LearningRates,
    MptSettings,
    TrainingSettings,
)
from ept.yaml_file import read_yaml

# The backbone of the published numbers (src/ept/results/published.csv).
PUBLISHED_BACKBONE = "t5-base"
# The remedy of many a sentence.
KEYS = "config/README.md lists the keys"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class BackboneSettings(_Section):
    """The frozen language model."""

    name: str = Field("demo-t5", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name in paths and tables."""
    source: Literal["demo", "hub", "local"] = "demo"
    """The small T5 that ships with the project, a repository of the Hugging Face hub, or a local folder."""
    id: str = ""
    """Hub repository (`google-t5/t5-base`) or local folder with config.json, safetensors and tokenizer.json."""
    revision: str = ""
    """Commit of the hub repository; required there, so that a result can be made again."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the frozen weights; `auto` is bfloat16 on a GPU and float32 on a CPU. All that is trained is
    float32, and fine-tuning and BitFit run in float32 throughout."""

    @property
    def public_name(self) -> str:
        """What others know the backbone by: the hub repository, or its name here."""
        return self.id if self.source == "hub" else self.name

    @model_validator(mode="after")
    def _source_is_complete(self) -> "BackboneSettings":
        if self.source == "hub" and not (self.id and self.revision):
            raise ValueError("source hub needs an id (repository) and a revision (commit)")
        if self.source == "local" and not self.id:
            raise ValueError("source local needs an id (the folder of the model)")
        if self.source == "demo" and (self.id or self.revision):
            raise ValueError("source demo takes no id and no revision")
        return self


class DataSettings(_Section):
    """Where the tasks' examples come from."""

    source: Literal["demo", "hub", "local"] = "demo"
    """The generated demonstration benchmark, the Hugging Face hub (pinned revisions), or a local folder."""
    path: str = ""
    """Local folder in the Hugging Face layout: <path>/<glue|super_glue|squad>/<config>/<split>.parquet."""
    seed: int = Field(0, ge=0)
    """Seed of the demonstration benchmark."""
    source_length: dict[str, int] = {}
    """Longest source text in pieces by task, with `default` for all others; a task not named here keeps the
    protocol's length (256; multirc 348; squad and record 512)."""

    @model_validator(mode="after")
    def _source_is_complete(self) -> "DataSettings":
        if (self.source == "local") != bool(self.path):
            raise ValueError("path is needed with source local and allowed only there")
        for name, length in self.source_length.items():
            if name != "default":
                get_task(name)
            if length < 1:
                raise ValueError(f"source_length.{name} is {length}; it must be at least 1")
        return self


class TaskSettings(_Section):
    """The tasks of the tables and the tasks that prompts are transferred from."""

    target: list[str] = Field(min_length=1)
    """Tasks to report."""
    source: list[str] = []
    """Tasks whose prompts few-shot runs may start from; a target is never its own source."""

    @field_validator("target", "source")
    @classmethod
    def _tasks_are_known(cls, names: list[str]) -> list[str]:
        for name in names:
            get_task(name)
        _refuse_repeats(names)
        return names


class Configuration(_Section):
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

    @field_validator("methods")
    @classmethod
    def _methods_are_known(cls, names: list[str]) -> list[str]:
        for name in names:
            get_method(name)
        _refuse_repeats(names)
        return names

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        _refuse_repeats(seeds)
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
            _refuse_repeats(values)
        return ablation

    @model_validator(mode="after")
    def _parts_fit(self) -> "Configuration":
        check_budget(self.prompt, self.ept)
        check_baselines(self.baselines)
        if not 0 <= self.mpt.distillation_weight < float("inf"):
            raise ValueError(f"mpt.distillation_weight is {self.mpt.distillation_weight}; it must be 0 or more")
        for section in ("training", "source_training", "few_shot"):
            if (settings := getattr(self, section)) is not None:
                _check_training(section, settings)
        _check_sources(self)
        if self.ablation.tasks:
            variants(self.prompt, self.ept, self.ablation)
        return self

    @property
    def has_published_backbone(self) -> bool:
        """Whether published numbers may stand beside this configuration's: their backbone, on published data sets."""
        return self.backbone.public_name.split("/")[-1] == PUBLISHED_BACKBONE and self.data.source != "demo"

    def source_training_settings(self) -> TrainingSettings:
        """How source prompts are trained."""
        return self.source_training or self.training

    def learning_rates(self, section: TrainingSettings, method: str) -> dict[str, list[float]]:
        """The grid of one method in a training section, the defaults filled in."""
        defaults = FEW_SHOT_LEARNING_RATES if isinstance(section, FewShotSettings) else FULL_LEARNING_RATES
        return {**defaults, **section.learning_rates}[method]

    def source_length(self, task: str) -> int:
        """The longest source text of a task in pieces."""
        lengths = self.data.source_length
        return lengths.get(task, lengths.get("default", get_task(task).source_length))


def _refuse_repeats(values: Sequence) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value} stands there more than once")


def _check_training(section: str, settings: TrainingSettings) -> None:
    positive = ["batch_size", "evaluate_every", "validation_rows", "clip_norm"]
    for key in positive + ([] if settings.steps == "auto" else ["steps"]):
        if not 0 < getattr(settings, key) < float("inf"):
            raise ValueError(f"{section}.{key} is {getattr(settings, key)}; it must be a number above 0")
    for key in ("patience", "halving"):
        if getattr(settings, key) < 0:
            raise ValueError(f"{section}.{key} is {getattr(settings, key)}; it must be 0 (off) or more")
    if settings.pack != "auto" and settings.pack < 1:
        raise ValueError(f"{section}.pack is {settings.pack}; it must be auto or a number of runs, at least 1")
    if settings.warmup_steps < 0 or (settings.steps != "auto" and settings.warmup_steps >= settings.steps):
        raise ValueError(f"{section}.warmup_steps is {settings.warmup_steps}; it must be 0 or more and below steps")
    _check_learning_rates(section, settings.learning_rates)
    if isinstance(settings, FewShotSettings):
        _refuse_repeats(settings.k)
        for k in settings.k:
            if k < 1:
                raise ValueError(f"few_shot.k contains {k}; k is a number of examples, at least 1")


def _check_learning_rates(section: str, rates: LearningRates) -> None:
    for method, groups in rates.items():
        where = f"{section}.learning_rates.{method}"
        wanted = set(get_method(method).groups)
        if set(groups) != wanted:
            raise ValueError(f"{where} names the groups {sorted(groups)}; {method} has {sorted(wanted)}")
        for group, values in groups.items():
            if not values or any(not 0 < value < float("inf") for value in values):
                raise ValueError(f"{where}.{group} is {values}; it must be a list of rates above 0")


def _check_sources(config: Configuration) -> None:
    transferred = [name for name in config.methods if METHODS[name].source == "required"]
    if "source" in config.few_shot.initialise_from:
        transferred += [name for name in config.methods if METHODS[name].source == "optional"]
    if not transferred:
        return
    named = config.few_shot.source
    if named != "auto" and named not in config.tasks.source:
        raise ValueError(f"few_shot.source is {named}, which is not among tasks.source {config.tasks.source}")
    for target in config.tasks.target:
        if not set(config.tasks.source) - {target} or named == target:
            raise ValueError(
                f"{transferred[0]} starts {target} from a source prompt, but tasks.source has no usable task other "
                f"than {target} itself; add a source task or remove `source` from few_shot.initialise_from"
            )


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
