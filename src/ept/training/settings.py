"""Settings of training, full-data and few-shot. Plain dataclasses: the configuration checks them with pydantic."""

from dataclasses import dataclass, field
from typing import Literal

from ept.methods import METHODS, Rates

LearningRates = dict[str, Rates]

FULL_LEARNING_RATES: LearningRates = {name: method.rates for name, method in METHODS.items()}
FEW_SHOT_LEARNING_RATES: LearningRates = {name: method.few_shot_rates for name, method in METHODS.items()}


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How one run is trained and how its checkpoint is selected (protocol: docs/protocol.md)."""

    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}

    batch_size: int = 16
    """Examples a run sees in one step; with fewer training examples than this, all of them."""
    steps: int | Literal["auto"] = "auto"
    """Optimiser steps; `auto` means 30,000 below 100,000 published training examples, else 300,000."""
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
    pack: int | Literal["auto"] = "auto"
    """How many runs share one forward and backward pass; `auto` is measured once per machine and backbone. No gradient
    depends on it but for rounding. With a number two clones on one machine give the same bits; `auto` may measure
    another number in each."""
    clip_norm: float = 1.0
    """Largest gradient norm of one run's parameter group; larger gradients are scaled down to it."""
    learning_rates: LearningRates = field(default_factory=lambda: FULL_LEARNING_RATES)
    """For each method and parameter group the rates to try; every combination is trained with every seed and
    the one with the best mean validation score is reported. A method that is left out keeps its default."""


@dataclass(frozen=True, kw_only=True)
class FewShotSettings(TrainingSettings):
    """Few-shot training with k examples in all, balanced over the classes."""

    k: list[int] = field(default_factory=lambda: [4, 16, 32])
    """Numbers of training examples in all (not per class); each gives a table `fewshot_k<k>.csv`."""
    initialise_from: list[Literal["scratch", "source"]] = field(default_factory=lambda: ["source"])
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
    """Optimiser steps."""
    warmup_steps: int = 30
    """Steps over which the learning rates rise linearly from 0; they then fall linearly to 0."""
    evaluate_every: int = 50
    """Steps between evaluations on the validation split; the best one gives the checkpoint."""
    learning_rates: LearningRates = field(default_factory=lambda: FEW_SHOT_LEARNING_RATES)
    """For each method and parameter group the rates to try, as in `training`."""


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
