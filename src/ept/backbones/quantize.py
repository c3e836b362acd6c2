"""Linear layers in 4 or 8 bit, through bitsandbytes."""

import logging

import torch
from torch import Tensor, nn


def quantized_linear(weight: Tensor, quantization: str) -> nn.Linear:
    """A frozen layer without bias that holds `weight` [outputs, inputs] as `nf4` or `int8` and computes in its dtype.

    nf4: blocks of 64 numbers, whose scales are quantized again (QLoRA, Dettmers et al. 2023, section 3). int8: one
    scale a row; inputs are rounded too, except for columns with a number above 6 (LLM.int8(), Dettmers et al. 2022).
    Gradients go through to the layer's input, none to its weight.
    """
    # Here: it takes seconds, which a job without quantization must not pay.
    import bitsandbytes

    outputs, inputs = weight.shape
    with torch.device("meta"):
        if quantization == "nf4":
            layer = bitsandbytes.nn.Linear4bit(
                inputs, outputs, bias=False, compute_dtype=weight.dtype, compress_statistics=True, quant_type="nf4"
            )
        else:
            layer = bitsandbytes.nn.Linear8bitLt(inputs, outputs, bias=False, has_fp16_weights=False, threshold=6.0)
    if quantization == "nf4":
        unquantized = bitsandbytes.nn.Params4bit(weight, compress_statistics=True, quant_type="nf4", module=layer)
    else:
        # Int8Params quantizes what moves away from the CPU or to it.
        unquantized = bitsandbytes.nn.Int8Params(weight.cpu(), requires_grad=False)
    layer.weight = unquantized.to(weight.device)
    prepare(layer)
    return layer


def weight_of(layer: nn.Linear) -> Tensor:
    """The numbers [outputs, inputs] that a layer computes with, also where it holds them quantized."""
    if layer.weight.is_floating_point():
        return layer.weight
    from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant

    weight = layer.weight
    if hasattr(weight, "quant_state"):
        return dequantize_4bit(weight.data, weight.quant_state)
    # The first forward moves the scales of the rows.
    return int8_vectorwise_dequant(weight.data, layer.state.SCB if weight.SCB is None else weight.SCB)


def prepare(model: nn.Module) -> None:
    """Make the bitsandbytes layers of `model` fit for training of what stands before them."""
    for module in model.modules():
        # On some CPUs a forward without gradients rearranges the weight, and no later one has gradients.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    # One warning a layer and forward that int8 rounds its inputs through float16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
