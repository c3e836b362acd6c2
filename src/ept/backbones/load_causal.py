"""Load a frozen decoder-only model of transformers from a local folder."""

from pathlib import Path
from typing import Any

import torch

from ept.backbones.backbone import Form
from ept.backbones.decoder_only import DecoderOnly, blocks_of
from ept.backbones.files import weight_files
from ept.backbones.quantise import prepare
from ept.backbones.spread import spread
from ept.errors import InputError


def load_causal(config: dict, folder: Path, form: Form) -> DecoderOnly:
    """The frozen causal language model in `folder` (config.json and safetensors).

    transformers reads tensor by tensor onto the device and quantises each as it comes. Of a model that is spread over
    devices all but the blocks is on the first. Raises InputError for missing or torn files, missing tensors or such of
    another shape, a model without an end of text, and attention that slides over a window.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    # A bar of a second, which would stand in every log.
    disable_progress_bar()
    weight_files(folder)
    where = folder / "config.json"
    if config.get("use_sliding_window"):
        raise InputError(f"{where}: use_sliding_window is not supported; use a model that attends to the whole text")
    options: dict[str, Any] = {
        "dtype": form.dtype,
        "attn_implementation": "sdpa",
        "local_files_only": True,
        "use_safetensors": True,
        "device_map": device_map(folder, form),
        "quantization_config": _quantisation(form),
    }
    try:
        model, notes = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
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


def device_map(folder: Path, form: Form) -> dict[str, str]:
    """Where transformers puts each part of the model in `folder`, by the names of its modules."""
    from transformers import AutoConfig, AutoModelForCausalLM

    if len(form.spread_over) < 2:
        return {"": form.device}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
    names = {module: name for name, module in model.named_modules()}
    body, blocks = model.base_model, blocks_of(model.base_model)
    others = [part for part in (*body.children(), model.get_output_embeddings()) if part is not blocks]
    return dict.fromkeys((names[part] for part in others), form.spread_over[0]) | spread(
        {names[block]: block for block in blocks}, form.spread_over
    )


def _quantisation(form: Form) -> Any:
    """What transformers asks of bitsandbytes; see `quantised_linear`."""
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
