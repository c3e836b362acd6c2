"""The sections of the configuration about backbone, data, tasks and tables. No torch."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ept.config.settings import FULL, MULTITASK, SOURCE, LearningRates, check_regime
from ept.config.yaml_file import check_values, read_yaml
from ept.errors import shortened
from ept.tasks.define import Name, TaskDefinition, shared
from ept.tasks.record import Task
from ept.tasks.registry import TASKS, expand_sets, get_task, in_words, task_sets

# Characters that no folder of a configuration may have: braces are Snakemake's wildcards, the others mean something
# to a shell. Commands are quoted all the same.
_FORBIDDEN = '{}\\`$;&|<>"*?[]'
# Words that stand in paths, tables and settings where the name of a task may stand too.
_RESERVED = (MULTITASK, SOURCE, FULL, "default")


class Section(BaseModel):
    """A part of the configuration. Unknown keys are refused; the text under a field explains it in config/README.md."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class BackboneSettings(Section):
    """The frozen language model."""

    name: str = Field("demo-t5", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)
    """Name in paths and tables."""
    source: Literal["demo", "hub", "local"] = "demo"
    """The small T5 that ships with the project, a repository of the Hugging Face Hub, or a local folder."""
    id: str = ""
    """Hub repository (`google-t5/t5-base`) or local folder with config.json, safetensors and tokenizer.json."""
    revision: str = ""
    """Commit of the Hub repository (40 hexadecimal digits); required there, because a branch such as `main` moves."""
    weights: Literal["safetensors", "bin"] = "safetensors"
    """The Hub's file format. `bin` is for a repository without safetensors: its pytorch_model.bin is read with
    weights_only=True, which runs nothing in it, and kept as safetensors."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the frozen weights, the same on every device; `auto` is float32, or bfloat16 with `quantization`.
    Everything that is trained is float32, and fine-tuning and BitFit run in float32 throughout."""
    tf32: bool = False
    """Whether a GPU multiplies float32 matrices in TF32 (10 bits of mantissa): faster, slightly less exact. Sums and
    everything that is stored stay float32."""
    quantization: Literal["none", "nf4", "int8"] = "none"
    """Linear layers of the frozen model in 4 bit (NF4, double quantization) or 8 bit, through bitsandbytes. Not for
    fine-tuning and BitFit."""
    device_map: Literal["one", "auto"] = "one"
    """`auto` spreads the blocks over all GPUs that a job sees, for a model that does not fit on one. Prompt methods
    only."""
    gradient_checkpointing: bool = False
    """Keep only the input of each block for the backward pass and compute the rest again: less memory, more time, the
    same gradients."""

    def used_dtype(self, float32: bool = False) -> str:
        """The precision of the weights, or of those that are not quantized; `float32`: the method needs it."""
        if float32:
            return "float32"
        if self.dtype != "auto":
            return self.dtype
        return "float32" if self.quantization == "none" else "bfloat16"

    @property
    def public_name(self) -> str:
        """What others know the backbone by: the Hub repository, or its name here."""
        return self.id if self.source == "hub" else self.name

    @field_validator("revision")
    @classmethod
    def _revision_is_a_commit(cls, revision: str) -> str:
        if revision and not re.fullmatch("[0-9a-f]{40}", revision):
            found = shortened(repr(revision), 60)
            raise ValueError(f"{found} is not a commit; write its 40 hexadecimal digits (a branch or tag can move)")
        return revision

    @model_validator(mode="after")
    def _source_is_complete(self) -> "BackboneSettings":
        if self.source == "hub" and not (self.id and self.revision):
            of = f"{shortened(self.id, 100)} needs" if self.id else "source hub needs an id (repository) and"
            raise ValueError(
                f"{of} a revision: the 40 hexadecimal digits of a commit, as the repository's history shows"
            )
        if self.source == "hub" and not re.fullmatch(r"[\w-][\w.-]{0,95}(/[\w-][\w.-]{0,95})?", self.id, re.ASCII):
            raise ValueError(f"id {shortened(repr(self.id), 100)} is not a Hub repository; write owner/name")
        if self.source == "local":
            if not self.id:
                raise ValueError("source local needs an id (the folder of the model)")
            check_folder("id", self.id)
        if self.source == "demo" and (self.id or self.revision):
            raise ValueError("source demo takes neither an id nor a revision")
        if self.source != "hub" and self.weights != "safetensors":
            raise ValueError("weights bin is for source hub; convert a local folder with `ept convert-weights`")
        return self


