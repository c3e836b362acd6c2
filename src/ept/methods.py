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

    `module` is "module:class" of its PromptPack or WeightPack; `source` says whether a run may or must start from
    other tasks' prompts, which `source_method` has trained; `rates` are the learning rates to try on full data by
    group of parameters, `few_shot_rates` those with k examples (one combination: our choice).
    With `packed` all runs of a pack train in one pass over the frozen backbone (a PromptPack); a method that changes
    the backbone's weights trains them one after the other (a WeightPack). `options` are the sections, or section.key,
    of the configuration that it reads. With `float32` the backbone is loaded in float32 whatever `backbone.dtype` says:
    small changes of its weights or biases would be lost in bfloat16. `sources` says what a run starts from: the `best`
    of the source prompts, a `mixture` of all of them, or one prompt `distilled` from all of them. With
    `encoder_decoder` the backbone must be one.
    """

    name: str
    title: str
    module: str
    source: Literal["none", "optional", "required"]
    source_method: str
    rates: Rates
    few_shot_rates: Rates
    packed: bool = True
    options: tuple[str, ...] = ("prompt",)
    float32: bool = False
    sources: Literal["best", "mixture", "distilled"] = "best"
    encoder_decoder: bool = False

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


def _weights(
    name: str, title: str, module: str, rate: float, *options: str, float32: bool = False, encoder_decoder: bool = False
) -> Method:
    """A method that trains inside the backbone, from scratch, with one learning rate as published.

    3e-4 for fine-tuning, Adapter and BitFit (released code of ATTEMPT) and for LoRA, 3e-3 for LST (released code of
    LST). AdapterDrop as Adapter, and few-shot as with full data (our choice).
    """
    rates: Rates = {"weights": [rate]}
    keys = tuple(f"baselines.{option}" for option in options)
    where = f"ept.baselines.{module}"
    return Method(name, title, where, "none", name, rates, rates, False, keys, float32, encoder_decoder=encoder_decoder)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        _weights("fine_tuning", "Fine-tuning", "fine_tuning:FineTuning", 3e-4, float32=True),
        _weights("adapter", "Adapter", "adapter:Adapter", 3e-4, "adapter_reduction"),
        _weights("adapterdrop", "AdapterDrop", "adapter:AdapterDrop", 3e-4, "adapter_reduction", "adapterdrop_layers"),
        _weights("bitfit", "BitFit", "bitfit:BitFit", 3e-4, float32=True),
        _weights("lora", "LoRA", "lora:Lora", 3e-4, "lora_rank", "lora_alpha"),
        _weights("lst", "LST", "lst:LadderSideTuning", 3e-3, "lst_reduction", "lst_skip_every", encoder_decoder=True),
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
        Method("ept", "EPT", "ept.prompts.ept:EptPrompt", "optional", "ept", *_PAIR_RATES, options=("prompt", "ept")),
    )
}


def get_method(name: str) -> Method:
    """The method of that name. Raises InputError with the known names."""
    if name not in METHODS:
        raise InputError(f"unknown method {name!r}; known are {', '.join(METHODS)}")
    return METHODS[name]


def check_start(method: str, initialise_from: str) -> None:
    """Raise InputError for a start (scratch or source) that the method cannot have."""
    source = get_method(method).source
    if source == "none" and initialise_from == "source":
        instead = " or choose spot" if method == "pt" else ""
        raise InputError(f"{method} always starts from scratch; leave out --initialise-from source{instead}")
    if source == "required" and initialise_from == "scratch":
        raise InputError(f"{method} always starts from a source prompt; add --initialise-from source")
