"""The methods by name. A new method is one file in this folder and one record here.

No torch: the configuration and the workflow import this.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ept.backbones.shape import Shape
from ept.config.settings import BaselineSettings, EptSettings, MethodSettings, PromptSettings, Rates
from ept.errors import InputError, unknown
from ept.methods.budget import adept_rank, codeword_length, decomposition_rank, ept_rank, extra_parameters


@dataclass(frozen=True)
class Sizes:
    """The sizes that determine the number of trained parameters.

    `source_length` is the task's longest source text in pieces (rows of DePT's A).
    """

    backbone: Shape
    prompt: PromptSettings
    ept: EptSettings
    baselines: BaselineSettings
    source_length: int
    methods: MethodSettings = field(default_factory=MethodSettings)


@dataclass(frozen=True, kw_only=True)
class Method:
    """The record of a method: what tables, figures, costs and the configuration need to know without torch."""

    name: str
    """In configurations and paths."""
    title: str
    """In tables and figures."""
    module: str
    """"module:class" of its PromptModule or WeightModule."""
    rates: Rates
    """Learning rates to try on full data, by parameter group."""
    few_shot_rates: Rates | None = None
    """The same with k examples; None for those of full data."""
    parameters: Callable[[Sizes], int] | None = None
    """How many numbers one run trains. A test compares it with the tensors. None: `count_parameters` builds a prompt
    module and counts."""
    prompt_tokens: Literal["length", "short_length", "none"] = "length"
    """How many positions come before the text: `prompt.length`, `prompt.short_length`, or none."""
    rank: Callable[[PromptSettings, EptSettings, MethodSettings, int], int] | None = None
    """The rank (or another size) that follows from the settings and a hidden size; raises InputError where they do not
    fit each other. It is called before anything is trained."""
    color: str = "#999999"
    marker: str = "p"
    """Color and marker in every figure."""
    start: Literal["never", "optional", "always"] = "never"
    """Whether a run starts from the trained prompts of source tasks."""
    start_from: Literal["best", "mixture", "distilled"] = "best"
    """What such a run starts from: the best source prompt, a mixture of all, or one prompt distilled from all."""
    source_method: str = ""
    """The method that trains these source prompts; empty for the method itself."""
    packed: bool = True
    """Whether all runs of a pack train in one pass over the frozen backbone (a PromptModule). The runs of a method that
    changes the backbone (a WeightModule) train one after the other."""
    options: tuple[str, ...] = ("prompt",)
    """The sections of the configuration, or section.key, that it reads."""
    overrides: Mapping[str, str] = field(default_factory=dict)
    """Settings, as section.key of `prompt` or `ept`, that this method fixes whatever the configuration says."""
    float32: bool = False
    """Whether the backbone is loaded in float32 whatever `backbone.dtype` says: small changes of its weights or biases
    would be lost in bfloat16."""
    encoder_decoder: bool = False
    """Whether the backbone must have an encoder and a decoder."""
    input_gradient: bool = True
    """Whether a gradient reaches the input while it trains, without which a projection of images cannot be trained."""
    effort: float = 1.0
    """Cost of a training step relative to prompt tuning, for estimates."""
    launches: int = 0
    """Kernel launches of one training step on a T5 of 12 + 12 layers, as counted, for estimates of time on a GPU; 0:
    not counted."""
    adapter_format: str = ""
    """The adapter format of another program whose prompts are this method's (ept.exchange)."""
    code: str = ""
    """Digest of the plugin that defines the method, set when it is registered; it enters the hashes."""

    def __post_init__(self) -> None:
        if self.few_shot_rates is None:
            object.__setattr__(self, "few_shot_rates", self.rates)
        if not self.source_method:
            object.__setattr__(self, "source_method", self.name)

    @property
    def groups(self) -> tuple[str, ...]:
        """The parameter groups, each with a learning rate of its own."""
        return tuple(self.rates)

    def fixed(self, prompt: PromptSettings, ept: EptSettings) -> tuple[PromptSettings, EptSettings]:
        """The settings with this method's `overrides`."""
        sections: dict[str, Any] = {"prompt": prompt, "ept": ept}
        for option, value in self.overrides.items():
            section, _, key = option.partition(".")
            sections[section] = replace(sections[section], **{key: value})
        return sections["prompt"], sections["ept"]

    def tokens(self, prompt: PromptSettings) -> int:
        """How many positions come before the text."""
        return 0 if self.prompt_tokens == "none" else getattr(prompt, self.prompt_tokens)


