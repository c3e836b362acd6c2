"""EPT's multi-space projection: the short prompt in N spaces, combined by a gate."""

import math

import torch
from torch import Tensor, nn

from ept.prompts.base import PackSetup
from ept.prompts.initialise import per_run, zeros
from ept.prompts.normalise import normalise_rows


class Spaces(nn.Module):
    """P_m = Σ g_n H_n with H_1 = P_s and H_n = P_s + P_s U_n V_n for n = 2..N.

    [known in words: the prompt is projected into subspaces, N = 4, and a gating network learns their weights]
    [ours: the equations] U_n [d, k] ~ N(0, 1/d), V_n [k, d] zero at the start. `low_rank` has k =
    `space_rank`, `full` k = d: one d x d map a space that starts at zero would get the same gradient in every
    space, so the spaces would stay equal. The gate is g = softmax(n(P_s) W_g), W_g [d, N] zero at the start,
    for each token (`token`) or of the mean of n(P_s) over the tokens (`prompt`).
    """

    def __init__(self, setup: PackSetup):
        super().__init__()
        self.per_token = setup.ept.gate == "token"
        self.make_maps(setup)
        self.W_g = zeros(setup, setup.hidden_size, setup.ept.spaces)

    def make_maps(self, setup: PackSetup) -> None:
        """The maps of the spaces 2..N: U [runs, hidden, (N - 1) * k], V [runs, (N - 1) * k, hidden]."""
        hidden = setup.hidden_size
        width = (setup.ept.spaces - 1) * (hidden if setup.ept.projection == "full" else setup.ept.space_rank)
        self.U = per_run(setup, lambda g: torch.randn(hidden, width, generator=g) / math.sqrt(hidden))
        self.V = zeros(setup, width, hidden)

    def gate(self, prompt: Tensor) -> Tensor:
        """g [runs, short_length or 1, spaces], positive with sum 1 over the spaces."""
        rows = normalise_rows(prompt)
        if not self.per_token:
            rows = rows.mean(1, keepdim=True)
        return torch.bmm(rows, self.W_g).softmax(-1)

    def forward(self, prompt: Tensor) -> Tensor:
        """P_m [runs, short_length, hidden] of P_s [runs, short_length, hidden].

        As P_s + Σ_(n > 1) g_n (H_n - P_s), which is the same because the g_n sum to 1, and at V = 0 is P_s
        exactly.
        """
        return prompt + self.changes(prompt, self.gate(prompt)[..., 1:])

    def changes(self, prompt: Tensor, weights: Tensor) -> Tensor:
        """Σ g_n P_s U_n V_n over the spaces 2..N, `weights` [runs, short_length or 1, N - 1] their g_n."""
        inner = torch.bmm(prompt, self.U).unflatten(-1, (weights.shape[-1], -1))
        return torch.bmm((inner * weights[..., None]).flatten(-2), self.V)


class ElementwiseSpaces(Spaces):
    """H_n = P_s ∘ (1 + u_n ∘ v_n), with u_n ~ N(0, 1) and v_n zero at the start, [d] each.

    [ours] Two factors for the reason that `full` has two: a single one would keep the spaces equal.
    """

    def make_maps(self, setup: PackSetup) -> None:
        """The factors of the spaces 2..N: U and V [runs, N - 1, hidden]."""
        maps = setup.ept.spaces - 1
        self.U = per_run(setup, lambda g: torch.randn(maps, setup.hidden_size, generator=g))
        self.V = zeros(setup, maps, setup.hidden_size)

    def changes(self, prompt: Tensor, weights: Tensor) -> Tensor:
        """Σ g_n P_s ∘ u_n ∘ v_n over the spaces 2..N."""
        return prompt * torch.matmul(weights, self.U * self.V)
