"""Where the weights of the demonstration backbone start: attention that looks for equal words, and related words alike.

From T5's own start a model of this size finds out only after hours that words can be looked up elsewhere in a text and
which of them mean the same, and until then every task that compares two texts stays at chance.
"""

import zlib
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import T5ForConditionalGeneration

from ept.demo.words import (
    BLAME,
    DAYS,
    DEEDS,
    DOINGS,
    MEN,
    PLACES,
    PRAISE,
    PROPERTIES,
    SITES,
    THINGS,
    TOPICS,
    WOMEN,
    WORKERS,
)

SHARPNESS = 0.6
"""Scale of query and key maps: equal words of embedding size 1 then score a few units above others."""
CROSS_SHARPNESS = 0.42
"""The same for cross-attention."""
NEIGHBOR = 3.0
"""Starting bias of a head that looks at nearby words on one side."""
NOT_ITSELF = -4.0
"""Starting bias of a matching head against the word itself, which is always its own best match."""
OWN, CONCEPT, KIND = 0.45, 0.8, 0.5
"""Parts of a word's starting vector: its own, its concept's (shared by synonyms) and its kind's."""


def word_groups() -> Iterator[tuple[str, str, float]]:
    """(word, group, weight) for what words of the language have in common."""
    for category, things in THINGS.items():
        for thing in things:
            for word in thing:
                yield word, f"thing {thing[0]}", CONCEPT
                yield word, category, KIND
        yield category, category, CONCEPT
    for described in PROPERTIES:
        for word in described:
            yield word, f"property {described[0]}", CONCEPT
            yield word, "property", KIND / 2
    for deed in DEEDS:
        for forms in deed:
            for word in set(forms):
                yield word, f"deed {deed[0][0]}", CONCEPT
                yield word, "deed", KIND / 2
    kinds = {"praise": PRAISE, "blame": BLAME, "woman": ("she", *WOMEN), "man": ("he", *MEN), "place": PLACES}
    for kind, words in {**kinds, "day": DAYS, **TOPICS}.items():
        for word in words:
            yield word, f"kind {kind}", KIND
    for kind, pairs in (("doer", (*WORKERS, *SITES)), ("doing", DOINGS)):
        for pair in pairs:
            # A noun's first form is singular, a verb's plural.
            for word, number in zip(pair, ("singular", "plural")[:: 1 if kind == "doer" else -1], strict=True):
                yield word, f"pair {pair[0]}", KIND
                yield word, number, KIND
    for word in ("this", "that", "every", "one"):
        yield word, "singular", KIND
    for word in ("these", "those", "all", "two"):
        yield word, "plural", KIND


@torch.no_grad()
def start_words(model: T5ForConditionalGeneration, tokenizer: Tokenizer) -> None:
    """Let words that have something in common start with similar embeddings, in place; the size stays 1.

    [ours] What word vectors made from a large corpus would bring along.
    """
    weight, size = model.shared.weight, model.config.d_model
    scaled: set[int] = set()
    for word, group, share in word_groups():
        piece = cast(int, tokenizer.token_to_id(f"▁{word}"))
        if piece not in scaled:
            scaled.add(piece)
            weight[piece] *= OWN
        common = np.random.default_rng(zlib.crc32(group.encode())).standard_normal(size)
        weight[piece] += share * torch.tensor(common, dtype=torch.float32)
    for piece in sorted(scaled):
        weight[piece] /= weight[piece].square().mean().sqrt()


@torch.no_grad()
def start_matching(model: T5ForConditionalGeneration) -> None:
    """Let attention look for equal words, and for nearby ones, from the start; changes the weights in place.

    [known: mimetic initialization, Trockman and Kolter, "Mimetic Initialization of Self-Attention Layers", 2023]
    Queries equal keys in half of the encoder's heads and in all cross-attention; these encoder heads do not look at
    the word itself. Four other heads start with a bias to the two or the six words before or after.
    """
    stacks: Any = model
    size, width, matching = model.config.d_model, model.config.d_kv, model.config.num_heads // 2
    for block in stacks.encoder.block:
        attention, basis = block.layer[0].SelfAttention, _orthogonal(size)
        rows = slice(0, matching * width)
        attention.q.weight[rows] = attention.k.weight[rows] = SHARPNESS * basis[rows]
    bias = stacks.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    bias[0, :matching] = NOT_ITSELF
    # Buckets 1 to 7 are the words before, 17 to 23 those after.
    windows = (slice(1, 3), slice(17, 19), slice(1, 7), slice(17, 23))
    bias[:, matching : matching + len(windows)] = 0
    for head, window in enumerate(windows, start=matching):
        bias[window, head] = NEIGHBOR
    for block in stacks.decoder.block:
        attention, basis = block.layer[1].EncDecAttention, _orthogonal(size)
        attention.q.weight.copy_(CROSS_SHARPNESS * basis)
        attention.k.weight.copy_(CROSS_SHARPNESS * basis)
        values = _orthogonal(size)
        attention.v.weight.copy_(values)
        attention.o.weight.copy_(values.T)


def _orthogonal(size: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(size, size))[0]