class DataSettings(Section):
    """Where the tasks' examples come from."""

    source: Literal["demo", "hub", "local"] = "demo"
    """The generated demonstration benchmark, the Hugging Face Hub (pinned revisions), or a local folder."""
    path: str = ""
    """Local folder in the Hugging Face layout: <path>/<glue|super_glue|squad>/<config>/<split>.parquet."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of the demonstration benchmark."""
    source_length: dict[str, Annotated[int, Field(ge=1, le=100_000)]] = {}
    """Longest source text in pieces by task, with `default` for all others; a task not named here keeps the
    protocol's length (256; multirc 348; squad and record 512)."""
    test_rows: dict[str, Annotated[int, Field(ge=1, le=1_000_000_000)]] = {}
    """How many of the protocol's test rows a task is scored on, with `default` for all others; a task not named here is
    scored on all. They are drawn once, the same for every method and seed (MultiRC: whole paragraphs). For computers on
    which a large test split takes longer than training; published scores are of all rows."""

    @model_validator(mode="after")
    def _source_is_complete(self) -> "DataSettings":
        if (self.source == "local") != bool(self.path):
            raise ValueError("path is needed with source local and allowed only there")
        if self.path:
            check_folder("path", self.path)
        return self


class VisionSettings(Section):
    """How tasks with images reach the backbone; tasks without images do not read this."""

    source: Literal["demo", "hub", "local"] = "demo"
    """The frozen image encoder: the small one that ships with the project, a repository of the Hugging Face Hub, or
    a local folder."""
    id: str = ""
    """Hub repository (`timm/resnet101_clip.openai`) or local folder."""
    revision: str = ""
    """Commit of the Hub repository (40 hexadecimal digits)."""
    patches: int = Field(36, ge=1, le=4096)
    """Positions of an image, each a patch of it; they follow the text."""
    width: int = Field(96, ge=1, le=65_536)
    """Features of a patch."""
    projection: Literal["frozen", "trained"] = "frozen"
    """The linear map from features to embeddings: the encoder's own, which was aligned with the backbone once, or one
    that every run trains and stores."""
    projection_rates: list[Annotated[float, Field(gt=0, le=1_000_000)]] = Field([1e-3], min_length=1, max_length=16)
    """Learning rates to try for a trained projection, in combination with the method's own."""
    offset: Literal["text", "visual", "both"] = "text"
    """What the offset of DePT, EPT, ADePT and ACCEPT is added to: the embeddings of the text, of the patches, or both.
    The parameter budget counts a row of A for each position that it is added to."""

    @field_validator("projection_rates")
    @classmethod
    def _rates_differ(cls, rates: list[float]) -> list[float]:
        refuse_repeats(rates)
        return rates

    @model_validator(mode="after")
    def _source_is_complete(self) -> "VisionSettings":
        if self.source == "hub" and not (self.id and re.fullmatch("[0-9a-f]{40}", self.revision)):
            raise ValueError("source hub needs an id (repository) and a revision (a commit, 40 hexadecimal digits)")
        if self.source == "local":
            if not self.id:
                raise ValueError("source local needs an id (the folder of the encoder)")
            check_folder("id", self.id)
        if self.source != "hub" and self.revision:
            raise ValueError(f"source {self.source} takes no revision")
        if self.source == "demo" and (self.id or (self.patches, self.width) != (36, 96)):
            raise ValueError("source demo takes no id, and gives 36 patches of width 96")
        if self.source == "hub" and self.projection == "frozen":
            raise ValueError(
                "projection frozen needs an encoder that was aligned with the backbone; use projection trained"
            )
        return self

    def rows(self, length: int) -> int:
        """Rows of an offset for texts of `length` pieces."""
        return {"text": length, "visual": self.patches, "both": self.patches + length}[self.offset]


def _expand(names: Any) -> Any:
    """The tasks behind names of tasks and sets; everything else is left to pydantic to refuse."""
    names = [names] if isinstance(names, str) else names
    whole = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return expand_sets(names) if whole else names


Tasks = Annotated[list[str], BeforeValidator(_expand, json_schema_input_type=list[str] | str)]


def _definition(values: Any) -> Any:
    """A definition as it stands there, or from the YAML file that is named instead."""
    if not isinstance(values, str):
        return values
    if Path(values).suffix not in (".yaml", ".yml"):
        raise ValueError(f"{shortened(ascii(values), 100)} is not a YAML file; name one, or write the definition here")
    if not Path(values).is_file():
        raise ValueError(f"{shortened(ascii(values), 100)}: no such file; check the path")
    found = read_yaml(values)
    if not isinstance(found, dict):
        raise ValueError(f"{values} must be a mapping with files, template and label; docs/own-data.md shows one")
    check_values(found)
    try:
        return TaskDefinition.model_validate(shared(found, Path(values)))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key, message = ".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")
        raise ValueError(f"{values}{', key ' if key else ''}{key}: {message[0].lower()}{message[1:]}") from error


Definition = Annotated[TaskDefinition, BeforeValidator(_definition, json_schema_input_type=TaskDefinition | str)]


