"""Seeded drawing, and the division of facts between pretraining, training and validation."""

import zlib
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

import numpy as np

from ept.demo.words import ALL_THINGS, BLAME, DOINGS, MEN, PLACES, PRAISE, TOPICS, WOMEN

Item = TypeVar("Item")

PARTS = ("pretraining", "pretraining", "pretraining", "train", "validation")
"""The parts among which a subject's attributes are dealt out."""

# Every list is dealt out by itself, so that a subject has attributes of every kind in every part.
_LISTS = (
    [t[0] for t in ALL_THINGS],
    PLACES,
    WOMEN,
    MEN,
    [d[0] for d in DOINGS],
    PRAISE,
    BLAME,
    *TOPICS.values(),
)
_LIST_OF = {word: tuple(words) for words in _LISTS for word in words}


@cache
def _ranks(subject: str, words: tuple[str, ...]) -> dict[str, int]:
    """Each word's place in an order of the list that belongs to this subject."""
    order = sorted(words, key=lambda word: zlib.crc32(f"{subject}|{word}".encode()))
    return {word: rank for rank, word in enumerate(order)}


@cache
def part_of(subject: str, attribute: str) -> str:
    """The part ("pretraining", "train", "validation") in which this subject and attribute stand together."""
    return PARTS[_ranks(subject, _LIST_OF[attribute])[attribute] % len(PARTS)]


class World:
    """Draws words and facts of one part from one seeded stream.

    A fact is a pair (subject, attribute): a person and a thing, a person and a place, a noun and a verb. Only
    facts of the world's own part are ever told in its texts; words are shared by all parts.
    """

    def __init__(self, part: str, seed: Sequence[int]):
        self.part = part
        self._rng = np.random.default_rng(list(seed))
        self._numbers: list[float] = []

    def number(self) -> float:
        """A uniform draw from [0, 1)."""
        if not self._numbers:  # one call for many numbers: a scalar call of numpy costs 30 times more
            self._numbers = self._rng.random(4096).tolist()
        return self._numbers.pop()

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.number() < probability

    def below(self, limit: int) -> int:
        """A whole number from 0 to limit - 1."""
        return int(self.number() * limit)

    def pick(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        return items[int(self.number() * len(items))]

    def other(self, items: Sequence[Item], *excluded: Item) -> Item:
        """One of the items that is none of the excluded."""
        return self.pick([item for item in items if item not in excluded])

    def several(self, items: Sequence[Item], count: int) -> list[Item]:
        """`count` different items in random order."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(count)]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """The items in random order."""
        return self.several(items, len(items))

    def holds(self, subject: str, attribute: str) -> bool:
        """Whether this fact belongs to the world's part."""
        return part_of(subject, attribute) == self.part

    def attribute(self, subject: str, attributes: Sequence[Item], *excluded: Item) -> Item:
        """An attribute (a word, or a concept named by its first word) that this subject has in this part."""
        return self.pick([a for a in attributes if a not in excluded and self.holds(subject, name(a))])

    def subject(self, subjects: Sequence[str], attributes: Sequence[str], *excluded: str) -> str | None:
        """A subject that may have all these attributes in this part, None where there is none."""
        fitting = [s for s in subjects if s not in excluded and all(self.holds(s, a) for a in attributes)]
        return self.pick(fitting) if fitting else None


def name(concept: Any) -> str:
    """A concept's name: the word itself or the first of its synonyms."""
    while not isinstance(concept, str):
        concept = concept[0]
    return concept
