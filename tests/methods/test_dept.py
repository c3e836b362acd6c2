"""DePT against its published adapter and the recipe of its released code."""

import math

import pytest
import torch

from ept.config.settings import EptSettings, PromptSettings
from ept.methods.build import build_prompt_module
from ept.methods.prompt import combine


@pytest.fixture(scope="module")
def t5_of_base_size(tiny_t5):
    """One layer of hidden size 768, so that the published adapter fits."""
    return tiny_t5(hidden=768, layers=1, vocabulary=100)


@pytest.fixture(scope="module")
def published_pack(t5_of_base_size, published_adapter):
    """The published adapter in a pack of DePT."""
    pack = build_prompt_module(
        "dept", t5_of_base_size.shared.weight, PromptSettings(short_length=80), EptSettings(), 256, [0]
    )
    pack.load_tensors(0, published_adapter)
    return pack


def test_published_adapter_fits_the_default_budget(published_pack):
    assert published_pack.rank == 15
    assert published_pack.trained_parameters == published_pack.stored_parameters == 76_800


@torch.no_grad()
def test_prompt_and_offset_equal_the_formula(published_pack, published_adapter):
    output = published_pack()
    A, B = published_adapter["A"].double(), published_adapter["B"].double()
    expected = 8 / math.sqrt(15) * A @ B
    assert torch.equal(output.prompt[0], published_adapter["prompt"])
    torch.testing.assert_close(output.offset[0].double(), expected, rtol=1e-5, atol=1e-6)
    # Sizes known of trained adapters, to one decimal: a mistake in the scale would leave these ranges.
    assert 27 <= round(float(output.prompt.std())) <= 33
    assert 0.2 <= round(float(output.offset.std()), 1) <= 0.5
    assert 0.6 <= round(float(output.offset[0, :30].std()), 1) <= 1.4


def test_offset_of_the_batch_length_equals_the_recipe_that_pads_to_m(
    published_pack, published_adapter, t5_of_base_size
):
    """The released code pads the text to m = 256, adds γ A B to all positions and prepends the prompt."""
    model, length = t5_of_base_size, 20
    lengths = [20, 11, 3]
    source = torch.randint(2, 100, (3, length), generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(length) < torch.tensor(lengths)[:, None]).long()
    source = source * mask
    target = torch.tensor([[5, 1], [6, 1], [7, 1]])

    padded = torch.nn.functional.pad(source, (0, 256 - length))
    offset = published_adapter["A"] @ published_adapter["B"] * 8 / math.sqrt(15)
    prompt = published_adapter["prompt"].expand(3, -1, -1)
    recipe = torch.cat([prompt, model.shared(padded) + offset], dim=1)
    recipe_mask = torch.nn.functional.pad(torch.cat([mask.new_ones(3, 80), mask], 1), (0, 256 - length))
    expected = model(inputs_embeds=recipe, attention_mask=recipe_mask, labels=target)

    embeddings, joined_mask = combine(published_pack(), model.shared(source)[None], mask[None])
    assert embeddings.shape == (3, 80 + length, 768)
    found = model(inputs_embeds=embeddings, attention_mask=joined_mask, labels=target)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
    text = joined_mask.bool()
    expected_encoder = expected.encoder_last_hidden_state[:, : 80 + length]
    torch.testing.assert_close(found.encoder_last_hidden_state[text], expected_encoder[text], rtol=1e-4, atol=1e-4)


def test_start_is_a_short_prompt_alone(small_pack):
    """B = 0: no offset; A within the bound of Kaiming-uniform(a = sqrt 5) over its r columns, 1 / sqrt(r)."""
    pack = small_pack("dept", source_length=400)
    output = pack()
    assert output.prompt.shape == (1, 4, 12) and output.offset.shape == (1, 400, 12)
    assert not output.offset.any()
    bound = 1 / math.sqrt(pack.rank)
    assert 0.98 * bound < pack.A.abs().max() <= bound
    assert float(pack.A.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_two_groups_and_first_gradients(small_pack):
    pack = small_pack("dept", seeds=[0, 1])
    groups = pack.parameter_groups()
    assert groups["prompt"] == [pack.prompt]
    assert len(groups["low_rank"]) == 2
    pack().offset.square().sum().backward()
    assert not pack.A.grad.any()
    (pack().offset + 1).square().sum().backward()
    assert pack.B.grad.any()


@pytest.mark.parametrize("method", ["dept", "ept"])
@pytest.mark.parametrize("source_length", [5, 9, 14])
def test_transfer_to_another_source_length(small_pack, randomize, method, source_length):
    source = randomize(small_pack(method, source_length=9))
    target = small_pack(method, seeds=[7, 8], source_length=source_length)
    before = {name: tensor.clone() for name, tensor in target.tensors(0).items()}
    target.load_tensors(1, source.tensors(0))
    loaded, kept = target.tensors(1), min(9, source_length)
    assert torch.equal(loaded["A"][:kept], source.A[0, :kept])
    for name in loaded.keys() - {"A"}:
        assert torch.equal(loaded[name], source.tensors(0)[name])
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.tensors(0).items())
    fresh = loaded["A"][kept:]
    assert len(fresh) == source_length - kept and not fresh.any()
    # The text beyond the source's length is not changed at first, and its rows still learn.
    output = target()
    assert not output.offset[1, kept:].any() and output.offset[1, :kept].any()
    output.offset[1].sum().backward()
    assert target.A.grad[1, :, :].abs().sum(1).min() > 0


def test_missing_rows_are_zero_whatever_was_loaded_before(small_pack, randomize):
    """Sources are tried one after another: a longer one leaves nothing in the rows that a shorter lacks."""
    short, long = (randomize(small_pack("dept", source_length=m)) for m in (5, 14))
    tried = small_pack("dept", seeds=[3], source_length=14)
    tried.load_tensors(0, long.tensors(0))
    tried.load_tensors(0, short.tensors(0))
    assert torch.equal(tried.A[0, :5], short.A[0]) and not tried.A[0, 5:].any()
