"""Load a frozen decoder-only model of transformers from a local folder."""

from pathlib import Path
from typing import Any

from ept.backbones.backbone import Form
from ept.backbones.decoder_only import DecoderOnly
from ept.backbones.files import weight_files
from ept.backbones.quantise import prepare
from ept.errors import InputError


def load_causal(config: dict, folder: Path, form: Form) -> DecoderOnly:
    """The frozen causal language model in `folder` (config.json and safetensors).

    nf4 (double quantisation, computing in `form.dtype`) and int8 are transformers' own, through bitsandbytes.
    Raises InputError for missing or torn files, sizes that make no model, missing tensors or such of another shape, a
    model without an end of text, and attention that slides over a window.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    weight_files(folder)
    where = folder / "config.json"
    if config.get("use_sliding_window"):
        raise InputError(f"{where}: use_sliding_window is not supported; use a model that attends to the whole text")
    if len(form.spread_over) > 1:
        raise InputError(f"{where}: backbone.device_map auto is for T5 alone; set it to one, and quantization to nf4")
    try:
        shape = AutoConfig.from_pretrained(folder, local_files_only=True)
        shape._attn_implementation = "sdpa"
        model, notes = AutoModelForCausalLM.from_pretrained(
            folder,
            config=shape,
            dtype=form.dtype,
            device_map={"": form.device},
            quantization_config=_quantisation(form),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # transformers and safetensors raise many kinds for a folder that is no model
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{folder}: transformers cannot load this model ({reason}); fetch it again") from error
    if missing := sorted(notes["missing_keys"]):
        raise InputError(f"{folder}: no tensor {missing[0]} in its safetensors files; fetch the backbone again")
    if model.config.eos_token_id is None:
        raise InputError(f"{where}: eos_token_id is missing, without which no label ends; add the tokenizer's")
    if form.quantization != "none":
        prepare(model)
    return DecoderOnly(model, form.gradient_checkpointing)


def _quantisation(form: Form) -> Any:
    """transformers' settings of the quantisation; None without one."""
    if form.quantization == "none":
        return None
    from transformers import BitsAndBytesConfig

    if form.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=form.dtype,
    )
