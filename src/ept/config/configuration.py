"""The configuration: typed, checked before anything runs, and the one place that puts all settings together."""

import difflib
import os
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import Field, ValidationError, field_validator, model_validator

from ept.config.sections import (
    BackboneSettings,
    DataSettings,
    RateStudySettings,
    Section,
    TaskSettings,
    TransferSettings,
    VisionSettings,
    check_folder,
    check_names,
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
    LearningRates,
    MethodSettings,
    MptSettings,
    PromptSettings,
    Rates,
    ResidualSettings,
    TrainingSettings,
    UlptSettings,
    check_budget,
)
from ept.config.variants import AblationSettings, variants
from ept.config.yaml_file import check_values, read_yaml, write_yaml
from ept.errors import InputError, shortened
from ept.files import digest, write_text
from ept.methods.registry import METHODS, Method, get_method
from ept.tasks.plugins import allow_metrics, load_plugin, register
from ept.tasks.registry import TASKS, Task

# The backbone of the published numbers (src/ept/results/published.csv).
PUBLISHED_BACKBONE = "t5-base"
# The remedy of several sentences.
KEYS = "config/README.md lists the keys"
# How many seeds the methods that train weights have where `weight_seeds` is left out.
WEIGHT_SEEDS = 3

# Predictions hold a seed as a 64-bit integer.
Seeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1, max_length=100)]


