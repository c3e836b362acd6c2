"""What quantized weights cost a pass: `python -m benchmarks.dequantize` prints the table of docs/costs.md.

Forward and backward of one layer of 2048 x 2048 in bfloat16 on one thread, in times of the unquantized layer's.
"""

import time

import torch
from torch import nn

from ept.backbones.quantize import quantized_linear

SIZE, POSITIONS, ROUNDS = 2048, (16, 64, 256, 1024), 6


def ratios(quantization: str) -> list[float]:
    """For each number of positions in a pass: the shortest of several passes over that of the unquantized layer."""
    weight = torch.randn(SIZE, SIZE, dtype=torch.bfloat16)
    plain = nn.Linear(SIZE, SIZE, bias=False, dtype=torch.bfloat16).requires_grad_(False)
    layers, found = (plain, quantized_linear(weight, quantization)), []
    for positions in POSITIONS:
        inputs = torch.randn(positions, SIZE, dtype=torch.bfloat16, requires_grad=True)
        taken: tuple[list[float], ...] = ([], [])
        for _ in range(ROUNDS):
            for layer, seconds in zip(layers, taken, strict=True):
                started = time.process_time()
                layer(inputs).sum().backward()
                seconds.append(time.process_time() - started)
        found.append(min(taken[1]) / min(taken[0]))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("positions", *POSITIONS, sep="\t")
    for kind in ("nf4", "int8"):
        print(kind, *(f"{ratio:.2f}" for ratio in ratios(kind)), sep="\t")
