"""ADePT, ULPT, DPT, ACCEPT and Residual PT against their equations in NumPy."""

import math

import numpy as np
import pytest
import torch

from ept.config.settings import AcceptSettings, AdeptSettings
from ept.errors import InputError
from ept.methods.prompt import combine

HIDDEN = 12


def numbers(pack, run):
    """The trained tensors of a run in double precision."""
    return {name: tensor.double().numpy() for name, tensor in pack.tensors(run).items()}


def prompts_equal(pack, formula):
    output = pack()
    assert output.offset is None
    for run in range(pack.runs):
        np.testing.assert_allclose(output.prompt[run].detach(), formula(run, numbers(pack, run)), rtol=1e-4, atol=1e-4)


def test_adept_is_its_formula(small_pack, randomize):
    pack = randomize(small_pack("adept", seeds=[0, 1]))
    text = 3 * torch.randn(2, 3, 7, HIDDEN, generator=torch.Generator().manual_seed(1))
    joined, _ = combine(pack(), text, torch.ones(2, 3, 7))
    joined = joined.view(2, 3, -1, HIDDEN)
    for run in range(2):
        t = numbers(pack, run)
        for row in range(3):
            pieces = text[run, row].double().numpy()
            expected = pieces + np.maximum(pieces @ t["A"] + t["a"], 0) @ t["B"] + t["b"]
            np.testing.assert_allclose(joined[run, row, 4:].detach(), expected, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(joined[run, row, :4].detach(), t["prompt"], rtol=1e-6)


def test_adept_starts_as_a_short_prompt_and_its_network_learns(small_pack):
    pack = small_pack("adept", seeds=[0], hidden=64)
    text = torch.randn(1, 2, 5, 64)
    assert not pack().row_offsets(text).any()
    bound = 1 / math.sqrt(pack.rank)
    assert 0.95 * bound < pack.A.abs().max() <= bound
    (pack().row_offsets(text) - 1).square().sum().backward()
    assert pack.B.grad.any() and pack.b.grad.any() and not pack.A.grad.any()
    groups = pack.parameter_groups()
    assert groups["prompt"] == [pack.prompt] and len(groups["network"]) == 4


def test_adept_folds_into_the_embedding_table(small_pack, randomize):
    """A table with f(E) added gives the text's embeddings, with the prompt alone before them."""
    pack = randomize(small_pack("adept", seeds=[0, 1]))
    embedding = 3 * torch.randn(50, HIDDEN, generator=torch.Generator().manual_seed(99))
    table = type(pack).served(pack.collapse(1)).table(embedding)
    ids = torch.randint(50, (3, 6), generator=torch.Generator().manual_seed(2))
    expected, _ = combine(pack().select([1]), embedding[ids][None], torch.ones(1, 3, 6))
    plain = small_pack("pt", length=4, short_length=2, rank="auto")
    plain.load_tensors(0, {"prompt": pack.collapse(1)["prompt"]})
    found, _ = combine(plain(), table[ids][None], torch.ones(1, 3, 6))
    torch.testing.assert_close(found, expected)


def test_adept_fits_texts_of_any_length(small_pack, randomize):
    pack = randomize(small_pack("adept", source_length=3))
    joined, _ = combine(pack(), torch.randn(1, 2, 20, HIDDEN), torch.ones(1, 2, 20))
    assert joined.shape == (2, 24, HIDDEN)


@pytest.mark.parametrize(("options", "words"), [({"rank": 50}, r"adept\.rank.*\b50\b.*\b2\b"), ({}, "short_length 9")])
def test_adept_keeps_to_its_budget(small_pack, options, words):
    with pytest.raises(InputError, match=words):
        small_pack("adept", methods={"adept": AdeptSettings(**options)}, short_length=4 if options else 9, rank="auto")


def test_ulpt_is_its_formula(small_pack, randomize):
    pack = randomize(small_pack("ulpt", seeds=[0, 1]))
    prompts_equal(pack, lambda run, t: t["Z"] @ pack.projection[run].double().numpy() * t["scale"] + t["shift"])


def test_ulpt_starts_as_released(small_pack):
    """Z ~ N(0, 1), the frozen matrix uniform within Xavier's bound and drawn from the seed, no scale, no shift."""
    pack = small_pack("ulpt", seeds=[5, 6], length=400, hidden=48)
    assert float(pack.Z.detach().std()) == pytest.approx(1, rel=0.05)
    bound = math.sqrt(6 / (3 + 48))
    assert 0.95 * bound < pack.projection.abs().max() <= bound
    assert not pack.shift.any() and bool((pack.scale == 1).all())
    assert not pack.projection.requires_grad and not torch.equal(*pack.projection)
    again = small_pack("ulpt", seeds=[6], length=400, hidden=48)
    assert torch.equal(again.projection[0], pack.projection[1])
    assert list(pack.parameter_groups()) == ["prompt"]


def test_dpt_is_its_formula(small_pack, randomize):
    prompts_equal(randomize(small_pack("dpt", seeds=[0, 1])), lambda run, t: t["Z"] @ t["W"])


def test_dpt_starts_as_run_by_ulpts_authors(small_pack):
    pack = small_pack("dpt", length=400, hidden=96)
    assert float(pack.Z.detach().std()) == pytest.approx(1, rel=0.1)
    assert 0.95 / math.sqrt(2) < pack.W.abs().max() <= 1 / math.sqrt(2)
    assert pack().prompt[0].detach().numpy().shape == (400, 96)
    assert np.linalg.matrix_rank(pack().prompt[0].detach().numpy()) == 2


def test_accept_is_its_formula(small_pack, randomize):
    pack = randomize(small_pack("accept", seeds=[0, 1]))
    output = pack()
    for run in range(2):
        t = numbers(pack, run)
        for found, weights, codebooks in (
            (output.prompt[run], t["weights"], t["codebooks"]),
            (output.offset[run], t["added_weights"], t["added_codebooks"]),
        ):
            parts, words, length = codebooks.shape
            expected = np.zeros((len(weights), HIDDEN))
            for row in range(len(weights)):
                for part in range(parts):
                    for word in range(words):
                        units = slice(part * length, (part + 1) * length)
                        expected[row, units] += weights[row, part, word] * codebooks[part, word]
            np.testing.assert_allclose(found.detach(), expected, rtol=1e-4, atol=1e-4)


def test_accept_starts_as_released(small_pack):
    """Kaiming over all but the first axis; gradients reach all at once, and two groups learn."""
    pack = small_pack("accept", seeds=[0], hidden=96, length=400, short_length=300, source_length=300)
    for tensor, slope in (
        (pack.weights, math.sqrt(5)),
        (pack.codebooks, math.sqrt(5)),
        (pack.added_weights, math.sqrt(5)),
        (pack.added_codebooks, 0),
    ):
        bound = math.sqrt(6 / ((1 + slope**2) * tensor[0, 0].numel()))
        assert 0.8 * bound < tensor.abs().max() <= bound
    (pack().prompt.sum() + pack().offset.sum()).backward()
    assert all(parameter.grad.any() for parameter in pack.parameters())
    groups = pack.parameter_groups()
    assert [len(group) for group in groups.values()] == [2, 2] and list(groups) == ["prompt", "added"]


def test_accept_cuts_and_fills_the_added_rows(small_pack, randomize):
    source = randomize(small_pack("accept", source_length=9))
    for source_length in (5, 14):
        target = small_pack("accept", seeds=[3], source_length=source_length)
        target.load_tensors(0, source.tensors(0))
        kept = min(9, source_length)
        torch.testing.assert_close(target().offset[0, :kept], source().offset[0, :kept])
        assert not target().offset[0, kept:].any()


def test_accept_needs_codewords_that_divide_the_hidden_size(small_pack):
    with pytest.raises(InputError, match=r"accept\.added_word_length.*\b5\b.*\b12\b"):
        small_pack("accept", methods={"accept": AcceptSettings(added_word_length=5)})
    whole = small_pack("accept", methods={"accept": AcceptSettings(word_length=500, words=3)})
    assert whole.codebooks.shape == (1, 1, 3, 12)


def test_residual_is_its_formula(small_pack, randomize):
    def formula(run, t):
        outer = np.maximum(t["prompt"] @ t["W_1"] + t["b_1"], 0) @ t["W_2"] + t["b_2"]
        centered = outer - outer.mean(-1, keepdims=True)
        normed = centered / np.sqrt(centered.var(-1, keepdims=True) + 1e-5)
        return t["prompt"] + t["scale"] * normed + t["shift"]

    prompts_equal(randomize(small_pack("residual", seeds=[0, 1])), formula)


def test_residual_starts_with_linear_layers(small_pack):
    pack = small_pack("residual", hidden=100)
    for tensor, inputs in ((pack.W_1, 100), (pack.b_1, 100), (pack.W_2, 5), (pack.b_2, 5)):
        bound = 1 / math.sqrt(inputs)
        assert 0.5 * bound < tensor.abs().max() <= bound
    groups = pack.parameter_groups()
    assert groups["prompt"] == [pack.prompt] and len(groups["network"]) == 6
