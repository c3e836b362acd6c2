"""ATTEMPT, attentional mixtures of soft prompts (Asai et al., EMNLP 2022)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ept.errors import InputError
from ept.methods.initialize import initial_prompt, ones, per_run, zeros
from ept.methods.prompt import PromptModule, PromptOutput, PromptSetup

BOTTLENECK = 100
"""Width of the attention network [known, released code], whatever the prompt's length."""


class MixtureOutput(NamedTuple):
    """Target prompt, frozen source prompts and attention network; the prompt of a row depends on its text."""

    prompt: Tensor
    """[runs, length, hidden], the target prompt."""
    offset: None
    sources: Tensor
    """[runs, sources, length, hidden], without gradient."""
    down: Tensor
    """[runs, hidden, bottleneck]."""
    up: Tensor
    """[runs, bottleneck, hidden]."""
    scale: Tensor
    """[runs, hidden], of the layer norm; `shift` likewise."""
    shift: Tensor

    def row_prompts(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """P_target + Σ a_j P_j for each row, [runs, batch, length, hidden] in float32.

        `embeddings` [runs, batch, length, hidden] and `mask` [runs, batch, length] of the text, with at least one
        piece in every row.
        """
        prompts = torch.cat([self.sources, self.prompt.unsqueeze(1)], 1)
        weights = self.attention(embeddings, mask, prompts)
        mixed = torch.bmm(weights, prompts.flatten(2)).unflatten(2, prompts.shape[2:])
        return self.prompt.unsqueeze(1) + mixed

    def attention(self, embeddings: Tensor, mask: Tensor, prompts: Tensor) -> Tensor:
        """The weights a of `prompts` [runs, sources + 1, length, hidden] for each row, [runs, batch, sources + 1].

        [known, released code] Text and prompts are pooled by the maximum over their tokens; the text's goes through
        the network; scores are dot products over the temperature e · d (2087 for 768). [ours] Padding is not pooled.
        """
        padding = ~mask.bool().unsqueeze(-1)
        text = embeddings.float().masked_fill(padding, -torch.inf).amax(2)
        hidden = torch.bmm(functional.silu(torch.bmm(text, self.down)), self.up)
        query = functional.layer_norm(hidden, hidden.shape[-1:]) * self.scale.unsqueeze(1) + self.shift.unsqueeze(1)
        scores = torch.bmm(query, prompts.amax(2).transpose(1, 2))
        return (scores / (math.e * hidden.shape[-1])).softmax(-1)

    slice = PromptOutput.slice
    detached = PromptOutput.detached
    select = PromptOutput.select


class MixturePrompt(PromptModule):
    """A target prompt plus a mixture of it and frozen source prompts, weighed by attention for each text.

    [known, paper and released code] P = P_target + Σ a_j P_j over sources and target; the attention network maps
    d -> 100 -> d without biases, SiLU between, a layer norm with scale and shift behind. Trained are the target
    prompt, the maps and the layer norm: length · d + 200 d + 2 d parameters. Maps start normal with deviation 0.01,
    the target prompt as PT's does. [ours] The attention network is not pretrained on the source tasks.
    """

    second_group = "attention"

    def __init__(self, setup: PromptSetup):
        super().__init__(setup)
        if setup.sources is None or not len(setup.sources):
            raise InputError("attempt mixes source prompts, but there are none; name source tasks in tasks.source")
        self.prompt = initial_prompt(setup, setup.prompt.length)
        self.down = per_run(setup, lambda g: 0.01 * torch.randn(self.hidden_size, BOTTLENECK, generator=g))
        self.up = per_run(setup, lambda g: 0.01 * torch.randn(BOTTLENECK, self.hidden_size, generator=g))
        self.scale = ones(setup, self.hidden_size)
        self.shift = zeros(setup, self.hidden_size)
        self.register_buffer("sources", setup.sources.detach().to(self.prompt))

    def forward(self) -> MixtureOutput:
        """The parts of the mixture; rows meet their text in `MixtureOutput.row_prompts`."""
        sources = self.sources.expand(self.runs, -1, -1, -1)
        return MixtureOutput(self.prompt, None, sources, self.down, self.up, self.scale, self.shift)

    @torch.no_grad()
    def collapse(self, run: int) -> dict[str, Tensor]:
        """All that is trained, and the source prompts [sources, length, hidden]: a new text needs them all."""
        trained = {name: tensor.clone() for name, tensor in self.tensors(run).items()}
        return {**trained, "sources": self.sources.clone()}
