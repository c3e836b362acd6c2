"""What of the configuration a pack's result depends on: the sections of its settings, whose digest is its hash."""

import dataclasses
from typing import Any

from ept.ablation import Variant
from ept.config import Configuration
from ept.config_sections import BackboneSettings
from ept.methods import METHODS, Rates, get_method
from ept.training.settings import FewShotSettings


def backbone_settings(backbone: BackboneSettings, identity: str) -> dict[str, str]:
    """Which weights a pack reads, and their precision."""
    settings = {"name": backbone.name, "identity": identity, "dtype": backbone.dtype}
    # Only where there is some: hashes of results without it stay what they are.
    return settings if backbone.quantization == "none" else settings | {"quantization": backbone.quantization}


def training_settings(
    config: Configuration, method: str, regime: str, learning_rates: Rates | None = None
) -> dict[str, Any]:
    """How a pack is trained; `learning_rates` take the place of the configuration's grid."""
    section = config.training_settings(regime)
    values = dataclasses.asdict(section)
    values["learning_rates"] = learning_rates or config.learning_rates(section, method)
    if isinstance(section, FewShotSettings):
        for key in ("k", "initialise_from", "source", "choose_by", "probe_steps"):
            del values[key]
        values["k"] = int(regime.removeprefix("k"))
    return values


def method_settings(config: Configuration, method: str, variant: Variant) -> dict[str, dict[str, Any]]:
    """The sections of the configuration that the method reads, with the keys that it reads."""
    sections = {"prompt": variant.prompt, "ept": variant.ept, "baselines": config.baselines}
    options: dict[str, dict[str, Any]] = {}
    for option in get_method(method).options:
        section, _, key = option.partition(".")
        values = dataclasses.asdict(sections[section])
        options.setdefault(section, {}).update({key: values[key]} if key else values)
    return options


def choice_settings(few_shot: FewShotSettings, method: str, initialise_from: str) -> dict[str, Any]:
    """How the source is chosen, where that is not the protocol's way."""
    if initialise_from == "scratch" or METHODS[method].sources != "best" or few_shot.choose_by == "loss":
        return {}
    return {"source_choice": {"choose_by": few_shot.choose_by, "probe_steps": few_shot.probe_steps}}
