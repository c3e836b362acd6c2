"""Checks of the configuration beyond types. They raise ValueError; the key stands before its sentence."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ept.backbones.families import family_of
from ept.errors import InputError
from ept.methods import METHODS, get_method
from ept.pack import FULL, SOURCE, check_regime
from ept.prompts.budget import decomposition_rank, ept_rank
from ept.training.settings import FewShotSettings, LearningRates, TrainingSettings

if TYPE_CHECKING:
    from ept.ablation import Variant
    from ept.config import Configuration
    from ept.config_sections import BackboneSettings


def refuse_repeats(values: Sequence) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value} stands there more than once")


def check_names(names: Sequence[str], look_up: Callable[[str], object]) -> None:
    """Refuse a name that `look_up` does not know, and one that stands there twice."""
    for name in names:
        look_up(name)
    refuse_repeats(names)


def check_backbone(backbone: "BackboneSettings", method: str) -> None:
    """Raise InputError for a method that trains what the quantisation freezes, or inside a backbone in parts."""
    if backbone.quantization != "none" and get_method(method).float32:
        raise InputError(
            f"backbone.quantization is {backbone.quantization}, but {method} trains a backbone in float32; set it to "
            f"none, or leave {method} out (lora trains beside a quantised backbone)"
        )
    if backbone.device_map == "auto" and not get_method(method).packed:
        raise InputError(
            f"backbone.device_map is auto, but {method} trains inside the backbone, which must then be on one device; "
            f"set it to one, or leave {method} out"
        )


def check_family(backbone: "BackboneSettings", model: dict, method: str) -> None:
    """Raise InputError for a method that the kind of backbone cannot have; `model` is its config.json."""
    if get_method(method).encoder_decoder and not family_of(model).encoder_decoder:
        raise InputError(
            f"methods names {method}, which needs a backbone with encoder and decoder, but {backbone.name} is a "
            "decoder-only model; remove it from methods"
        )


def check_rank(method: str, variant: "Variant", hidden_size: int) -> None:
    """Raise InputError for a rank or budget that cannot be, before anything is trained."""
    with variant.named_in_errors():
        if method == "dept":
            decomposition_rank(variant.prompt, hidden_size)
        elif method == "ept":
            ept_rank(variant.prompt, variant.ept, hidden_size)


def check_training(section: str, settings: TrainingSettings) -> None:
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
        if get_method(name).source == "none":
            starting = ", ".join(other for other, method in METHODS.items() if method.source != "none")
            raise ValueError(
                f"methods contains {name}, which starts from no source prompt; those that do are {starting}"
            )
    for regime in regimes:
        check_regime(regime)
        if regime == SOURCE:
            raise ValueError(f"{regime} is the training of the source prompts themselves; use {FULL} or k<number>")


def check_sources(config: "Configuration") -> None:
    transferred = [name for name in config.methods if METHODS[name].source == "required"]
    if "source" in config.few_shot.initialise_from:
        transferred += [name for name in config.methods if METHODS[name].source == "optional"]
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
                f"than {target} itself; add a source task, or take `source` out of few_shot.initialise_from and "
                f"{transferred[0]} out of transfer.methods"
            )
