"""Quantized layers against their formulas."""

import numpy as np
import torch
from bitsandbytes.functional import dequantize_4bit

from ept.backbones.quantize import quantized_linear, weight_of

# QLoRA (Dettmers et al. 2023), appendix E.
# fmt: off
NF4 = np.array([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
])
# fmt: on
def _weight(seed=0, shape=(48, 128)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.05


def _input(seed=1, shape=(3, 7, 128)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_nf4_is_its_formula():
    """Each block of 64 is divided by its largest magnitude and rounded to the nearest of sixteen levels.

    The largest magnitudes, less their mean, are rounded to 8 bits, in steps of at most 0.9 / 64 of the largest.
    """
    weight = _weight()
    layer = quantized_linear(weight, "nf4")
    blocks = weight.numpy().astype(np.float64).reshape(-1, 64)
    largest = np.abs(blocks).max(1, keepdims=True)
    expected = NF4[np.abs(blocks[:, :, None] / largest[:, :, None] - NF4).argmin(2)] * largest
    found = dequantize_4bit(layer.weight.data, layer.weight.quant_state).numpy().reshape(-1, 64)
    step = 0.9 / 64 * np.abs(largest - largest.mean()).max()
    assert np.abs(found - expected).max() <= step / 2 + 1e-6
    assert np.abs(found - blocks).max() > 10 * step


def test_nf4_computes_with_the_weight_that_it_stands_for_and_gives_its_gradient():
    layer = quantized_linear(_weight(), "nf4")
    stands_for = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    x = _input().requires_grad_()
    found = layer(x)
    torch.testing.assert_close(found, x @ stands_for.T)
    (gradient,) = torch.autograd.grad(found.square().sum(), x)
    torch.testing.assert_close(gradient, 2 * (x @ stands_for.T) @ stands_for)


def test_int8_is_its_formula():
    """Weights and inputs are rounded to a 127th of the largest of their row.

    Numbers above 6 do not count for it, and columns that hold one are not rounded.
    """
    weight, x = _weight(), _input()
    x[1, 2, 5] = 8
    layer = quantized_linear(weight, "int8")

    def rounded(values):
        values = values.numpy().astype(np.float16).astype(np.float64)
        step = np.abs(np.where(np.abs(values) < 6, values, 0)).max(-1, keepdims=True) / 127
        return np.rint(values / step) * step

    weights, inputs = rounded(weight), rounded(x)
    inputs[..., 5] = x[..., 5]
    found = layer(x.requires_grad_())
    # Float16 holds eleven bits: a product that lies between two steps may fall on the other.
    tie = np.abs(inputs).max() / 127 * np.abs(weights).max()
    np.testing.assert_allclose(found.detach().numpy(), inputs @ weights.T, atol=2 * tie)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    step = float(weight.abs().max()) / 127
    np.testing.assert_allclose(gradient.numpy(), np.broadcast_to(weights.sum(0), x.shape), atol=1.01 * step)
    np.testing.assert_allclose(weight_of(layer).numpy(), weights, atol=1.01 * step)
