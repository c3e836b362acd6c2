"""Attach a weight-side method to a backbone by its name."""

import importlib

from ept.backbones.backbone import Backbone
from ept.baselines.base import WeightPack
from ept.baselines.settings import BaselineSettings, check_baselines
from ept.methods import get_method


def build_weights(method: str, backbone: Backbone, settings: BaselineSettings, seed: int) -> WeightPack:
    """The method's one run at its start, attached to `backbone`. Raises InputError for options that do not fit it."""
    module, name = get_method(method).module.split(":")
    check_baselines(settings)
    return getattr(importlib.import_module(module), name)(backbone, settings, seed)