# Full data: the grids of the DePT paper (Shi & Lipani 2024, appendix on hyper-parameters), which EPT's paper shares.
_PROMPT = [0.3, 0.4, 0.5]
_PAIR: Rates = {"prompt": _PROMPT, "low_rank": [1e-4, 5e-4, 5e-3]}
# With k examples one combination: our choice.
_FEW_SHOT_PAIR: Rates = {"prompt": [0.3], "low_rank": [5e-3]}


def _prompt(sizes: Sizes) -> int:
    return sizes.prompt.length * sizes.backbone.hidden_size


def _attempt(sizes: Sizes) -> int:
    """The target prompt, the attention network's two maps (width 100) and, where it is trained, its layer norm."""
    norm = 2 if sizes.methods.attempt.train_norm else 0
    return _prompt(sizes) + (2 * 100 + norm) * sizes.backbone.hidden_size


def _mpt(sizes: Sizes) -> int:
    return _prompt(sizes) + sizes.prompt.length + sizes.backbone.hidden_size


def _decomposed(sizes: Sizes, rank: int) -> int:
    hidden = sizes.backbone.hidden_size
    return sizes.prompt.short_length * hidden + (sizes.source_length + hidden) * rank


def _dept(sizes: Sizes) -> int:
    return _decomposed(sizes, decomposition_rank(sizes.prompt, sizes.backbone.hidden_size))


def _ept(sizes: Sizes) -> int:
    hidden = sizes.backbone.hidden_size
    return _decomposed(sizes, ept_rank(sizes.prompt, sizes.ept, hidden)) + extra_parameters(sizes.ept, hidden)


def _adept(sizes: Sizes) -> int:
    """The short prompt, and a network d -> r -> d with biases."""
    hidden = sizes.backbone.hidden_size
    rank = adept_rank(sizes.prompt, sizes.methods.adept, hidden)
    return sizes.prompt.short_length * hidden + (2 * hidden + 1) * rank + hidden


def _ulpt(sizes: Sizes) -> int:
    return sizes.prompt.length * sizes.methods.ulpt.rank + 2 * sizes.backbone.hidden_size


def _dpt(sizes: Sizes) -> int:
    return (sizes.prompt.length + sizes.backbone.hidden_size) * sizes.methods.dpt.rank


def _accept(sizes: Sizes) -> int:
    """Weights of each row for each codebook's words, and the codebooks: of the short prompt and of the added rows."""
    hidden, options = sizes.backbone.hidden_size, sizes.methods.accept
    parts = hidden // min(options.word_length, hidden)
    added_parts = hidden // min(options.added_word_length, hidden)
    short = (sizes.prompt.short_length * parts + hidden) * options.words
    return short + (sizes.source_length * added_parts + hidden) * options.added_words


def _accept_lengths(prompt: PromptSettings, ept: EptSettings, methods: MethodSettings, hidden_size: int) -> int:
    added = codeword_length("accept.added_word_length", methods.accept.added_word_length, hidden_size)
    return min(added, codeword_length("accept.word_length", methods.accept.word_length, hidden_size))


def _residual(sizes: Sizes) -> int:
    """The prompt, two maps with biases and a layer norm."""
    hidden, width = sizes.backbone.hidden_size, sizes.methods.residual.bottleneck
    return _prompt(sizes) + 2 * hidden * width + width + 3 * hidden