class Configuration(Section):
    """One experiment."""

    output: str = "results"
    """Folder of tables and figures, relative or absolute; one for each configuration keeps them side by side."""
    plugins: list[Annotated[str, Field(min_length=1, max_length=1000)]] = Field([], max_length=20)
    """Python files with your own methods and tasks, or names of entry points of installed packages
    (docs/own-data.md). They run only with `--allow-code` or EPT_ALLOW_CODE=1."""
    backbone: BackboneSettings = BackboneSettings()
    """The frozen language model."""
    data: DataSettings = DataSettings()
    """Where the tasks' examples come from."""
    vision: VisionSettings = VisionSettings()
    """The image encoder, for tasks with images."""
    tasks: TaskSettings
    """Target and source tasks."""
    methods: list[str] = Field(["pt", "spot", "dept", "ept"], min_length=1)
    """Methods to compare."""
    seeds: Seeds = Field([0, 1, 2])
    """One run per seed; source prompts are trained with the first one alone."""
    weight_seeds: Seeds | None = None
    """Seeds, out of `seeds`, of the methods that train weights, whose runs cannot share a pass; left out: the first
    three. Comparisons with such a method use the seeds that both have."""
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
    report_texts: bool | None = None
    """Whether the report shows single predictions with their texts; left out: of published data alone, not of your own
    (`data.source: local`, `tasks.define`, tasks of plugins)."""

    @model_validator(mode="before")
    @classmethod
    def _starts_need_sources(cls, values: Any) -> Any:
        """Without source tasks few-shot runs start from scratch, unless the configuration says otherwise."""
        if not isinstance(values, dict):
            return values
        tasks, few_shot = (values.get(key, {}) for key in ("tasks", "few_shot"))
        if not isinstance(tasks, dict) or not isinstance(few_shot, dict) or tasks.get("source"):
            return values
        return {**values, "few_shot": {"initialize_from": ["scratch"], **few_shot}}

    @field_validator("methods")
    @classmethod
    def _methods_are_known(cls, names: list[str]) -> list[str]:
        check_names(names, get_method)
        return names

    @field_validator("output")
    @classmethod
    def _output_is_a_folder(cls, output: str) -> str:
        check_folder("output", output)
        folder = os.path.normpath(output) if output else ""
        if Path(folder).name in ("", ".."):
            raise ValueError(f"{output!r} is not a folder of its own; name one, for example results")
        return f"/{folder.lstrip('/')}" if folder.startswith("/") else folder

    @field_validator("seeds", "weight_seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int] | None) -> list[int] | None:
        refuse_repeats(seeds or [])
        return seeds

    @field_validator("ablation")
    @classmethod
    def _ablation_is_a_list_of_variants(cls, ablation: AblationSettings) -> AblationSettings:
        for key, values in vars(ablation).items():
            refuse_repeats(values, key)
        return ablation

    @model_validator(mode="after")
    def _parts_fit(self) -> "Configuration":
        check_tasks(self)
        check_budget(self.prompt, self.ept)
        check_training("training", self.training)
        if self.source_training is not None:
            check_training("source_training", self.source_training)
        check_training("few_shot", self.few_shot)
        refuse_repeats(self.few_shot.k, "few_shot.k")
        refuse_repeats(self.few_shot.initialize_from, "few_shot.initialize_from")
        check_learning_rates("rate_study", self.rate_study.learning_rates)
        check_names(self.transfer.methods, check_transferred, "transfer.methods")
        for method in self.methods:
            check_backbone(self.backbone, method)
        check_sources(self)
        if others := [seed for seed in self.weight_seeds or [] if seed not in self.seeds]:
            raise ValueError(f"weight_seeds contains {others[0]}, which is not among seeds; add it there too")
        if self.ablation.tasks:
            variants(self.prompt, self.ept, self.ablation)
        return self

    @property
    def has_published_backbone(self) -> bool:
        """Whether published numbers may be shown with this configuration's: their backbone, on published data sets."""
        return self.backbone.public_name.split("/")[-1] == PUBLISHED_BACKBONE and self.data.source != "demo"

    @property
    def method_settings(self) -> MethodSettings:
        """The sections of single prompt methods."""
        return MethodSettings(**{field.name: getattr(self, field.name) for field in fields(MethodSettings)})

    def seeds_of(self, method: str, regime: str = FULL) -> tuple[int, ...]:
        """The seeds that a method is trained with in a regime; source prompts have one."""
        return (self.seeds[0],) if regime == SOURCE else self.seeds_for(get_method(method).packed)

    def seeds_for(self, packed: bool) -> tuple[int, ...]:
        """The seeds of methods whose runs share a pass (`packed`) or of those that train weights."""
        return tuple(self.seeds if packed else self.weight_seeds or self.seeds[:WEIGHT_SEEDS])

    def training_settings(self, regime: str) -> TrainingSettings:
        """How runs of a regime (full, source or k<number>) are trained."""
        if regime == FULL:
            return self.training
        return (self.source_training or self.training) if regime == SOURCE else self.few_shot

    def learning_rates(self, section: TrainingSettings, method: str) -> Rates:
        """The grid of one method in a training section.

        Few-shot training takes the grid of `training` where its own section does not name the method. A method that
        neither names has its default.
        """
        record = get_method(method)
        if isinstance(section, FewShotSettings):
            return {
                method: record.few_shot_rates or record.rates,
                **self.training.learning_rates,
                **section.learning_rates,
            }[method]
        return {method: record.rates, **section.learning_rates}[method]

    def source_length(self, task: str) -> int:
        """The longest source text of a task in pieces."""
        lengths = self.data.source_length
        return lengths.get(task, lengths.get("default", self.tasks.record(task).source_length))

    def test_rows(self, task: str) -> int | None:
        """How many of its test rows a task is scored on; None for all."""
        return self.data.test_rows.get(task, self.data.test_rows.get("default"))


def load_configuration(path: str | Path, allow_code: bool = False) -> Configuration:
    """Read and check a YAML file. Raises InputError with one sentence that names the file and the key.

    `allow_code`: its `plugins` may run.
    """
    return parse_configuration(read_yaml(path), str(path), allow_code)


def parse_configuration(values: Any, origin: str = "the configuration", allow_code: bool = False) -> Configuration:
    """Check settings that are already read.

    Args:
        values: The settings.
        origin: Their file, for error sentences.
        allow_code: Whether `plugins` may run; EPT_ALLOW_CODE=1 in the environment allows it too.

    Raises:
        InputError: A setting is unknown, of a wrong type or impossible; the sentence names its key.
    """
    if values is None:
        raise InputError(f"{origin} is empty; write settings there ({KEYS})")
    if not isinstance(values, dict):
        raise InputError(f"{origin} must be a mapping of settings, found {type(values).__name__}; {KEYS}")
    try:
        check_values(values)
        codes = _register_plugins(values.get("plugins"), allow_code)
        config = Configuration.model_validate(values)
        _refuse_booleans(values, config.model_dump())
        _check_codes(config, codes)
        allow_metrics([metric for task in config.tasks.define.values() for metric in task.metrics], allow_code)
    except ValidationError as error:
        raise InputError(f"{origin}{_sentence(error, values)}") from error
    except InputError as error:
        raise InputError(f"{origin}, {error}") from error
    return config


def _register_plugins(names: Any, allow_code: bool) -> set[str]:
    """Load plugins, register their methods and tasks and return the digests of their code."""
    codes = set()
    for name in names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []:
        plugin = load_plugin(name, allow_code)
        codes.add(plugin.digest)
        for listed, kind, registry, records in (
            ("METHODS", Method, METHODS, plugin.methods),
            ("TASKS", Task, TASKS, plugin.tasks),
        ):
            try:
                for record in records:
                    register(registry, kind, record, plugin.digest)
            except InputError as error:
                raise InputError(f"key plugins: {name}: {listed}: {error}") from error
    return codes


def _check_codes(config: Configuration, codes: set[str]) -> None:
    """Raise InputError for a method or task of a plugin that another configuration of this process has loaded."""
    used = {name: METHODS[name].code for name in config.methods}
    used |= {name: config.tasks.record(name).code for name in config.tasks.target + config.tasks.source}
    for name, code in used.items():
        if code and code not in codes:
            raise InputError(f"{name} is unknown; name the plugin that defines it in plugins")


def _refuse_booleans(values: Any, checked: Any, key: str = "") -> None:
    """Raise InputError for a true or false that was taken as a number: pydantic reads `seeds: [true]` as 1."""
    if isinstance(values, bool) and not isinstance(checked, bool):
        raise InputError(f"key {key}: found {str(values).lower()}; write a number")
    if isinstance(values, dict) and isinstance(checked, dict):
        for name in values.keys() & checked.keys():
            _refuse_booleans(values[name], checked[name], f"{key}.{name}" if key else str(name))
    elif isinstance(values, list) and isinstance(checked, list | tuple):
        for index, (value, found) in enumerate(zip(values, checked, strict=False)):
            _refuse_booleans(value, found, f"{key}.{index}")


def _sentence(error: ValidationError, values: dict) -> str:
    """The first problem in one sentence, to put after the file's name: key, what was found, what is allowed."""
    problems = error.errors(include_url=False)
    problem, location = problems[0], _location(problems[0]["loc"], values)
    key = ".".join(map(str, location))
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f": unknown key {key}; {_similar_key(location)}{KEYS}"
    if problem["type"] in ("missing", "missing_argument"):
        return f": the key {key} is missing; add it ({KEYS})"
    if problem["type"] == "value_error":
        message = problem["msg"].removeprefix("Value error, ")
        return f", key {key}: {message}" if key else f": {message}"
    # Of a setting with alternatives, as `auto` or a number, every alternative has its own problem.
    alternatives = [other["msg"] for other in problems if _location(other["loc"], values) == location]
    messages = " or ".join(dict.fromkeys(f"{message[0].lower()}{message[1:]}" for message in alternatives))
    return f", key {key}: found {shortened(ascii(problem['input']), 60)}; {messages}"


def _location(location: tuple[str | int, ...], values: Any) -> tuple[str | int, ...]:
    """The part of pydantic's location that is in the file: without the names of a setting's alternatives."""
    found: list[str | int] = []
    for place, part in enumerate(location):
        inside = (isinstance(values, dict) and part in values) or (
            isinstance(values, list) and part in range(len(values))
        )
        if inside:
            values = values[part]
            found.append(part)
        elif isinstance(values, dict) and place == len(location) - 1:
            found.append(part)
    return tuple(found)


def _similar_key(location: tuple[str | int, ...]) -> str:
    """A question that names the key most similar to an unknown one, or nothing."""
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
        write_text(path, write_yaml(values))
    return path


def check_backbone(backbone: BackboneSettings, method: str) -> None:
    """Raise InputError for a method that the backbone's quantization or its spread over devices rules out."""
    if backbone.quantization != "none" and get_method(method).float32:
        raise InputError(
            f"backbone.quantization is {backbone.quantization}, but {method} trains a backbone in float32; set it to "
            f"none, or leave {method} out of methods"
        )
    if backbone.device_map == "auto" and not get_method(method).packed:
        raise InputError(
            f"backbone.device_map is auto, but {method} trains inside the backbone, which must then be on one device; "
            f"set it to one, or leave {method} out of methods"
        )


def check_training(section: str, settings: TrainingSettings) -> None:
    """Raise InputError for what the declared ranges of a training section cannot say; `section` is its key."""
    if settings.steps != "auto" and settings.warmup_steps >= settings.steps:
        raise InputError(
            f"{section}.warmup_steps is {settings.warmup_steps}; it must be below {section}.steps, {settings.steps}"
        )
    check_learning_rates(section, settings.learning_rates)


def check_learning_rates(section: str, rates: LearningRates) -> None:
    """Raise InputError for an unknown method, for groups other than the method's, and for a rate listed twice."""
    for method, groups in rates.items():
        where = f"{section}.learning_rates.{method}"
        wanted = set(get_method(method).groups)
        if set(groups) != wanted:
            raise InputError(f"{where} names the groups {sorted(groups)}; {method} has {sorted(wanted)}")
        for group, values in groups.items():
            if len(set(values)) < len(values):
                raise InputError(f"{where}.{group} is {values}, which lists a rate twice; leave one out")


def check_transferred(method: str) -> None:
    """Raise InputError for a method of `transfer.methods` that does not start from source prompts."""
    if get_method(method).start == "never":
        starting = ", ".join(name for name, record in METHODS.items() if record.start != "never")
        raise InputError(f"transfer.methods contains {method}, which always starts from scratch; use one of {starting}")


def check_tasks(config: Configuration) -> None:
    """Raise InputError for an unknown task in a section that cannot see `tasks.define`."""
    places = {
        "data.source_length": [name for name in config.data.source_length if name != "default"],
        "data.test_rows": [name for name in config.data.test_rows if name != "default"],
        "ablation.tasks": config.ablation.tasks,
        "rate_study.tasks": config.rate_study.tasks,
    }
    for key, names in places.items():
        for name in names:
            try:
                config.tasks.record(name)
            except InputError as error:
                raise InputError(f"{key}: {error}") from error


def check_sources(config: Configuration) -> None:
    """Raise InputError where a method starts from source prompts and a target task has none to start from."""
    transferred = [name for name in config.methods if METHODS[name].start == "always"]
    if config.few_shot.k and "source" in config.few_shot.initialize_from:
        transferred += [name for name in config.methods if METHODS[name].start == "optional"]
    transferred += config.transfer.methods
    if not transferred:
        return
    named = config.few_shot.source
    if named != "auto" and named not in config.tasks.source:
        raise InputError(f"few_shot.source is {named}, which is not among tasks.source {config.tasks.source}")
    for target in config.tasks.target:
        if not set(config.tasks.source) - {target} or named == target:
            raise InputError(
                f"{transferred[0]} starts {target} from a source prompt, but tasks.source has no usable task other "
                f"than {target} itself; add a source task, or take source out of few_shot.initialize_from and "
                f"{transferred[0]} out of methods and transfer.methods"
            )
