"""The sections of the configuration that belong to no single room: backbone, data and tasks. No torch."""

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ept.config.settings import FULL, SOURCE, FewShotSettings, LearningRates, TrainingSettings, check_regime
from ept.methods.registry import METHODS, get_method
from ept.tasks.natural import in_words
from ept.tasks.record import Task
from ept.tasks.registry import get_task


class Section(BaseModel):
    """Unknown keys are refused; the text under a field explains it in config/README.md."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class BackboneSettings(Section):
    """The frozen language model."""

    name: str = Field("demo-t5", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name in paths and tables."""
    source: Literal["demo", "hub", "local"] = "demo"
    """The small T5 that ships with the project, a repository of the Hugging Face hub, or a local folder."""
    id: str = ""
    """Hub repository (`google-t5/t5-base`) or local folder with config.json, safetensors and tokenizer.json."""
    revision: str = ""
    """Commit of the hub repository; required there, so that a result can be made again."""
    weights: Literal["safetensors", "bin"] = "safetensors"
    """The hub's file format. `bin` is for a repository without safetensors: its pytorch_model.bin is read with
    weights_only=True, which runs nothing in it, and kept as safetensors."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the frozen weights; `auto` is bfloat16 on a GPU and float32 on a CPU. All that is trained is
    float32, and fine-tuning and BitFit run in float32 throughout."""
    quantization: Literal["none", "nf4", "int8"] = "none"
    """Linear layers of the frozen model in 4 bit (NF4, double quantization) or 8 bit, through bitsandbytes; `auto` then
    means bfloat16 on a CPU too. Not for fine-tuning and BitFit."""
    device_map: Literal["one", "auto"] = "one"
    """`auto` spreads the blocks over all GPUs that a job sees, for a model that does not fit on one. Prompt methods
    only."""
    gradient_checkpointing: bool = False
    """Keep only what goes into each block for the backward pass and compute the rest again: less memory, more time, the
    same gradients."""

    def used_dtype(self, float32: bool, gpu: bool) -> str:
        """The precision of the weights, or of those that are not quantized; `float32`: the method trains in it."""
        if float32:
            return "float32"
        if self.dtype != "auto":
            return self.dtype
        return "bfloat16" if gpu or self.quantization != "none" else "float32"

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
        if self.source != "hub" and self.weights != "safetensors":
            raise ValueError("weights bin is for source hub; convert a local folder's with `ept convert-weights`")
        return self


class DataSettings(Section):
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


class TaskSettings(Section):
    """The tasks of the tables and the tasks that prompts are transferred from."""

    target: list[str] = Field(min_length=1)
    """Tasks to report."""
    source: list[str] = []
    """Tasks whose prompts few-shot runs may start from; a target is never its own source."""
    wording: Literal["protocol", "natural"] = "protocol"
    """The protocol's templates with digits as labels, or natural questions and words, which language models answer
    without training too (src/ept/tasks/natural.py; sst2, rte, cb, mnli, boolq)."""

    @field_validator("target", "source")
    @classmethod
    def _tasks_are_known(cls, names: list[str]) -> list[str]:
        check_names(names, get_task)
        return names

    @model_validator(mode="after")
    def _wordings_exist(self) -> "TaskSettings":
        for name in self.target + self.source:
            self.record(name)
        return self

    def record(self, name: str) -> Task:
        """The task in the configured wording."""
        return in_words(get_task(name)) if self.wording == "natural" else get_task(name)


class TransferSettings(Section):
    """The table `transfer`: what source prompts bring on every target beside a start from scratch."""

    methods: list[str] = []
    """Methods to transfer; none means that there is no such table. ATTEMPT and MPT start from all source tasks
    together."""
    every_source: list[str] = ["k16"]
    """Regimes (`full` or `k<number>`) in which every source prompt starts every target."""
    chosen_source: list[str] = ["full"]
    """Regimes in which only the chosen source prompt does (`few_shot.choose_by`)."""

    @model_validator(mode="after")
    def _can_be_transferred(self) -> "TransferSettings":
        check_transfer(self.methods, self.every_source + self.chosen_source)
        return self


class RateStudySettings(Section):
    """More learning rates than `training` has, for the table `learning_rates` alone: how much scores depend on them."""

    tasks: list[str] = []
    """Tasks on which they are tried, with full data."""
    learning_rates: LearningRates = {}
    """For each method and parameter group the rates to try, as in `training`."""

    @model_validator(mode="after")
    def _is_whole(self) -> "RateStudySettings":
        check_names(self.tasks, get_task)
        check_learning_rates("rate_study", self.learning_rates)
        if bool(self.tasks) != bool(self.learning_rates):
            raise ValueError("rate_study needs both tasks and learning_rates, or neither")
        return self


def refuse_repeats(values: Sequence) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value} stands there more than once")


def check_names(names: Sequence[str], look_up: Callable[[str], object]) -> None:
    """Refuse a name that `look_up` does not know, and one that stands there twice."""
    for name in names:
        look_up(name)
    refuse_repeats(names)


def check_training(section: str, settings: TrainingSettings) -> None:
    positive = ["batch_size", "evaluate_every", "validation_rows", "clip_norm"]
    for key in positive + ([] if settings.steps == "auto" else ["steps"]):
        if not 0 < getattr(settings, key) < float("inf"):
            raise ValueError(f"{section}.{key} is {getattr(settings, key)}; it must be a number above 0")
    for key in ("patience", "halving"):
        if getattr(settings, key) < 0:
            raise ValueError(f"{section}.{key} is {getattr(settings, key)}; it must be 0 (off) or more")
    if settings.runs_per_pass != "auto" and settings.runs_per_pass < 1:
        raise ValueError(
            f"{section}.runs_per_pass is {settings.runs_per_pass}; it must be auto or a number of runs, at least 1"
        )
    if settings.warmup_steps < 0 or (settings.steps != "auto" and settings.warmup_steps >= settings.steps):
        raise ValueError(f"{section}.warmup_steps is {settings.warmup_steps}; it must be 0 or more and below steps")
    check_learning_rates(section, settings.learning_rates)
    if isinstance(settings, FewShotSettings):
        refuse_repeats(settings.k)
        for k in settings.k:
            if k < 1:
                raise ValueError(f"few_shot.k contains {k}; k is a number of examples, at least 1")
        if settings.probe_steps < 1:
            raise ValueError(f"few_shot.probe_steps is {settings.probe_steps}; it must be at least 1")


def check_learning_rates(section: str, rates: LearningRates) -> None:
    for method, groups in rates.items():
        where = f"{section}.learning_rates.{method}"
        wanted = set(get_method(method).groups)
        if set(groups) != wanted:
            raise ValueError(f"{where} names the groups {sorted(groups)}; {method} has {sorted(wanted)}")
        for group, values in groups.items():
            if not values or any(not 0 < value < float("inf") for value in values):
                raise ValueError(f"{where}.{group} is {values}; it must be a list of rates above 0")


def check_transfer(methods: list[str], regimes: list[str]) -> None:
    refuse_repeats(methods)
    refuse_repeats(regimes)
    for name in methods:
        if get_method(name).start == "never":
            starting = ", ".join(other for other, method in METHODS.items() if method.start != "never")
            raise ValueError(
                f"methods contains {name}, which starts from no source prompt; those that do are {starting}"
            )
    for regime in regimes:
        check_regime(regime)
        if regime == SOURCE:
            raise ValueError(f"{regime} is the training of the source prompts themselves; use {FULL} or k<number>")