def _adapter(sizes: Sizes, dropped: int = 0) -> int:
    """Bottlenecks after self-attention and feed-forward of every layer but the lowest, and the norms of these."""
    shape = sizes.backbone
    size = shape.hidden_size // sizes.baselines.adapter_reduction
    bottleneck = 2 * shape.hidden_size * size + size + shape.hidden_size
    layers = max(0, shape.encoder_layers - dropped) + max(0, shape.decoder_layers - dropped)
    return 2 * layers * bottleneck + shape.norms(dropped) * shape.hidden_size


def _bitfit(sizes: Sizes) -> int:
    """One bias for each output of a linear layer, the head's included, and of a norm."""
    shape = sizes.backbone
    attention = shape.inner + 2 * shape.key_inner + shape.hidden_size
    feed_forward = (shape.matrices - 1) * shape.feed_forward + shape.hidden_size
    layers = shape.attentions * attention + shape.layers * feed_forward
    return layers + shape.norms() * shape.hidden_size + shape.vocabulary


def _lora(sizes: Sizes) -> int:
    """Of the projections q and v."""
    shape = sizes.backbone
    return shape.attentions * sizes.baselines.lora_rank * (2 * shape.hidden_size + shape.inner + shape.key_inner)


def _lst(sizes: Sizes) -> int:
    """Side layers with gates, maps down to them, maps into and out of the side network, and its position biases."""
    shape, reduction, every = sizes.backbone, sizes.baselines.lst_reduction, sizes.baselines.lst_skip_every
    hidden, side = shape.hidden_size, shape.hidden_size // reduction
    inner = shape.heads * (shape.inner // shape.heads // reduction)
    attention, feed_forward = 4 * side * inner, shape.matrices * side * (shape.feed_forward // reduction)
    down = hidden * side + side
    # The position biases of both stacks, as large as the backbone's: what is small there and not a norm.
    total = shape.small - shape.norms() * hidden
    for layers, attentions in ((shape.encoder_layers, 1), (shape.decoder_layers, 2)):
        rungs = sum(every == 0 or index % every != 0 for index in range(layers))
        total += rungs * (attentions * attention + feed_forward + (attentions + 1) * side + down + 1) + down + side
    return total + side * hidden + hidden


# In the order of tables. The first six prompt methods have Okabe and Ito's palette, the others the colors that are
# farthest from it and from one another in the eyes of readers with any of the three color blindnesses (a test measures
# that), and black. Rates of the methods that train weights, one each as published [known]: 3e-4 for fine-tuning,
# Adapter and BitFit (released code of ATTEMPT), for AdapterDrop (released code of Compacter,
# seq2seq/configs/adapters_drop.json) and for LoRA, 3e-3 for LST (released code of LST).
_RECORDS = (
    Method(
        name="fine_tuning",
        title="Fine-tuning",
        module="ept.methods.fine_tuning:FineTuning",
        rates={"weights": [3e-4]},
        parameters=lambda sizes: sizes.backbone.parameters,
        prompt_tokens="none",
        color="#000000",
        marker="s",
        packed=False,
        options=(),
        float32=True,
        effort=1.5,  # the gradient of every weight too
        launches=6881,
    ),
    Method(
        name="adapter",
        title="Adapter",
        module="ept.methods.adapter:Adapter",
        rates={"weights": [3e-4]},
        parameters=_adapter,
        prompt_tokens="none",
        color="#9900CC",
        marker="P",
        packed=False,
        options=("baselines.adapter_reduction",),
        launches=6644,
    ),
    Method(
        name="adapterdrop",
        title="AdapterDrop",
        module="ept.methods.adapter:AdapterDrop",
        rates={"weights": [3e-4]},
        parameters=lambda sizes: _adapter(sizes, sizes.baselines.adapterdrop_layers),
        prompt_tokens="none",
        color="#550055",
        marker="X",
        packed=False,
        options=("baselines.adapter_reduction", "baselines.adapterdrop_layers"),
    ),
    Method(
        name="bitfit",
        title="BitFit",
        module="ept.methods.fine_tuning:BitFit",
        rates={"weights": [3e-4]},
        parameters=_bitfit,
        prompt_tokens="none",
        color="#773300",
        marker="d",
        packed=False,
        options=(),
        float32=True,
    ),
    Method(
        name="lora",
        title="LoRA",
        module="ept.methods.lora:Lora",
        rates={"weights": [3e-4]},
        parameters=_lora,
        prompt_tokens="none",
        color="#005533",
        marker="v",
        packed=False,
        options=("baselines.lora_rank", "baselines.lora_alpha"),
        launches=4606,
    ),
    Method(
        name="lst",
        title="LST",
        module="ept.methods.lst:LadderSideTuning",
        rates={"weights": [3e-3]},
        parameters=_lst,
        prompt_tokens="none",
        color="#330077",
        marker="<",
        packed=False,
        options=("baselines.lst_reduction", "baselines.lst_skip_every"),
        encoder_decoder=True,
        input_gradient=False,
        effort=0.6,  # no gradient through the backbone, and a small side network
        launches=6724,
    ),
    Method(
        name="pt",
        title="PT",
        module="ept.methods.pt:PlainPrompt",
        rates={"prompt": _PROMPT},
        few_shot_rates={"prompt": [0.3]},
        parameters=_prompt,
        color="#56B4E9",
        marker="o",
        adapter_format="peft",
        launches=1835,
    ),
    Method(
        name="spot",
        title="SPoT",
        module="ept.methods.pt:PlainPrompt",
        rates={"prompt": _PROMPT},
        few_shot_rates={"prompt": [0.3]},
        parameters=_prompt,
        color="#0072B2",
        marker="^",
        start="always",
        source_method="pt",
    ),
    Method(
        name="attempt",
        title="ATTEMPT",
        module="ept.methods.attempt:MixturePrompt",
        rates={"prompt": _PROMPT, "attention": [0.3]},  # the released configuration trains everything with 0.3
        few_shot_rates={"prompt": [0.3], "attention": [0.3]},
        parameters=_attempt,
        options=("prompt", "attempt"),
        color="#CC79A7",
        marker=">",
        start="always",
        start_from="mixture",
        source_method="pt",
    ),
    Method(
        name="mpt",
        title="MPT",
        module="ept.methods.mpt:MultitaskPrompt",
        # Two speeds are known; 0.3 for the shared and 0.4 for the task's part are recalled from the paper.
        rates={"prompt": _PROMPT, "task": [5e-3, 5e-2, 0.4]},
        few_shot_rates={"prompt": [0.3], "task": [0.4]},
        parameters=_mpt,
        color="#E69F00",
        marker="h",
        start="always",
        start_from="distilled",
        source_method="pt",
    ),
    Method(
        name="dept",
        title="DePT",
        module="ept.methods.dept:DecomposedPrompt",
        rates=_PAIR,
        few_shot_rates=_FEW_SHOT_PAIR,
        parameters=_dept,
        prompt_tokens="short_length",
        rank=lambda prompt, ept, methods, hidden_size: decomposition_rank(prompt, hidden_size),
        color="#009E73",
        marker="D",
        start="optional",
        adapter_format="dept",
    ),
    Method(
        name="ept",
        title="EPT",
        module="ept.methods.ept:EptPrompt",
        rates=_PAIR,
        few_shot_rates=_FEW_SHOT_PAIR,
        parameters=_ept,
        prompt_tokens="short_length",
        rank=lambda prompt, ept, methods, hidden_size: ept_rank(prompt, ept, hidden_size),
        color="#D55E00",
        marker="*",
        start="optional",
        options=("prompt", "ept"),
        launches=2053,
    ),
    Method(
        name="ept_matched",
        title="EPT (matched)",
        module="ept.methods.ept:EptPrompt",
        rates=_PAIR,
        few_shot_rates=_FEW_SHOT_PAIR,
        parameters=_ept,
        prompt_tokens="short_length",
        rank=lambda prompt, ept, methods, hidden_size: ept_rank(prompt, ept, hidden_size),
        color="#0000FF",
        marker="1",
        start="optional",
        options=("prompt", "ept"),
        overrides={"ept.budget": "matched"},
    ),
    Method(
        name="adept",
        title="ADePT",
        module="ept.methods.adept:AdaptivePrompt",
        rates={"prompt": [0.3, 0.4], "network": [1e-4]},  # released code and paper
        few_shot_rates={"prompt": [0.3], "network": [1e-4]},
        parameters=_adept,
        prompt_tokens="short_length",
        rank=lambda prompt, ept, methods, hidden_size: adept_rank(prompt, methods.adept, hidden_size),
        color="#B478FF",
        marker="8",
        start="optional",
        options=("prompt", "adept"),
    ),
    Method(
        name="ulpt",
        title="ULPT",
        module="ept.methods.ulpt:ProjectedPrompt",
        rates={"prompt": [0.6]},  # released script
        parameters=_ulpt,
        color="#A5C369",
        marker="x",
        options=("prompt", "ulpt"),
    ),
    Method(
        name="dpt",
        title="DPT",
        module="ept.methods.dpt:FactorizedPrompt",
        rates={"prompt": _PROMPT},  # our choice: the grid of prompt tuning
        few_shot_rates={"prompt": [0.3]},
        parameters=_dpt,
        color="#E1B4B4",
        marker="+",
        start="optional",
        options=("prompt", "dpt"),
    ),
    Method(
        name="accept",
        title="ACCEPT",
        module="ept.methods.accept:CodebookPrompt",
        rates={"prompt": _PROMPT, "added": [1e-4, 5e-4, 1e-3, 5e-3]},  # released scripts
        few_shot_rates={"prompt": [0.3], "added": [5e-3]},
        parameters=_accept,
        prompt_tokens="short_length",
        rank=_accept_lengths,
        color="#784B69",
        marker="H",
        start="optional",
        options=("prompt", "accept"),
    ),
    Method(
        name="residual",
        title="Residual PT",
        module="ept.methods.residual:ResidualPrompt",
        rates={"prompt": [0.3], "network": [0.3]},  # released example: one rate for both
        parameters=_residual,
        color="#5A783C",
        marker="|",
        start="optional",
        options=("prompt", "residual"),
    ),
)
METHODS: dict[str, Method] = {method.name: method for method in _RECORDS}

SUBJECT = "ept"
"""The method that the others are compared with: its ablations, its gates, the tests of significance."""
PRIMARY_RIVALS = ("pt", "dept", "mpt")
"""The methods of the primary family of tests, named before any run: SUBJECT against each on the average over tasks."""
REFERENCE = "pt"
"""The method whose time of prediction is 1 in the table `efficiency`."""


def get_method(name: str) -> Method:
    """The record of that name. Raises InputError with the known names."""
    if name not in METHODS:
        raise InputError(unknown("method", name, METHODS))
    return METHODS[name]


def count_parameters(method: str, sizes: Sizes) -> int:
    """How many numbers one run of a method trains: by its record's arithmetic, or counted from its tensors.

    Raises InputError for a method that trains inside the backbone and has no arithmetic, and for settings that do not
    fit each other.
    """
    record = get_method(method)
    prompt, ept = record.fixed(sizes.prompt, sizes.ept)
    sizes = replace(sizes, prompt=prompt, ept=ept)
    if record.parameters is not None:
        return record.parameters(sizes)
    # By name: counting tensors needs torch, which nothing else here does.
    return importlib.import_module("ept.methods.build").count_tensors(method, sizes)


def method_of_format(adapter_format: str) -> str:
    """The method whose prompts another program's adapter format holds."""
    return next(method.name for method in METHODS.values() if method.adapter_format == adapter_format)


def check_start(method: str, start: str) -> None:
    """Raise InputError for a start (`scratch` or `source`) that the method cannot have."""
    record = get_method(method)
    if record.start == "never" and start == "source":
        others = [other.name for other in METHODS.values() if other.start == "always" and other.module == record.module]
        instead = f" or choose {others[0]}" if others else ""
        raise InputError(f"{method} always starts from scratch; leave out --initialize-from source{instead}")
    if record.start == "always" and start == "scratch":
        raise InputError(f"{method} always starts from a source prompt; add --initialize-from source")
