"""Settings of prompts, methods and training as plain dataclasses, each with its allowed range.

The configuration checks the ranges with pydantic and documents them in config/README.md; code that takes settings
without a configuration checks them with `check_ranges`. No range is open: no setting can ask for unbounded memory.
"""

import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Len, Lt, MaxLen

from ept.errors import InputError, shortened

# Read by pydantic: unknown keys are refused, and the text under a field explains it.
PYDANTIC = {"extra": "forbid", "use_attribute_docstrings": True}

Steps = Annotated[int, Ge(1), Le(100_000_000)]
Examples = Annotated[int, Ge(1), Le(10_000_000)]
Tokens = Annotated[int, Ge(1), Le(10_000)]
Pieces = Annotated[int, Ge(1), Le(1_000_000)]
Rank = Annotated[int, Ge(1), Le(10_000)]
Spaces = Annotated[int, Ge(1), Le(64)]
# Learning rates to try by parameter group, and that by method.
Rates = dict[str, Annotated[list[Annotated[float, Gt(0), Le(1000)]], Len(1, 32)]]
LearningRates = dict[str, Rates]
# Numbers of few-shot examples.
MOST_EXAMPLES = 1_000_000
Shots = Annotated[int, Ge(1), Le(MOST_EXAMPLES)]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How one run is trained and how its checkpoint is selected (protocol: docs/training-protocol.md)."""

    __pydantic_config__ = PYDANTIC

    batch_size: Annotated[int, Ge(1), Le(65_536)] = 16
    """Examples a run sees in one step; with fewer training examples than this, all of them."""
    steps: Steps | Literal["auto"] = "auto"
    """Optimizer steps; `auto` means 30,000 below 100,000 published training examples, else 300,000."""
    warmup_steps: Annotated[int, Ge(0), Le(100_000_000)] = 500
    """Steps over which the learning rates rise linearly from 0; they then fall linearly to 0. Fewer than `steps`."""
    evaluate_every: Steps = 1000
    """Steps between evaluations on the validation split; the best one gives the checkpoint."""
    validation_rows: Examples = 1000
    """At most this many validation rows, drawn once with a fixed seed, select the checkpoint."""
    patience: Annotated[int, Ge(0), Le(1_000_000)] = 0
    """Validations without a better score after which a run stops; 0 means never."""
    halving: Annotated[int, Ge(0), Le(16)] = 0
    """How many times the worse half of the learning-rate combinations is dropped: after 1/2, 1/4, ... of the steps; 0
    means that all are trained to the end."""
    runs_per_pass: Annotated[int, Ge(1), Le(10_000)] | Literal["auto"] = "auto"  # noqa: S105
    """How many runs share one forward and backward pass; `auto` is measured once per machine and backbone. No gradient
    depends on it except for rounding. With a number, two clones on one machine give the same bits; `auto` may measure
    a different number in each."""
    clip_norm: Annotated[float, Gt(0), Le(1_000_000)] = 1.0
    """Largest gradient norm of one run's parameter group; larger gradients are scaled down to it."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Dropout inside the backbone while a method trains weights in it. Methods that train prompts, whose runs share a
    pass, have none."""
    include_start: bool = False
    """Whether the state before the first step is a checkpoint to choose from, with its own validation score."""
    learning_rates: LearningRates = field(default_factory=dict)
    """For each method and parameter group the rates to try; every combination is trained with every seed and
    the one with the best mean validation score is reported. A method that is left out keeps its default."""


@dataclass(frozen=True, kw_only=True)
class FewShotSettings(TrainingSettings):
    """Few-shot training with k examples in all, balanced over the classes."""

    k: Annotated[list[Shots], MaxLen(16)] = field(default_factory=lambda: [4, 16, 32])
    """Numbers of training examples in all (not per class); each gives a table `fewshot_k<k>.csv`. None: no few-shot
    runs."""
    initialize_from: Annotated[list[Literal["scratch", "source"]], Len(1, 2)] = field(
        default_factory=lambda: ["source"]
    )
    """Where prompts start: `scratch`, a `source` prompt, or both; left out, from scratch where `tasks.source` names no
    task. PT always starts from scratch, SPoT never."""
    source: str = "auto"
    """The source task whose prompt is the start; `auto` takes the one that fits the k examples best. ATTEMPT and
    MPT use all source tasks."""
    choose_by: Literal["loss", "similarity"] = "loss"
    """How `auto` takes it: by the `loss`, or by the `similarity` of source prompts to a prompt that is trained briefly
    on the k examples (SPoT)."""
    probe_steps: Annotated[int, Ge(1), Le(100_000)] = 50
    """Steps of that brief training."""
    validation_labels: Literal["all", "k"] = "all"
    """Validation labels that select the checkpoint: `all` (up to `validation_rows`) or only `k` of them."""
    steps: Steps = 300
    """Optimizer steps."""
    warmup_steps: Annotated[int, Ge(0), Le(100_000_000)] = 30
    """Steps over which the learning rates rise linearly from 0; they then fall linearly to 0. Fewer than `steps`."""
    evaluate_every: Steps = 50
    """Steps between evaluations on the validation split; the best one gives the checkpoint."""
    learning_rates: LearningRates = field(default_factory=dict)
    """For each method and parameter group the rates to try. A method that is left out takes those of
    `training.learning_rates`, else its own few-shot default."""


@dataclass(frozen=True, kw_only=True)
class MptSettings:
    """MPT's source training, which distils one prompt from the source prompts of PT."""

    __pydantic_config__ = PYDANTIC

    distillation_weight: Annotated[float, Ge(0), Le(1_000_000)] = 1.0
    """Weight of both distillation losses (logits, hidden states) next to the task loss; 0 means plain multitask
    training. The value is our choice [ours]."""


