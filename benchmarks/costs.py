"""What EPT costs over a backbone without a method, and beside prompt tuning at equal padding."""

import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.backbones import synchronize
from benchmarks.data import TaskData
from benchmarks.ours import Pack, SizedBackbone
from benchmarks.plan import Plan

MOST_PAIRS = 24
# The median of fewer pairs says little about differences of some percent.
LEAST_PAIRS = 3


def paired_ratio(first: Callable[[], None], second: Callable[[], None], seconds: float) -> dict:
    """The median of time(first) / time(second) over pairs of calls in turn, in about `seconds`.

    Which of a pair comes first alternates, so that a drift of the machine cancels out.
    """
    started = time.perf_counter()
    first(), second()
    ratios = []
    while len(ratios) < LEAST_PAIRS or (len(ratios) < MOST_PAIRS and time.perf_counter() - started < seconds):
        order = (first, second) if len(ratios) % 2 else (second, first)
        spent = {call: seconds_of(call) for call in order}
        ratios.append(spent[first] / spent[second])
    return {"ratio": statistics.median(ratios), "pairs": len(ratios)}


def over_bare_backbone(sized: SizedBackbone, task: TaskData, plan: Plan, seconds: float) -> dict:
    """A step of EPT over forward and backward of the frozen backbone alone with the same positions."""
    pack = Pack(sized, "ept", 1, task, plan)
    (batch,) = pack.batches(1)
    return paired_ratio(lambda: pack.step(batch), lambda: bare_step(pack, batch), seconds)


def beside_prompt_tuning(sized: SizedBackbone, task: TaskData, plan: Plan, seconds: float) -> dict:
    """A step of one EPT run over a step of one PT run, both padded to `plan.padding`."""
    ept, pt = (Pack(sized, method, 1, task, plan, plan.padding) for method in ("ept", "pt"))
    (batch,) = ept.batches(1)
    return paired_ratio(lambda: ept.step(batch), lambda: pt.step(batch), seconds)


def bare_step(pack: Pack, batch) -> None:
    """Forward and backward down to the inputs, cut into the pack's passes, with as many positions before the text."""
    extra = pack.prompts.prompt.shape[1]
    for piece in pack.pieces(batch):
        text = piece.batch.to(pack.backbone.device)
        embeddings = pack.backbone.embed(text.input_ids)
        prompt = pack.backbone.embedding[:extra].expand(len(embeddings), -1, -1)
        inputs = torch.cat([prompt, embeddings], 1).requires_grad_()
        mask = torch.cat([text.attention_mask.new_ones(prompt.shape[:2]), text.attention_mask], 1)
        pack.backbone.token_losses(inputs, mask, text.target_ids).sum().backward()


def seconds_of(call: Callable[[], None]) -> float:
    """Seconds of one call."""
    synchronize()
    started = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - started
