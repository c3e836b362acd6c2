"""How the demonstration backbone's weights are stepped: Muon for the matrices, AdamW for the rest."""

import torch
from transformers import T5ForConditionalGeneration

MATRIX_RATE = 2e-3
EMBEDDING_RATE = 4e-3
"""Embeddings have unit size and each word is rare: at AdamW's usual rate they would stay where they started."""
BIAS_RATE = 3e-2
"""Relative position biases must reach several units before a head looks at one place."""
NORM_RATE = 3e-3
WARM_UP = 100
COOL_DOWN = 1250 / 16_500
"""Last share of the steps, in which the rates fall to zero. Before it they are constant: what is learned by then does
not depend on the number of steps."""


def rate_at(step: int, steps: int) -> float:
    """Share of the peak learning rates at a step: linear warm-up, constant, at last a line from 0.15 to zero."""
    left = steps - step
    return min((step + 1) / WARM_UP, 1.0, 1.0 if left > round(COOL_DOWN * steps) else left / (0.5 * steps))


class Muon:
    """Momentum whose update is made orthogonal, for the matrices of a transformer.

    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; scaled as in Liu et al., "Muon is
    Scalable for LLM Training", 2025. Matrices of one shape are stepped together.

    Args:
        matrices: parameters with two dimensions.
        rate: the peak learning rate, in AdamW's units.
        momentum: of the running mean of gradients (Nesterov's form).
    """

    def __init__(self, matrices: list[torch.nn.Parameter], rate: float, momentum: float = 0.95):
        self.groups: dict[torch.Size, list[torch.nn.Parameter]] = {}
        for matrix in matrices:
            self.groups.setdefault(matrix.shape, []).append(matrix)
        self.means = {shape: torch.zeros(len(group), *shape) for shape, group in self.groups.items()}
        self.rate, self.momentum = rate, momentum

    @torch.no_grad()
    def step(self, share: float) -> None:
        """Step all matrices with this share of the peak rate."""
        for shape, group in self.groups.items():
            gradients = torch.stack([matrix.grad for matrix in group if matrix.grad is not None])
            mean = self.means[shape].lerp_(gradients, 1 - self.momentum)
            scale = 0.2 * max(shape) ** 0.5 * self.rate * share
            for matrix, update in zip(group, orthogonal(gradients.lerp(mean, self.momentum)), strict=True):
                matrix.sub_(update, alpha=scale)


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices [count, rows, columns] with their singular values brought near 1 (0.7 to 1.2).

    Five Newton-Schulz steps with the coefficients of Jordan et al., in bfloat16.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    current = (matrices.mT if tall else matrices).bfloat16()
    current = current / (current.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = current @ current.mT
        inner = torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315)
        current = torch.baddbmm(current, inner, current, beta=3.4445)
    return (current.mT if tall else current).float()


class Optimizer:
    """Muon for the matrices, AdamW for embeddings, relative position biases and norms, each with a rate of its own."""

    def __init__(self, model: T5ForConditionalGeneration, steps: int):
        kinds: dict[str, list[torch.nn.Parameter]] = {"matrix": [], "embedding": [], "bias": [], "norm": []}
        for name, parameter in model.named_parameters():
            if "relative" in name:
                kinds["bias"].append(parameter)
            elif "shared" in name:
                kinds["embedding"].append(parameter)
            else:
                kinds["matrix" if parameter.ndim == 2 else "norm"].append(parameter)
        self.steps, self.done = steps, 0
        self.parameters = list(model.parameters())
        self.muon = Muon(kinds["matrix"], MATRIX_RATE)
        self.rates = {"embedding": EMBEDDING_RATE, "bias": BIAS_RATE, "norm": NORM_RATE}
        self.adam = torch.optim.AdamW(
            [{"params": kinds[kind], "lr": rate} for kind, rate in self.rates.items()],
            weight_decay=0.0,
            betas=(0.9, 0.98),
        )

    def step(self) -> None:
        """Step all parameters by their gradients, limited to a norm of 1, and delete the gradients."""
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        share = rate_at(self.done, self.steps)
        for group, rate in zip(self.adam.param_groups, self.rates.values(), strict=True):
            group["lr"] = rate * share
        self.muon.step(share)
        self.adam.step()
        self.adam.zero_grad()
        for parameter in self.parameters:
            parameter.grad = None
        self.done += 1
