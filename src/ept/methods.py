"""The methods by name. A new method is one file and one line here. No torch: the configuration imports this."""

from dataclasses import dataclass
from typing import Literal

from ept.errors import InputError

Rates = dict[str, list[float]]

# Full data: the grids of the DePT paper (Shi & Lipani 2024, appendix on hyper-parameters), which EPT's paper shares.
_PROMPT = [0.3, 0.4, 0.5]
_LOW_RANK = [1e-4, 5e-4, 5e-3]


@dataclass(frozen=True)
class Method:
    """One row of a table.

    `module` is "module:class" of its PromptPack; `source` says whether a run may or must start from other tasks'
    prompts, which `source_method` has trained; `rates` are the learning rates to try on full data by group of
    parameters, `few_shot_rates` those with k examples (one combination: our choice).
    With `packed` all runs of a pack train in one pass over the frozen backbone; a method that changes the backbone's
    weights trains them one after the other. `sources` says what a run starts from: the `best` of the source prompts, a
    `mixture` of all of them, or one prompt `distilled` from all of them.
    """

    name: str
    title: str
    module: str
    source: Literal["none", "optional", "required"]
    source_method: str
    rates: Rates
    few_shot_rates: Rates
    packed: bool = True
    sources: Literal["best", "mixture", "distilled"] = "best"

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of parameters with a learning rate each."""
        return tuple(self.rates)


_PROMPT_RATES = ({"prompt": _PROMPT}, {"prompt": [0.3]})
_PAIR_RATES = ({"prompt": _PROMPT, "low_rank": _LOW_RANK}, {"prompt": [0.3], "low_rank": [5e-3]})
# That MPT has two speeds is known, the task's rates are our choice.
_MPT_RATES = ({"prompt": _PROMPT, "task": [5e-3, 5e-2, 0.4]}, {"prompt": [0.3], "task": [5e-3]})
# ATTEMPT's released configuration trains everything with 0.3.
_ATTEMPT_RATES = ({"prompt": _PROMPT, "attention": [0.3]}, {"prompt": [0.3], "attention": [0.3]})

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("pt", "PT", "ept.prompts.plain:PlainPrompt", "none", "pt", *_PROMPT_RATES),
        Method("spot", "SPoT", "ept.prompts.plain:PlainPrompt", "required", "pt", *_PROMPT_RATES),
        Method(
            "attempt",
            "ATTEMPT",
            "ept.prompts.mixture:MixturePrompt",
            "required",
            "pt",
            *_ATTEMPT_RATES,
            sources="mixture",
        ),
        Method(
            "mpt", "MPT", "ept.prompts.multitask:MultitaskPrompt", "required", "pt", *_MPT_RATES, sources="distilled"
        ),
        Method("dept", "DePT", "ept.prompts.decomposed:DecomposedPrompt", "optional", "dept", *_PAIR_RATES),
        Method("ept", "EPT", "ept.prompts.ept:EptPrompt", "optional", "ept", *_PAIR_RATES),
    )
}


def get_method(name: str) -> Method:
    """The method of that name. Raises InputError with the known names."""
    if name not in METHODS:
        raise InputError(f"unknown method {name!r}; known are {', '.join(METHODS)}")
    return METHODS[name]