def steps_for(settings: TrainingSettings, published_training_rows: int) -> int:
    """The number of steps, with `auto` resolved by the size of the published training split (EPT's paper)."""
    if settings.steps != "auto":
        return settings.steps
    return 30_000 if published_training_rows < 100_000 else 300_000


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """Shape and start of the prompts of all methods."""

    __pydantic_config__ = PYDANTIC

    length: Tokens = 100
    """Tokens of PT's prompt; length times hidden size is the parameter budget of DePT and EPT."""
    short_length: Tokens = 60
    """Tokens of the short prompt of DePT and EPT; below `length`. The rest of the budget goes to the low-rank
    pair."""
    rank: Rank | Literal["auto"] = "auto"
    """Rank of the pair A, B of DePT and EPT; `auto` uses up the budget (60 short tokens of hidden size 768:
    30), and a larger number is refused. With `ept.budget: matched` EPT's rank is lowered further until its
    budget holds."""
    reference_length: Pieces = 256
    """Source length in pieces for which the budget is computed, whatever a task's own length is: one rank for all
    tasks."""
    init: Literal["vocabulary", "text", "labels", "uniform"] = "vocabulary"
    """Start of the prompt: embeddings of random pieces of the vocabulary; of the pieces of `init_text`,
    repeated; of the task's class labels, filled up from the vocabulary; or uniform noise as large as the
    embeddings."""
    init_text: Annotated[str, MaxLen(10_000)] = ""
    """The text of `init: text`; allowed only there."""


@dataclass(frozen=True, kw_only=True)
class EptSettings:
    """EPT's prompt fusion and multi-space projection; what the options mean is our reading of the paper."""

    __pydantic_config__ = PYDANTIC

    fusion: Literal["dot", "projected", "none"] = "dot"
    """Attention of the short prompt to the low-rank product: without weights of its own except a gain
    (`dot`), with low-rank query, key and value maps (`projected`), or left out (`none`)."""
    fusion_rank: Rank = 4
    """Rank of the query, key and value maps of `fusion: projected`."""
    projection: Literal["low_rank", "elementwise", "full", "none"] = "low_rank"
    """Map of the short prompt into each further space: of rank `space_rank`, one factor per hidden unit
    (`elementwise`), of full rank, or left out (`none`)."""
    spaces: Spaces = 4
    """Number of spaces; the first is the short prompt itself, so 1 means no projection and no gate."""
    space_rank: Rank = 1
    """Rank of each map of `projection: low_rank`."""
    gate: Literal["token", "prompt"] = "token"
    """Whether each token of the short prompt weighs the spaces for itself or all tokens share the weights."""
    budget: Literal["decomposition", "matched"] = "decomposition"
    """What stays within length times hidden size: short prompt, A and B, which is all that inference needs
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

    __pydantic_config__ = PYDANTIC

    target_init: Literal["source", "vocabulary"] = "source"
    """Start of the target prompt: the first source prompt that is not the target's own (`source`, as released), or as
    `prompt.init` says (`vocabulary`)."""
    train_norm: bool = False
    """Whether the layer norm of the attention network is trained too; the released code freezes it, the parameter count
    in the paper (232K on T5-base) includes it."""


@dataclass(frozen=True, kw_only=True)
class AdeptSettings:
    """ADePT: a short prompt, and a small network that changes every embedding of the text."""

    __pydantic_config__ = PYDANTIC

    rank: Annotated[int, Ge(1), Le(65536)] | Literal["auto"] = "auto"
    """Width of the network; `auto` is the largest that fits into the budget of `prompt.length` tokens (60 short tokens
    of hidden size 768: 19)."""


@dataclass(frozen=True, kw_only=True)
class UlptSettings:
    """ULPT: a prompt in a few dimensions, mapped up by a frozen random matrix."""

    __pydantic_config__ = PYDANTIC

    rank: Annotated[int, Ge(1), Le(65536)] = 64
    """Dimensions of a prompt token (the paper has 2, 16, 64 and 256)."""


@dataclass(frozen=True, kw_only=True)
class DptSettings:
    """DPT: a prompt that is a product of two matrices."""

    __pydantic_config__ = PYDANTIC

    rank: Annotated[int, Ge(1), Le(65536)] = 10
    """Rank of the product."""


@dataclass(frozen=True, kw_only=True)
class AcceptSettings:
    """ACCEPT: short prompt and added rows are weighted sums of codewords."""

    __pydantic_config__ = PYDANTIC

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

    __pydantic_config__ = PYDANTIC

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

    __pydantic_config__ = PYDANTIC

    adapter_reduction: Rank = 32
    """Adapter and AdapterDrop: hidden size divided by the size of the bottleneck (32: released code of ATTEMPT)."""
    adapterdrop_layers: Rank = 5
    """AdapterDrop: layers at the bottom of each stack that get no adapters (5: Rücklé et al. 2021); below the number
    of layers of the smaller stack."""
    lora_rank: Rank = 32
    """LoRA: rank of the updates of q and v (32: released code of LST)."""
    lora_alpha: Rank = 32
    """LoRA: the updates are multiplied by alpha / rank (alpha equal to the first rank tried: Hu et al. 2022, 4.1)."""
    lst_reduction: Rank = 8
    """LST: the backbone's sizes divided by those of the side network (8: Sung et al. 2022)."""
    lst_skip_every: Literal[0] | Annotated[int, Ge(2), Le(10_000)] = 4
    """LST: of every so many layers of a stack the first has no side layer (4: on T5-base layers 0, 4 and 8 of both
    stacks, Sung et al. 2022); 0 gives every layer one."""


