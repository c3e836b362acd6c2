"""Adam for a pack: every tensor has a leading runs axis, every run its own rates, clipping and state."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def linear_schedule(step: int, warmup_steps: int, steps: int) -> float:
    """The factor on the learning rate at `step` (0-based): linear rise over the warm-up, then linear fall to 0."""
    if step < warmup_steps:
        return step / warmup_steps
    return max(0.0, (steps - step) / max(1, steps - warmup_steps))


class PackedAdam:
    """Adam (Kingma & Ba 2015) without weight decay, run by run.

    Weight decay is left out on purpose: 0.01 at a prompt's rate of 0.3 would shrink prompts by 0.3 % a step. Each run
    gets the update that torch.optim.Adam would give it alone, after clipping the gradient norm of each of its parameter
    groups to `clip_norm`. Groups are clipped one by one because EPT's low-rank gradient is 12-20 times its prompt's.
    """

    def __init__(
        self,
        groups: Mapping[str, list[nn.Parameter]],
        learning_rates: Mapping[str, Tensor],
        clip_norm: float,
        packed: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ):
        """`groups`: parameters [runs, ...] by group name; `learning_rates`: [runs] by group name.

        With `packed` off the parameters have no runs axis and belong to one run.
        """
        self.groups = groups
        self.packed = packed
        self.learning_rates = learning_rates
        self.clip_norm = clip_norm
        self.betas = betas
        self.epsilon = epsilon
        self.steps = 0
        self.moments = {
            name: [(torch.zeros_like(self._stacked(p)), torch.zeros_like(self._stacked(p))) for p in parameters]
            for name, parameters in groups.items()
        }

    @torch.no_grad()
    def step(self, factor: float, alive: Tensor) -> None:
        """One update with all rates times `factor`. Runs that are not `alive` ([runs], bool) keep their values."""
        self.steps += 1
        for name, parameters in self.groups.items():
            gradients = [self._stacked(torch.zeros_like(p) if p.grad is None else p.grad) for p in parameters]
            scale = self._clip_scale(gradients)
            rate = factor * self.learning_rates[name]
            for parameter, gradient, moments in zip(parameters, gradients, self.moments[name], strict=True):
                self._update(self._stacked(parameter), gradient, moments, scale, rate, alive)
                parameter.grad = None

    def _stacked(self, tensor: Tensor) -> Tensor:
        """The tensor with a leading runs axis."""
        return tensor if self.packed else tensor[None]

    def _clip_scale(self, gradients: list[Tensor]) -> Tensor:
        """[runs]: what brings each run's gradient norm over a group down to `clip_norm`."""
        squares = torch.stack([gradient.reshape(len(gradient), -1).square().sum(1) for gradient in gradients]).sum(0)
        return (self.clip_norm / (squares.sqrt() + 1e-6)).clamp(max=1.0)

    def _update(
        self,
        parameter: Tensor,
        gradient: Tensor,
        moments: tuple[Tensor, Tensor],
        scale: Tensor,
        rate: Tensor,
        alive: Tensor,
    ) -> None:
        def per_run(values: Tensor) -> Tensor:
            return values.view(-1, *[1] * (parameter.dim() - 1))

        first, second = moments
        gradient = gradient * per_run(scale)
        first.lerp_(gradient, 1 - self.betas[0])
        second.mul_(self.betas[1]).addcmul_(gradient, gradient, value=1 - self.betas[1])
        bias_first = 1 - self.betas[0] ** self.steps
        bias_second = 1 - self.betas[1] ** self.steps
        denominator = (second / bias_second).sqrt_().add_(self.epsilon)
        update = per_run(rate) * (first / bias_first) / denominator
        # where, not a product: a dead run's update is NaN, and NaN times 0 is NaN.
        parameter.sub_(torch.where(per_run(alive), update, 0.0))
