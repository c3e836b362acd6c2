"""Options of the methods that train inside the backbone. No torch: the configuration imports this."""

from dataclasses import dataclass, fields

from ept.errors import InputError


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
    for name in (field.name for field in fields(settings)):
        value = getattr(settings, name)
        if name != "lst_skip_every" and value < 1:
            raise InputError(f"baselines.{name} is {value}; it must be at least 1")
    if settings.lst_skip_every < 0 or settings.lst_skip_every == 1:
        raise InputError(
            f"baselines.lst_skip_every is {settings.lst_skip_every}; use 0 to skip no layer, or 2 or more "
            "(1 would leave no side layer)"
        )
