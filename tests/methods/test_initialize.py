"""Where prompts start."""

import pytest
import torch

from ept.config.settings import EptSettings, PromptSettings
from ept.errors import InputError
from ept.methods.build import build_prompt_module

SMALL = PromptSettings(length=10, short_length=4, rank=2, reference_length=9)
EMBEDDING = 3 * torch.randn(50, 12, generator=torch.Generator().manual_seed(99))


def _pieces(prompt):
    """The piece of each token of a prompt [length, hidden]; -1 where it is no piece's embedding."""
    same = (prompt[:, None] == EMBEDDING).all(-1)
    return torch.where(same.any(1), same.int().argmax(1), -1).tolist()


def test_vocabulary_takes_distinct_pieces(small_pack):
    found = _pieces(small_pack("pt", init="vocabulary").prompt[0])
    assert -1 not in found and len(set(found)) == 10


def test_vocabulary_is_the_pieces_that_are_given(small_pack):
    """Without them the first 5,000 of a large vocabulary."""
    embedding = torch.arange(6000.0)[:, None].expand(-1, 4)

    def start(seed, **options):
        pack = build_prompt_module("pt", embedding, SMALL, EptSettings(), 9, [seed], **options)
        return pack.prompt[0, :, 0].tolist()

    assert sorted(start(0, vocabulary=range(3, 13))) == list(range(3, 13))
    drawn = {piece for seed in range(100) for piece in start(seed)}
    assert len(drawn) > 800 and 4900 < max(drawn) < 5000


def test_vocabulary_smaller_than_the_prompt(small_pack):
    found = _pieces(small_pack("pt", init="vocabulary", length=70).prompt[0])
    assert sorted(found[:50]) == list(range(50)) and found[50:] == found[:20]


def test_text_is_repeated_or_cut(small_pack):
    def start(ids):
        return _pieces(small_pack("pt", init="text", init_text="a text", init_ids=[ids]).prompt[0])

    assert start([7, 8, 9]) == [7, 8, 9] * 3 + [7]
    assert start(list(range(20, 35))) == list(range(20, 30))


def test_labels_come_first_as_means_of_their_pieces(small_pack):
    prompt = small_pack("pt", init="labels", init_ids=[[3, 4], [6]]).prompt[0]
    torch.testing.assert_close(prompt[0], (EMBEDDING[3] + EMBEDDING[4]) / 2)
    found = _pieces(prompt)
    assert found[0] == -1 and found[1] == 6 and -1 not in found[2:]


def test_more_labels_than_tokens(small_pack):
    found = _pieces(small_pack("dept", init="labels", init_ids=[[n] for n in range(26)]).prompt[0])
    assert found == [0, 1, 2, 3]


def test_noise_is_as_large_as_the_embeddings(small_pack):
    prompt = small_pack("pt", init="uniform", length=3000).prompt[0].detach()
    rms = EMBEDDING.square().mean().sqrt()
    assert float(prompt.square().mean().sqrt()) == pytest.approx(float(rms), rel=0.02)
    bound = 0.5 * 12**0.5 * rms
    assert prompt.abs().max() <= bound and prompt.abs().max() > 0.99 * bound
    assert abs(prompt.mean()) < 0.05 * rms


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"init": "text", "init_text": "x", "init_ids": [[]]}, "init_text"),
        ({"init": "labels"}, r"prompt\.init is labels"),
        ({"init": "text", "init_text": "x", "init_ids": [[4, 50]]}, r"\b50\b.*\b50\b"),
        ({"init": "text"}, "init_text"),
        ({"init_text": "x"}, "init_text"),
    ],
)
def test_errors(small_pack, settings, words):
    with pytest.raises(InputError, match=words):
        small_pack("pt", **settings)
