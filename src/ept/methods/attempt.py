"""ATTEMPT, attentional mixtures of soft prompts (Asai et al., EMNLP 2022)."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ept.errors import InputError
from ept.methods.initialize import initial_prompt, ones, per_run, zeros
from ept.methods.prompt import PromptModule, PromptOutput, PromptSetup

BOTTLENECK = 100
"""Width of the attention network [known, released code], whatever the prompt's length."""


@dataclass(frozen=True, kw_only=True)
class MixtureOutput(PromptOutput):
    """Target prompt, frozen source prompts and attention network; the prompt of a row depends on its text."""

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


class MixturePrompt(PromptModule):
    """A target prompt plus a mixture of it and frozen source prompts, weighted by attention for each text.

    [known, paper and released code] P = P_target + Σ a_j P_j over sources and target; the attention network maps
    d -> 100 -> d without biases, SiLU between, a layer norm with scale and shift behind. Maps start normal with
    deviation 0.01. [known, released code] The target prompt starts as the first source prompt, and the layer norm stays
    frozen: length · d + 200 d trained parameters; `attempt.train_norm` trains its 2 d too, as the paper's count says.
    [ours] The attention network is not pretrained on the source tasks.
    """

    second_group = "attention"
    sources: Tensor

    def __init__(self, setup: PromptSetup):
        super().__init__(setup)
        if setup.sources is None or not len(setup.sources):
            raise InputError("attempt mixes source prompts, but there are none; name source tasks in tasks.source")
        options, sources = setup.methods.attempt, setup.sources.detach()
        if options.target_init == "source":
            self.prompt = per_run(setup, lambda _: sources[0].float().cpu())
        else:
            self.prompt = initial_prompt(setup, setup.prompt.length)
        self.down = per_run(setup, lambda g: 0.01 * torch.randn(self.hidden_size, BOTTLENECK, generator=g))
        self.up = per_run(setup, lambda g: 0.01 * torch.randn(BOTTLENECK, self.hidden_size, generator=g))
        self.scale = ones(setup, self.hidden_size).requires_grad_(options.train_norm)
        self.shift = zeros(setup, self.hidden_size).requires_grad_(options.train_norm)
        self.register_buffer("sources", sources.to(self.prompt))

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """What is trained, by name."""
        return ((name, part) for name, part in super().named_parameters(*args, **kwargs) if part.requires_grad)

    def forward(self) -> MixtureOutput:
        """The parts of the mixture; rows meet their text in `MixtureOutput.row_prompts`."""
        return MixtureOutput(
            self.prompt,
            None,
            sources=self.sources.expand(self.runs, -1, -1, -1),
            down=self.down,
            up=self.up,
            scale=self.scale,
            shift=self.shift,
        )

    @torch.no_grad()
    def collapse(self, run: int) -> dict[str, Tensor]:
        """All that is trained, and the source prompts [sources, length, hidden]: a new text needs them all."""
        trained = {name: tensor.clone() for name, tensor in self.tensors(run).items()}
        return {**trained, "sources": self.sources.clone()}

    @classmethod
    def served(cls, stored: Mapping[str, Tensor]) -> MixtureOutput:
        """See `PromptModule.served`; rows meet their text in `MixtureOutput.row_prompts`."""
        parts: dict[str, Any] = {name: stored[name].unsqueeze(0) for name in ("sources", "down", "up")}
        width = stored["up"].shape[1]
        norm = {"scale": torch.ones(width).to(stored["up"]), "shift": torch.zeros(width).to(stored["up"])}
        parts |= {name: stored.get(name, start).unsqueeze(0) for name, start in norm.items()}
        return MixtureOutput(stored["prompt"].unsqueeze(0), None, **parts)
