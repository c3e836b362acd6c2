"""Efficient prompt tuning: EPT, the methods it is compared with, and their prompts in use.

`Prompt` is a trained prompt, `Prompted` a frozen backbone that answers with prompts; `train` makes a prompt from rows
of your own, and `evaluate` scores one. Importing this package loads no torch: the names are loaded on first use.
"""

import importlib

# What the package is called where it is installed from; `ept` belongs to another project there.
DISTRIBUTION = "ept-prompt-tuning"

__all__ = ["Prompt", "Prompted", "__version__", "evaluate", "train"]

_HOMES = {
    "Prompt": "ept.api.prompt",
    "Prompted": "ept.api.prompted",
    "evaluate": "ept.api.evaluate",
    "train": "ept.api.train",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version(DISTRIBUTION)
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ept' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
