"""What a demonstration backbone has mastered: its accuracy by task on facts that pretraining never told."""

from collections import Counter
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from transformers import T5ForConditionalGeneration

from ept.demo.corpus import task_example
from ept.demo.network import FILLER, exact, padded
from ept.demo.world import World

AT_ONCE = 100
"""Rows of one forward pass."""


@dataclass(frozen=True)
class HeldOut:
    """Examples of one task in pretraining's templates over validation facts.

    Attributes:
        batches: pairs of source and target pieces [rows, length].
        majority: percent right of the most frequent target of each command.
    """

    batches: list[tuple[torch.Tensor, torch.Tensor]]
    majority: float


def held_out(tokenizer: Tokenizer, task: str, count: int, seed: int = 11) -> HeldOut:
    """`count` examples of a task whose facts stand in no pretraining and no training text."""
    world = World("validation", (seed,))
    examples = [task_example(world, task) for _ in range(count)]
    targets: dict[str, Counter[str]] = {}
    for source, target in examples:
        targets.setdefault(" ".join(source.split()[:2]), Counter())[target] += 1
    pieces = [(tokenizer.encode(source).ids, tokenizer.encode(target).ids) for source, target in examples]
    batches = []
    for start in range(0, count, AT_ONCE):
        rows = pieces[start : start + AT_ONCE]
        batches.append((padded([source for source, _ in rows], 0), padded([target for _, target in rows], FILLER)))
    right = sum(counts.most_common(1)[0][1] for counts in targets.values())
    return HeldOut(batches, 100 * right / count)


def percent_exact(model: T5ForConditionalGeneration, examples: HeldOut) -> float:
    """Percent of the examples whose whole target the model generates greedily."""
    right = torch.cat([exact(model, source, target) for source, target in examples.batches])
    return 100 * right.float().mean().item()
