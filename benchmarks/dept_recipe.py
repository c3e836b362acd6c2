"""DePT (Shi & Lipani, ICLR 2024) as research code runs it, one run at a time."""

import math

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from transformers import T5ForConditionalGeneration


class DeptRecipe(nn.Module):
    """A short prompt before the padded text and γ A B added to its positions, γ = 8 / sqrt(rank).

    Written from the paper's formula on transformers' T5, with the interface that its Trainer wants.
    """

    def __init__(self, model: T5ForConditionalGeneration, short_length: int, rank: int, source_length: int):
        """Freeze `model`. Trained: prompt [short_length, hidden], A [source_length, rank], B [rank, hidden]."""
        super().__init__()
        self.model = model.requires_grad_(False)
        self.config, self.generation_config = model.config, model.generation_config
        embedding = model.shared.weight
        drawn = torch.randperm(len(embedding))[:short_length]
        self.prompt = nn.Parameter(embedding[drawn].float())
        self.A = nn.Parameter(torch.empty(source_length, rank, device=embedding.device))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.B = nn.Parameter(torch.zeros(rank, embedding.shape[1], device=embedding.device))
        self.scale = 8 / math.sqrt(rank)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor):
        """The T5's output, with the loss; `input_ids` and `attention_mask` [rows, length], at most source_length."""
        return self.model(**self._inputs(input_ids, attention_mask), labels=labels)

    def generate(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None, **options):
        """Generated pieces, as `generate` of the T5."""
        return self.model.generate(**self._inputs(input_ids, attention_mask), **options)

    def optimizer(self, prompt_rate: float, low_rank_rate: float) -> AdamW:
        """AdamW with a learning rate for the prompt and another for the low-rank pair."""
        groups = [{"params": [self.prompt], "lr": prompt_rate}, {"params": [self.A, self.B], "lr": low_rank_rate}]
        return AdamW(groups, weight_decay=0.01)

    def _inputs(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        embeddings = self.model.shared(input_ids)
        text = embeddings + self.scale * (self.A[: embeddings.shape[1]] @ self.B)
        prompt = self.prompt.expand(len(text), -1, -1)
        mask = attention_mask.new_ones(prompt.shape[:2])
        return {
            "inputs_embeds": torch.cat([prompt, text], 1).to(embeddings.dtype),
            "attention_mask": torch.cat([mask, attention_mask], 1),
        }
