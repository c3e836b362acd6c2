"""EPT: efficient prompt tuning by multi-space projection and prompt fusion (Lan et al., AAAI 2025).

[known, by the paper's section titles] Four parts: prompt decomposition (DePT's), prompt fusion,
multi-space projection and the reconstructed prompt. The paper's equations were not
available: those marked [ours] are this project's reading.
"""

import math

import torch
from torch import Tensor, nn

from ept.errors import InputError
from ept.methods.budget import ept_rank
from ept.methods.dept import DecomposedPrompt
from ept.methods.initialize import draw_prompt, embedding_rms, ones, per_run, zeros
from ept.methods.prompt import PromptOutput, PromptSetup


def normalize_rows(rows: Tensor) -> Tensor:
    """Normalize each row: n(x) = x / sqrt(mean(x²) + 1e-6) for a row x of [..., hidden] [ours]."""
    return rows / (rows.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def normalize_product(product: Tensor, embedding_rms: float) -> Tensor:
    """Scale to the size of embeddings: v(C) = C · e / sqrt(mean(C²) + (0.01 e)²), the mean over a run's rows [ours].

    Rows and result are [runs, rows, hidden]; e is the embeddings' root mean square. A trained short prompt is 25-130
    times larger than C, which would change almost nothing as it is.
    """
    mean_square = product.square().mean((1, 2), keepdim=True)
    return product * embedding_rms / (mean_square + (0.01 * embedding_rms) ** 2).sqrt()


class DotFusion(nn.Module):
    """F = gain · softmax(n(P_s) n(K)^T / sqrt(d)) v(K) for the rows K that P_s attends to, gain one scalar a run.

    [known in words: an attention network captures the difference in knowledge between low-rank product and
    short prompt and adds it to the short prompt] [ours: this equation, the normalizations and K (`fusion_context`):
    the rows of C that training texts reach, since the others are never added to anything; all of its rows; the rows of
    B; or the reached rows and P_s itself, which has its own values] `fusion_difference` subtracts P_s before the gain.
    The gain starts at 1, or at 0 where F would not be zero at the start.
    """

    def __init__(self, setup: PromptSetup):
        super().__init__()
        self.embedding_rms = embedding_rms(setup.embedding)
        self.reached = setup.reached_length
        self.context = setup.ept.fusion_context
        self.difference = setup.ept.fusion_difference
        self.gain = zeros(setup) if self.difference or self.context == "joint" else ones(setup)

    def forward(self, prompt: Tensor, product: Tensor, factors: Tensor) -> Tensor:
        """F [runs, short_length, hidden] from P_s of the same shape, C [runs, source_length, hidden] and B."""
        rows = {"all": product, "factors": factors}.get(self.context, product[:, : self.reached])
        keys, values = normalize_rows(rows), normalize_product(rows, self.embedding_rms)
        if self.context == "joint":
            keys, values = torch.cat([keys, normalize_rows(prompt)], 1), torch.cat([values, prompt], 1)
        read = self.read(normalize_rows(prompt), keys, values)
        return self.gain[:, None, None] * (read - prompt if self.difference else read)

    def read(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """What the queries [runs, short_length, hidden] attend to in [runs, rows, hidden]."""
        return self.attend(queries, keys, values)

    @staticmethod
    def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention, scaled by one over the root of the keys' width."""
        scores = torch.bmm(queries, keys.transpose(1, 2)) / math.sqrt(keys.shape[-1])
        return torch.bmm(scores.softmax(-1), values)


class ProjectedFusion(DotFusion):
    """The same with low-rank maps of rank k = `fusion_rank`.

    [ours] Queries n(P_s) W_q and keys n(K) W_k with W_q, W_k [d, k], scale 1 / sqrt(k); values v(K) W_v W_o
    with W_v [d, k], W_o [k, d]. Entries are normal with variance one over the rows of the map, which keeps
    sizes as they are.
    """

    def __init__(self, setup: PromptSetup):
        super().__init__(setup)
        hidden, rank = setup.hidden_size, setup.ept.fusion_rank

        def draw(rows: int, columns: int) -> nn.Parameter:
            return per_run(setup, lambda g: torch.randn(rows, columns, generator=g) / math.sqrt(rows))

        self.W_q, self.W_k, self.W_v = draw(hidden, rank), draw(hidden, rank), draw(hidden, rank)
        self.W_o = draw(rank, hidden)

    def read(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """What the queries attend to, through the maps."""
        mapped = (torch.bmm(queries, self.W_q), torch.bmm(keys, self.W_k), torch.bmm(values, self.W_v))
        return torch.bmm(self.attend(*mapped), self.W_o)


class Spaces(nn.Module):
    """P_m = Σ g_n H_n with H_1 = P_s and H_n = P_s + P_s U_n V_n for n = 2..N.

    [known in words: the prompt is projected into subspaces, N = 4, and a gating network learns their weights]
    [ours: the equations] U_n [d, k] ~ N(0, 1/d), V_n [k, d] zero at the start. `low_rank` has k =
    `space_rank`, `full` k = d: one d x d map a space that starts at zero would get the same gradient in every
    space, so the spaces would stay equal. The gate is g = softmax(n(P_s) W_g), W_g [d, N] zero at the start,
    for each token (`token`) or of the mean of n(P_s) over the tokens (`prompt`).
    """

    def __init__(self, setup: PromptSetup):
        super().__init__()
        self.per_token = setup.ept.gate == "token"
        self.make_maps(setup)
        self.W_g = zeros(setup, setup.hidden_size, setup.ept.spaces)

    def make_maps(self, setup: PromptSetup) -> None:
        """The maps of the spaces 2..N: U [runs, hidden, (N - 1) * k], V [runs, (N - 1) * k, hidden]."""
        hidden = setup.hidden_size
        width = (setup.ept.spaces - 1) * (hidden if setup.ept.projection == "full" else setup.ept.space_rank)
        self.U = per_run(setup, lambda g: torch.randn(hidden, width, generator=g) / math.sqrt(hidden))
        self.V = zeros(setup, width, hidden)

    def gate(self, prompt: Tensor) -> Tensor:
        """The weights g [runs, short_length or 1, spaces], positive with sum 1 over the spaces."""
        rows = normalize_rows(prompt)
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

    def make_maps(self, setup: PromptSetup) -> None:
        """The factors of the spaces 2..N: U and V [runs, N - 1, hidden]."""
        maps = setup.ept.spaces - 1
        self.U = per_run(setup, lambda g: torch.randn(maps, setup.hidden_size, generator=g))
        self.V = zeros(setup, maps, setup.hidden_size)

    def changes(self, prompt: Tensor, weights: Tensor) -> Tensor:
        """Σ g_n P_s ∘ u_n ∘ v_n over the spaces 2..N."""
        return prompt * torch.matmul(weights, self.U * self.V)


_FUSIONS = {"dot": DotFusion, "projected": ProjectedFusion}
_SPACES = {"low_rank": Spaces, "full": Spaces, "elementwise": ElementwiseSpaces}


class EptPrompt(DecomposedPrompt):
    """P* = P_m + F before the text, C added to it: [P*; E + C[:L]].

    [known in words: the joint prompt replaces the original; only the prompt is prepended, the low-rank
    product updates the text's embeddings] [ours: the sum] F comes from the fusion of P_s with C, P_m from the
    spaces of P_s. With the starts of the parts EPT equals DePT at the start exactly. P* does not depend on
    the text: at inference, EPT is a DePT prompt (`collapse`). [ours] `decomposition: svd` reads "decomposition" as one
    of a whole prompt: see `make_pair`.
    """

    def __init__(self, setup: PromptSetup):
        super().__init__(setup)
        ept = setup.ept
        self.fusion = _FUSIONS[ept.fusion](setup) if ept.fusion != "none" else None
        self.spaces = _SPACES[ept.projection](setup) if ept.has_projection else None

    @staticmethod
    def choose_rank(setup: PromptSetup) -> int:
        """r, from the parameter budget that `ept.budget` names."""
        return ept_rank(setup.prompt, setup.ept, setup.hidden_size)

    def make_pair(self, setup: PromptSetup) -> tuple[nn.Parameter, nn.Parameter]:
        """A and B at their start, as DePT's or from a singular value decomposition.

        [ours] `svd`: A = 0 and B = Σ_r V_rᵀ / sqrt(l) from the r largest singular values of the prompt U Σ Vᵀ of l
        tokens with which PT would start. C is zero at the start in both.
        """
        if setup.ept.decomposition == "product":
            return super().make_pair(setup)
        length, most = setup.prompt.length, min(setup.prompt.length, setup.hidden_size)
        if self.rank > most:
            raise InputError(
                f"ept.decomposition svd: a prompt of {length} tokens has at most rank {most}, not {self.rank}"
            )
        starts = [draw_prompt(setup, length, torch.Generator().manual_seed(seed)) for seed in setup.seeds]
        _, values, directions = torch.linalg.svd(torch.stack(starts), full_matrices=False)
        factors = (values[..., None] * directions / math.sqrt(length))[:, : self.rank]
        return zeros(setup, self.source_length, self.rank), nn.Parameter(factors.to(setup.embedding.device))

    def forward(self) -> PromptOutput:
        """P* [runs, short_length, hidden] and C [runs, source_length, hidden]."""
        product = self.product()
        prompt = self.prompt if self.spaces is None else self.spaces(self.prompt)
        if self.fusion is not None:
            prompt = prompt + self.fusion(self.prompt, product, self.B)
        return PromptOutput(prompt, product)

    @torch.no_grad()
    def diagnostics(self, run: int) -> dict[str, float | list[float]]:
        """Diagnostics of one run: `fusion_ratio` ‖F‖ / ‖P_s‖, `gain`, and `gate_weights`, the mean over the tokens.

        An ablation without fusion means something only where the ratio is not tiny.
        """
        found: dict[str, float | list[float]] = {}
        if self.fusion is not None:
            fused = self.fusion(self.prompt, self.product(), self.B)[run]
            found["fusion_ratio"] = float(fused.norm() / self.prompt[run].norm())
            found["gain"] = float(self.fusion.gain[run])
        if self.spaces is not None:
            found["gate_weights"] = self.spaces.gate(self.prompt)[run].mean(0).tolist()
        return found
