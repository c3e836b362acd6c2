"""Load a frozen decoder-only model of transformers from a local folder."""

from pathlib import Path

from torch import nn

from ept.backbones.backbone import Form
from ept.backbones.decoder_only import DecoderOnly
from ept.backbones.files import weight_files
from ept.backbones.quantise import quantised_linear
from ept.errors import InputError


def load_causal(config: dict, folder: Path, form: Form) -> DecoderOnly:
    """The frozen causal language model in `folder` (config.json and safetensors).

    Raises InputError for missing or torn files, missing tensors or such of another shape, a model without an end of
    text, attention that slides over a window, and quantisation of a model that has nothing to quantise.
    """
    from transformers import AutoModelForCausalLM

    weight_files(folder)
    where = folder / "config.json"
    if config.get("use_sliding_window"):
        raise InputError(f"{where}: use_sliding_window is not supported; use a model that attends to the whole text")
    if len(form.spread_over) > 1:
        raise InputError(f"{where}: backbone.device_map auto is for T5 alone; set it to one, and quantization to nf4")
    options = {"dtype": form.dtype, "attn_implementation": "sdpa", "local_files_only": True, "use_safetensors": True}
    try:
        model, notes = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    except Exception as error:  # transformers and safetensors raise many kinds for a folder that is no model
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{folder}: transformers cannot load this model ({reason}); fetch it again") from error
    if missing := sorted(notes["missing_keys"]):
        raise InputError(f"{folder}: no tensor {missing[0]} in its safetensors files; fetch the backbone again")
    if model.config.eos_token_id is None:
        raise InputError(f"{where}: eos_token_id is missing, without which no label ends; add the tokenizer's")
    model.to(form.device)
    if form.quantization != "none":
        _quantise(model, form.quantization, folder)
    return DecoderOnly(model, form.gradient_checkpointing)


def _quantise(model: nn.Module, quantization: str, folder: Path) -> None:
    """Quantise the linear layers of the blocks, one by one; embeddings, norms, biases and head stay."""
    head = model.get_output_embeddings()
    linear = [(name, part) for name, part in model.named_modules() if type(part) is nn.Linear and part is not head]
    if not linear:
        raise InputError(f"{folder}: this model has no linear layers to quantise; use backbone.quantization none")
    for name, part in linear:
        quantised = quantised_linear(part.weight.data, quantization)
        quantised.bias = part.bias
        model.set_submodule(name, quantised)
    # What PEFT goes by.
    setattr(model, "is_loaded_in_4bit" if quantization == "nf4" else "is_loaded_in_8bit", True)
