"""Settings of training, full-data and few-shot. Plain dataclasses: the configuration checks them with pydantic."""

import re
from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

from annotated_types import Ge, Le

from ept.errors import InputError

# Learning rates to try by parameter group, and that by method.
Rates = dict[str, list[float]]
LearningRates = dict[str, Rates]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How one run is trained and how its checkpoint is selected (protocol: docs/training-protocol.md)."""

    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}

    batch_size: int = 16
    """Examples a run sees in one step; with fewer training examples than this, all of them."""
    steps: int | Literal["auto"] = "auto"
    """Optimizer steps; `auto` means 30,000 below 100,000 published training examples, else 300,000."""
    warmup_steps: int = 500
    """Steps over which the learning rates rise linearly from 0; they then fall linearly to 0."""
    evaluate_every: int = 1000
    """Steps between evaluations on the validation split; the best one gives the checkpoint."""
    validation_rows: int = 1000
    """At most this many validation rows, drawn once with a fixed seed, select the checkpoint."""
    patience: int = 0
    """Validations without a better score after which a run stops; 0 means never."""
    halving: int = 0
    """How many times the worse half of the learning-rate combinations is dropped: after 1/2, 1/4, ... of the steps; 0
    means that all are trained to the end."""
    runs_per_pass: int | Literal["auto"] = "auto"
    """How many runs share one forward and backward pass; `auto` is measured once per machine and backbone. No gradient
    depends on it but for rounding. With a number two clones on one machine give the same bits; `auto` may measure
    another number in each."""
    clip_norm: float = 1.0
    """Largest gradient norm of one run's parameter group; larger gradients are scaled down to it."""
    learning_rates: LearningRates = field(default_factory=dict)
    """For each method and parameter group the rates to try; every combination is trained with every seed and
    the one with the best mean validation score is reported. A method that is left out keeps its default."""


@dataclass(frozen=True, kw_only=True)
class FewShotSettings(TrainingSettings):
    """Few-shot training with k examples in all, balanced over the classes."""

    k: list[int] = field(default_factory=lambda: [4, 16, 32])
    """Numbers of training examples in all (not per class); each gives a table `fewshot_k<k>.csv`."""
    initialize_from: list[Literal["scratch", "source"]] = field(default_factory=lambda: ["source"])
    """Where prompts start: `scratch`, a `source` prompt, or both. PT always starts from scratch, SPoT never."""
    source: str = "auto"
    """The source task whose prompt is the start; `auto` takes the one that fits the k examples best. ATTEMPT and
    MPT use all source tasks."""
    choose_by: Literal["loss", "similarity"] = "loss"
    """How `auto` takes it: by the `loss`, or by the `similarity` of source prompts to a prompt that is trained briefly
    on the k examples (SPoT)."""
    probe_steps: int = 50
    """Steps of that brief training."""
    validation_labels: Literal["all", "k"] = "all"
    """Validation labels that select the checkpoint: `all` (up to `validation_rows`) or only `k` of them."""
    steps: int = 300
    """Optimizer steps."""
    warmup_steps: int = 30
    """Steps over which the learning rates rise linearly from 0; they then fall linearly to 0."""
    evaluate_every: int = 50
    """Steps between evaluations on the validation split; the best one gives the checkpoint."""
    learning_rates: LearningRates = field(default_factory=dict)
    """For each method and parameter group the rates to try. A method that is left out takes those of
    `training.learning_rates`, else its own few-shot default."""


@dataclass(frozen=True, kw_only=True)
class MptSettings:
    """MPT's source training, which distils one prompt from the source prompts of PT."""

    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}

    distillation_weight: float = 1.0
    """Weight of both distillation losses (logits, hidden states) beside the task loss; 0 means plain multitask
    training. The value is our choice."""


