"""The kinds of model that are backbones. A new kind is one line here and, where needed, one adapter. No torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """What must be known of a kind of model before it is loaded.

    `loader` is "module:function" of (config.json as a dictionary, folder, Form) -> Backbone; `hidden_size` the
    key of config.json that holds the size of the embeddings. An encoder-decoder reads the text with one stack and
    writes the label with another; without that the label follows the text (docs/backbones.md).
    """

    loader: str
    hidden_size: str
    encoder_decoder: bool


_T5 = Family("ept.backbones.encoder_decoder:load_t5", "d_model", encoder_decoder=True)
_CAUSAL = Family("ept.backbones.decoder_only:load_causal", "hidden_size", encoder_decoder=False)
_GPT2 = Family("ept.backbones.decoder_only:load_causal", "n_embd", encoder_decoder=False)

FAMILIES: dict[str, Family] = {
    "t5": _T5,
    "mt5": _T5,
    "llama": _CAUSAL,
    "gpt2": _GPT2,
    "qwen2": _CAUSAL,
    "qwen3": _CAUSAL,
}
"""By the `model_type` of config.json."""


def family_of(config: dict) -> Family:
    """The family of a model by its config.json, which `ept.backbones.files.read_config` has checked."""
    return FAMILIES[config["model_type"]]
