"""Linear layers in 4 or 8 bit, through bitsandbytes."""

import logging
from typing import Any, cast

import torch
from torch import Tensor, nn


def quantized_linear(weight: Tensor, quantization: str) -> nn.Linear:
    """A frozen linear layer without bias whose `weight` [outputs, inputs] is held in 4 or 8 bit.

    nf4: blocks of 64 numbers, whose scales are quantized again (QLoRA, Dettmers et al. 2023, section 3). int8: one
    scale a row; inputs are rounded too, except for columns with a number above 6 (LLM.int8(), Dettmers et al. 2022).
    The layer computes in the dtype of `weight`. Its input gets a gradient, its weight none.
    """
    # Imported here: it takes seconds, which a job without quantization should not pay.
    from bitsandbytes.nn import modules

    layer: Any
    outputs, inputs = weight.shape
    with torch.device("meta"):
        if quantization == "nf4":
            layer = modules.Linear4bit(
                inputs, outputs, bias=False, compute_dtype=weight.dtype, compress_statistics=True, quant_type="nf4"
            )
        else:
            layer = modules.Linear8bitLt(inputs, outputs, bias=False, has_fp16_weights=False, threshold=6.0)
    unquantized: Any
    if quantization == "nf4":
        unquantized = modules.Params4bit(weight, compress_statistics=True, quant_type="nf4", module=layer)
    else:
        # Int8Params quantizes when it is moved from the CPU, or to it.
        unquantized = modules.Int8Params(weight.cpu(), requires_grad=False)
    layer.weight = unquantized.to(weight.device)
    prepare(layer)
    return layer


def weight_of(layer: nn.Linear) -> Tensor:
    """The weight [outputs, inputs] that a layer computes with, dequantized where it is quantized."""
    if layer.weight.is_floating_point():
        return layer.weight
    from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant

    weight: Any = layer.weight
    if hasattr(weight, "quant_state"):
        return dequantize_4bit(weight.data, weight.quant_state)
    # The first forward pass moves the scales of the rows to the state.
    return int8_vectorwise_dequant(weight.data, cast(Any, layer).state.SCB if weight.SCB is None else weight.SCB)


def prepare(model: nn.Module) -> None:
    """Let gradients pass through the bitsandbytes layers of `model` on every CPU."""
    for module in model.modules():
        # On some CPUs a forward pass without gradients would rearrange the weight, after which no pass has gradients.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010
    # It would warn at every layer and forward pass that int8 rounds inputs through float16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