class TaskSettings(Section):
    """The tasks of the tables and the tasks that prompts are transferred from.

    Both take names of tasks and of sets: `glue`, `superglue`, `glue+superglue`, or lists of these.
    """

    define: dict[Name, Definition] = {}
    """Your own tasks by name, each a definition or the YAML file that holds it (docs/own-data.md). Relative paths
    start from the folder that the command runs in; those in a file of its own, from that file's folder."""
    target: Tasks = Field(min_length=1)
    """Tasks to report."""
    source: Tasks = []
    """Tasks whose prompts few-shot runs may start from; a target is never its own source."""
    wording: Literal["protocol", "natural"] = "protocol"
    """The protocol's templates with digits as labels, or natural questions and words, which language models answer
    without training too (src/ept/tasks/registry.py; sst2, cola, mrpc, qnli, rte, cb, mnli, boolq)."""

    @field_validator("define")
    @classmethod
    def _names_are_free(cls, define: dict[str, TaskDefinition]) -> dict[str, TaskDefinition]:
        for name in define:
            if name in TASKS or name in task_sets() or name in _RESERVED or name.startswith("average"):
                raise ValueError(f"{name} is the name of a shipped task or has another meaning; choose another name")
        return define

    @field_validator("target", "source")
    @classmethod
    def _tasks_are_known(cls, names: list[str], info: ValidationInfo) -> list[str]:
        # A definition with a mistake is reported by itself; its name is then not known here.
        if "define" in info.data:
            define = info.data["define"]
            check_names([name for name in names if name not in define], lambda name: get_task(name, define))
            refuse_repeats(names)
        return names

    @model_validator(mode="after")
    def _wordings_exist(self) -> "TaskSettings":
        for name in self.target + self.source:
            self.record(name)
        return self

    def record(self, name: str) -> Task:
        """The task of this name, a shipped one in the configured wording. Raises InputError for an unknown name."""
        if name in self.define:
            return self.define[name].task(name)
        task = get_task(name, self.define)
        return in_words(task) if self.wording == "natural" else task

    @property
    def own(self) -> list[str]:
        """Those of the target and source tasks that the configuration defines."""
        return [name for name in dict.fromkeys(self.target + self.source) if name in self.define]

    @property
    def shipped(self) -> list[str]:
        """Those of the target and source tasks that the package knows."""
        return [name for name in dict.fromkeys(self.target + self.source) if name not in self.define]


Regimes = Annotated[list[str], Field(max_length=20)]


class TransferSettings(Section):
    """The table `transfer`: what source prompts gain on every target over a start from scratch."""

    methods: list[str] = []
    """Methods to transfer; none: there is no such table. ATTEMPT and MPT start from all source tasks
    together."""
    every_source: Regimes = ["k16"]
    """Regimes (`full` or `k<number>`) in which every source prompt starts every target."""
    chosen_source: Regimes = ["full"]
    """Regimes in which only the chosen source prompt does (`few_shot.choose_by`)."""

    @model_validator(mode="after")
    def _regimes_are_known(self) -> "TransferSettings":
        regimes = self.every_source + self.chosen_source
        refuse_repeats(regimes, "every_source and chosen_source")
        for regime in regimes:
            check_regime(regime)
        for key, found in (("every_source", self.every_source), ("chosen_source", self.chosen_source)):
            if SOURCE in found:
                raise ValueError(f"{key} contains {SOURCE}, the training of source prompts; use {FULL} or k<number>")
        return self


class RateStudySettings(Section):
    """More learning rates than `training` has, for the table `learning_rates` alone: how much scores depend on them."""

    tasks: Tasks = []
    """Tasks on which they are tried, with all data."""
    learning_rates: LearningRates = {}
    """For each method and parameter group the rates to try, as in `training`."""

    @model_validator(mode="after")
    def _is_whole(self) -> "RateStudySettings":
        refuse_repeats(self.tasks, "tasks")
        if bool(self.tasks) != bool(self.learning_rates):
            raise ValueError("rate_study needs both tasks and learning_rates, or neither")
        return self


def refuse_repeats(values: Sequence, key: str = "") -> None:
    """Raise ValueError for a value that is listed more than once; `key` names the setting where pydantic does not."""
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ValueError(f"{key}: {value} is listed more than once" if key else f"{value} is listed more than once")


def check_names(names: Sequence[str], look_up: Callable[[str], object], key: str = "") -> None:
    """Refuse a name that `look_up` does not know, and one that is listed twice; `key` as in `refuse_repeats`."""
    for name in names:
        look_up(name)
    refuse_repeats(names, key)


def check_folder(key: str, folder: str) -> None:
    """Raise ValueError for a folder that cannot stand in the workflow's files and commands; `key` is its setting."""
    shown = shortened(ascii(folder), 100)
    if found := [character for character in folder if character in _FORBIDDEN or not character.isprintable()]:
        raise ValueError(f"{key} {shown} contains {found[0]!a}; choose a folder without that character")
    if folder != folder.strip() or folder.startswith(("-", "~")):
        raise ValueError(
            f"{key} {shown} begins or ends with a blank, or begins with - or ~; write ./ or the whole path"
        )
    if len(folder.encode()) > 1000 or any(len(part.encode()) > 255 for part in folder.split("/")):
        raise ValueError(f"{key} {shown} is too long for a path; choose at most 255 bytes a folder and 1,000 in all")