def check_ranges(section: str, settings: Any) -> None:
    """Raise InputError where a setting is outside its declared range; `section` names the settings in the sentence."""
    hints = get_type_hints(type(settings), include_extras=True)
    for setting in fields(settings):
        value, hint = getattr(settings, setting.name), hints[setting.name]
        alternatives = [hint] if get_origin(hint) in (Annotated, Literal) else [*get_args(hint)] or [hint]
        if not any(_allows(alternative, value) for alternative in alternatives):
            allowed = " or ".join(map(_in_words, alternatives))
            raise InputError(f"{section}.{setting.name} is {shortened(repr(value), 60)}; it must be {allowed}")


_LIMITS = {Ge: "at least", Gt: "above", Le: "at most", Lt: "below"}


def _limits(hint: Any) -> Iterator[tuple[str, Any, str]]:
    """The limits of an annotated number: the operator's name, the bound, and the words for it."""
    for limit in getattr(hint, "__metadata__", ()):
        if type(limit) in _LIMITS:
            name = type(limit).__name__.lower()
            yield name, getattr(limit, name), _LIMITS[type(limit)]


def _allows(hint: Any, value: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if not isinstance(value, int | float):
        return True
    return all(getattr(operator, name)(value, bound) for name, bound, _ in _limits(hint))


def _in_words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return ", ".join(map(str, get_args(hint)))
    return " and ".join(f"{words} {bound:,}" for _, bound, words in _limits(hint))


def check_budget(prompt: PromptSettings, ept: EptSettings) -> None:
    """Raise InputError for settings of prompts that are impossible with any backbone."""
    check_ranges("prompt", prompt)
    check_ranges("ept", ept)
    if prompt.short_length >= prompt.length:
        raise InputError(
            f"prompt.short_length is {prompt.short_length}, which leaves no room for the low-rank pair of "
            f"DePT and EPT; choose it below prompt.length, {prompt.length}"
        )
    if prompt.init == "text" and not prompt.init_text.strip():
        raise InputError("prompt.init is text, but prompt.init_text is empty; write the text in prompt.init_text")
    if prompt.init != "text" and prompt.init_text:
        raise InputError(f"prompt.init_text is set, but prompt.init is {prompt.init}; it needs prompt.init text")
    if ept.budget == "matched" and ept.projection == "full" and ept.has_projection:
        raise InputError(
            "ept.budget matched cannot be met with ept.projection full, whose maps alone exceed it; use "
            "budget decomposition or projection low_rank"
        )


FULL, SOURCE = "full", "source"
# Stands for the task of a prompt that several source tasks train together.
MULTITASK = "multitask"


def check_regime(regime: str) -> None:
    """Raise InputError unless `regime` is full, source or k<number>."""
    few = re.fullmatch("k([1-9][0-9]{0,6})", regime)
    if regime not in (FULL, SOURCE) and not (few and int(few[1]) <= MOST_EXAMPLES):
        raise InputError(
            f"unknown regime {shortened(repr(regime), 60)}; use full, source or k<number of examples>, at most "
            f"k{MOST_EXAMPLES}"
        )