def steps_for(settings: TrainingSettings, published_training_rows: int) -> int:
    """The number of steps, with `auto` resolved by the size of the published training split (EPT's paper)."""
    if settings.steps != "auto":
        return settings.steps
    return 30_000 if published_training_rows < 100_000 else 300_000


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """Shape and start of the prompts of all methods."""

    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}

    length: int = 100
    """Tokens of PT's prompt; length times hidden size is the parameter budget of DePT and EPT."""
    short_length: int = 60
    """Tokens of the short prompt of DePT and EPT; below `length`. The rest of the budget goes to the low-rank
    pair."""
    rank: int | Literal["auto"] = "auto"
    """Rank of the pair A, B of DePT and EPT; `auto` uses up the budget (60 short tokens of hidden size 768:
    30), and a larger number is refused. With `ept.budget: matched` EPT's rank is lowered further until its
    budget holds."""
    reference_length: int = 256
    """Source length in pieces with which the budget is reckoned, whatever a task's own is: one rank for all
    tasks."""
    init: Literal["vocabulary", "text", "labels", "uniform"] = "vocabulary"
    """Start of the prompt: embeddings of random pieces of the vocabulary; of the pieces of `init_text`,
    repeated; of the task's class labels, filled up from the vocabulary; or uniform noise as large as the
    embeddings."""
    init_text: str = ""
    """The text of `init: text`; allowed only there."""


@dataclass(frozen=True, kw_only=True)
class EptSettings:
    """EPT's prompt fusion and multi-space projection; what the options mean is our reading of the paper."""

    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}

    fusion: Literal["dot", "projected", "none"] = "dot"
    """Attention of the short prompt to the low-rank product: without weights of its own except a gain
    (`dot`), with low-rank query, key and value maps (`projected`), or left out (`none`)."""
    fusion_rank: int = 4
    """Rank of the query, key and value maps of `fusion: projected`."""
    projection: Literal["low_rank", "elementwise", "full", "none"] = "low_rank"
    """Map of the short prompt into each further space: of rank `space_rank`, one factor per hidden unit
    (`elementwise`), of full rank, or left out (`none`)."""
    spaces: int = 4
    """Number of spaces; the first is the short prompt itself, so 1 means no projection and no gate."""
    space_rank: int = 1
    """Rank of each map of `projection: low_rank`."""
    gate: Literal["token", "prompt"] = "token"
    """Whether each token of the short prompt weighs the spaces for itself or all tokens share the weights."""
    budget: Literal["decomposition", "matched"] = "decomposition"
    """What stays within length times hidden size: short prompt, A and B, which is all that use needs
    (`decomposition`), or everything that is trained (`matched`, which lowers the rank)."""
    fusion_context: Literal["reached", "all", "factors", "joint"] = "reached"
    """What the short prompt attends to: the rows of the low-rank product that training texts reach (`reached`), all of
    its rows (`all`), the rows of B (`factors`), or the reached rows and the short prompt itself (`joint`)."""
    fusion_difference: bool = False
    """Whether the short prompt is subtracted from what it attended to, before it is added."""
    decomposition: Literal["product", "svd"] = "product"
    """Start of A and B: random A and B = 0 as in DePT (`product`), or A = 0 and B from the singular value decomposition
    of a prompt of `prompt.length` tokens (`svd`)."""

    @property
    def has_projection(self) -> bool:
        """Whether there is a second space and so a gate."""
        return self.projection != "none" and self.spaces > 1


@dataclass(frozen=True, kw_only=True)
class AttemptSettings:
    """ATTEMPT: a mixture of source prompts."""

    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}

    target_init: Literal["source", "vocabulary"] = "source"
    """Start of the target prompt: the first source prompt that is not the target's own (`source`, as released), or as
    `prompt.init` says (`vocabulary`)."""
    train_norm: bool = False
    """Whether the layer norm of the attention network is trained too; the released code freezes it, the parameter count
    in the paper (232K on T5-base) includes it."""


@dataclass(frozen=True, kw_only=True)
class AdeptSettings:
    """ADePT: a short prompt, and a small network that changes every embedding of the text."""

    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}

    rank: Annotated[int, Ge(1), Le(65536)] | Literal["auto"] = "auto"
    """Width of the network; `auto` is the largest that fits into the budget of `prompt.length` tokens (60 short tokens
    of hidden size 768: 19)."""


