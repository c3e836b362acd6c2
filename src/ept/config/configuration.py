"""The configuration: typed, checked before anything runs, and the one place that puts all settings together."""

import difflib
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from ept.config.sections import (
    BackboneSettings,
    DataSettings,
    RateStudySettings,
    Section,
    TaskSettings,
    TransferSettings,
    check_names,
    check_training,
    refuse_repeats,
)
from ept.config.settings import (
    FULL,
    SOURCE,
    AcceptSettings,
    AdeptSettings,
    AttemptSettings,
    BaselineSettings,
    DptSettings,
    EptSettings,
    FewShotSettings,
    MethodSettings,
    MptSettings,
    PromptSettings,
    ResidualSettings,
    TrainingSettings,
    UlptSettings,
    check_baselines,
)
from ept.config.variants import AblationSettings, variants
from ept.config.yaml_file import read_yaml
from ept.errors import InputError
from ept.files import digest, write_text
from ept.methods.budget import check_budget
from ept.methods.registry import METHODS, get_method
from ept.tasks.registry import get_task

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
    attempt: AttemptSettings = AttemptSettings()
    """ATTEMPT's target prompt."""
    adept: AdeptSettings = AdeptSettings()
    """ADePT's network."""
    ulpt: UlptSettings = UlptSettings()
    """ULPT's dimensions."""
    dpt: DptSettings = DptSettings()
    """DPT's rank."""
    accept: AcceptSettings = AcceptSettings()
    """ACCEPT's codebooks."""
    residual: ResidualSettings = ResidualSettings()
    """Residual PT's network."""
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

    @property
    def method_settings(self) -> MethodSettings:
        """The sections of single prompt methods."""
        return MethodSettings(**{field.name: getattr(self, field.name) for field in fields(MethodSettings)})

    def training_settings(self, regime: str) -> TrainingSettings:
        """How runs of a regime (full, source or k<number>) are trained."""
        if regime == FULL:
            return self.training
        return (self.source_training or self.training) if regime == SOURCE else self.few_shot

    def learning_rates(self, section: TrainingSettings, method: str) -> dict[str, list[float]]:
        """The grid of one method in a training section, the defaults filled in."""
        record = get_method(method)
        if isinstance(section, FewShotSettings):
            return {method: record.few_shot_rates, **self.training.learning_rates, **section.learning_rates}[method]
        return {method: record.rates, **section.learning_rates}[method]

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
        return f"{origin}: unknown key {key}; {_similar_key(problem['loc'])}{KEYS}"
    if problem["type"] in ("missing", "missing_argument"):
        return f"{origin}: the key {key} is missing; add it ({KEYS})"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{origin}: {message}" if key == "the whole" else f"{origin}, key {key}: {message}"
    return f"{origin}, key {key}: found {problem['input']!r}; {message[0].lower()}{message[1:]}"


def _similar_key(location: tuple[str | int, ...]) -> str:
    """A question for the key that an unknown one resembles, or nothing."""
    *sections, name = map(str, location)
    keys = get_type_hints(Configuration)
    for section in sections:
        kinds = [kind for kind in (keys.get(section), *get_args(keys.get(section))) if isinstance(kind, type)]
        keys = get_type_hints(kinds[0]) if kinds else {}
    similar = difflib.get_close_matches(name, keys, n=1)
    return f"did you mean {'.'.join([*sections, *similar])}? " if similar else ""


def write_resolved(config: Configuration, folder: str | Path) -> Path:
    """Write the resolved configuration under a name made of its content and return the path.

    Jobs read this file. Its name changes with its content, so a running job never sees another configuration.
    """
    values = config.model_dump(mode="json")
    path = Path(folder) / f"{digest(values)}.yaml"
    if not path.exists():
        write_text(path, yaml.safe_dump(values, sort_keys=False))
    return path


def check_backbone(backbone: "BackboneSettings", method: str) -> None:
    """Raise InputError for a method that trains what the quantization freezes, or inside a backbone in parts."""
    if backbone.quantization != "none" and get_method(method).float32:
        raise InputError(
            f"backbone.quantization is {backbone.quantization}, but {method} trains a backbone in float32; set it to "
            f"none, or leave {method} out (lora trains beside a quantized backbone)"
        )
    if backbone.device_map == "auto" and not get_method(method).packed:
        raise InputError(
            f"backbone.device_map is auto, but {method} trains inside the backbone, which must then be on one device; "
            f"set it to one, or leave {method} out"
        )


def check_sources(config: "Configuration") -> None:
    transferred = [name for name in config.methods if METHODS[name].start == "always"]
    if "source" in config.few_shot.initialize_from:
        transferred += [name for name in config.methods if METHODS[name].start == "optional"]
    transferred += config.transfer.methods
    if not transferred:
        return
    named = config.few_shot.source
    if named != "auto" and named not in config.tasks.source:
        raise ValueError(f"few_shot.source is {named}, which is not among tasks.source {config.tasks.source}")
    for target in config.tasks.target:
        if not set(config.tasks.source) - {target} or named == target:
            raise ValueError(
                f"{transferred[0]} starts {target} from a source prompt, but tasks.source has no usable task other "
                f"than {target} itself; add a source task, or take `source` out of few_shot.initialize_from and "
                f"{transferred[0]} out of transfer.methods"
            )
