"""EPT's prompt fusion: attention of the short prompt to the low-rank product."""

import math

import torch
from torch import Tensor, nn

from ept.prompts.base import PackSetup
from ept.prompts.initialise import embedding_rms, ones, per_run
from ept.prompts.normalise import normalise_product, normalise_rows


class DotFusion(nn.Module):
    """F = gain · softmax(n(P_s) n(C)^T / sqrt(d)) v(C), gain a learned scalar a run that starts at 1.

    [known in words: an attention network captures the difference in knowledge between low-rank product and
    short prompt and adds it to the short prompt] [ours: this equation, and the normalisations]
    """

    def __init__(self, setup: PackSetup):
        super().__init__()
        self.embedding_rms = embedding_rms(setup.embedding)
        self.gain = ones(setup)

    def forward(self, prompt: Tensor, product: Tensor) -> Tensor:
        """F [runs, short_length, hidden] from P_s of the same shape and C [runs, source_length, hidden]."""
        values = normalise_product(product, self.embedding_rms)
        return self.attend(normalise_rows(prompt), normalise_rows(product), values)

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention, scaled by one over the root of the keys' width, times the run's gain."""
        scores = torch.bmm(queries, keys.transpose(1, 2)) / math.sqrt(keys.shape[-1])
        return self.gain[:, None, None] * torch.bmm(scores.softmax(-1), values)


class ProjectedFusion(DotFusion):
    """The same with low-rank maps of rank k = `fusion_rank`.

    [ours] Queries n(P_s) W_q and keys n(C) W_k with W_q, W_k [d, k], scale 1 / sqrt(k); values v(C) W_v W_o
    with W_v [d, k], W_o [k, d]. Entries are normal with variance one over the rows of the map, which keeps
    sizes as they are.
    """

    def __init__(self, setup: PackSetup):
        super().__init__(setup)
        hidden, rank = setup.hidden_size, setup.ept.fusion_rank

        def draw(rows: int, columns: int) -> nn.Parameter:
            return per_run(setup, lambda g: torch.randn(rows, columns, generator=g) / math.sqrt(rows))

        self.W_q, self.W_k, self.W_v = draw(hidden, rank), draw(hidden, rank), draw(hidden, rank)
        self.W_o = draw(rank, hidden)

    def forward(self, prompt: Tensor, product: Tensor) -> Tensor:
        """F [runs, short_length, hidden] from P_s of the same shape and C [runs, source_length, hidden]."""
        queries = torch.bmm(normalise_rows(prompt), self.W_q)
        keys = torch.bmm(normalise_rows(product), self.W_k)
        values = torch.bmm(normalise_product(product, self.embedding_rms), self.W_v)
        return torch.bmm(self.attend(queries, keys, values), self.W_o)