@dataclass(frozen=True, kw_only=True)
class UlptSettings:
    """ULPT: a prompt in a few dimensions, mapped up by a frozen random matrix."""

    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}

    rank: Annotated[int, Ge(1), Le(65536)] = 64
    """Dimensions of a prompt token (the paper has 2, 16, 64 and 256)."""


@dataclass(frozen=True, kw_only=True)
class DptSettings:
    """DPT: a prompt that is a product of two matrices."""

    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}

    rank: Annotated[int, Ge(1), Le(65536)] = 10
    """Rank of the product."""


@dataclass(frozen=True, kw_only=True)
class AcceptSettings:
    """ACCEPT: short prompt and added rows are weighted sums of codewords."""

    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}

    word_length: Annotated[int, Ge(1), Le(65536)] = 32
    """Hidden units that one codebook of the short prompt covers; where it is larger than the hidden size, all."""
    words: Annotated[int, Ge(1), Le(65536)] = 20
    """Codewords in each codebook of the short prompt."""
    added_word_length: Annotated[int, Ge(1), Le(65536)] = 256
    """The same for the rows that are added to the text."""
    added_words: Annotated[int, Ge(1), Le(65536)] = 20
    """Codewords in each of their codebooks."""


@dataclass(frozen=True, kw_only=True)
class ResidualSettings:
    """Residual PT: a prompt that runs through a small network while it is trained."""

    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}

    bottleneck: Annotated[int, Ge(1), Le(65536)] = 800
    """Width of the network (800: released code)."""


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """The settings of prompt methods that have a section of their own, by the section's name."""

    attempt: AttemptSettings = AttemptSettings()
    adept: AdeptSettings = AdeptSettings()
    ulpt: UlptSettings = UlptSettings()
    dpt: DptSettings = DptSettings()
    accept: AcceptSettings = AcceptSettings()
    residual: ResidualSettings = ResidualSettings()


@dataclass(frozen=True, kw_only=True)
class BaselineSettings:
    """Adapter, AdapterDrop, LoRA and LST; fine-tuning and BitFit have no options."""

    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}

    adapter_reduction: int = 32
    """Adapter and AdapterDrop: hidden size divided by the size of the bottleneck (32: released code of ATTEMPT)."""
    adapterdrop_layers: int = 5
    """AdapterDrop: layers at the bottom of each stack that get no adapters (5: Rücklé et al. 2021); below the number
    of layers of the smaller stack."""
    lora_rank: int = 32
    """LoRA: rank of the updates of q and v (32: released code of LST)."""
    lora_alpha: int = 32
    """LoRA: the updates are multiplied by alpha / rank (alpha equal to the first rank tried: Hu et al. 2022, 4.1)."""
    lst_reduction: int = 8
    """LST: the backbone's sizes divided by those of the side network (8: Sung et al. 2022)."""
    lst_skip_every: int = 4
    """LST: of every so many layers of a stack the first has no side layer (4: on T5-base layers 0, 4 and 8 of both
    stacks, Sung et al. 2022); 0 gives every layer one."""


def check_baselines(settings: BaselineSettings) -> None:
    """Raise InputError for options that are impossible with any backbone."""
    for name in (option.name for option in fields(settings)):
        value = getattr(settings, name)
        if name != "lst_skip_every" and value < 1:
            raise InputError(f"baselines.{name} is {value}; it must be at least 1")
    if settings.lst_skip_every < 0 or settings.lst_skip_every == 1:
        raise InputError(
            f"baselines.lst_skip_every is {settings.lst_skip_every}; use 0 to skip no layer, or 2 or more "
            "(1 would leave no side layer)"
        )


FULL, SOURCE = "full", "source"
# Stands for the task of a prompt that several source tasks train together.
MULTITASK = "multitask"


def check_regime(regime: str) -> None:
    """Raise InputError unless it is full, source or k<number>."""
    if regime not in (FULL, SOURCE) and not re.fullmatch("k[1-9][0-9]*", regime):
        raise InputError(f"unknown regime {regime!r}; use full, source or k<number of examples>, for example k16")
