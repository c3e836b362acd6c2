"""ATTEMPT's mixture against NumPy; padding, packs, gradients."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ept.config.settings import AttemptSettings, EptSettings, MethodSettings, PromptSettings
from ept.errors import InputError
from ept.methods.build import build_prompt_module
from ept.methods.prompt import combine
from ept.methods.prompt_file import read_prompt, save_prompt

HIDDEN = 12
TRAINED_NORM = {"attempt": AttemptSettings(train_norm=True)}


def texts(runs=2, batch=3, length=6, seed=0):
    """Embeddings [runs, batch, length, 12] and a mask with padding, at least one piece a row."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, length + 1, (runs, batch, 1), generator=generator)
    return torch.randn(runs, batch, length, HIDDEN, generator=generator) * 3, (torch.arange(length) < lengths).long()


@pytest.fixture
def pack(small_pack, randomize):
    """Two runs with random values, scores of a size that makes the weights differ."""
    return larger(randomize(small_pack("attempt", seeds=[0, 1], methods=TRAINED_NORM)))


def larger(pack):
    with torch.no_grad():
        pack.scale.mul_(20)
    return pack


def mixture(tensors, sources, text):
    """P_target + Σ a_j P_j of one text [pieces, hidden] without padding, by the formula."""
    prompts = np.concatenate([sources, tensors["prompt"][None]])
    hidden = text.max(0) @ tensors["down"]
    hidden = (hidden / (1 + np.exp(-hidden))) @ tensors["up"]
    query = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5) * tensors["scale"] + tensors["shift"]
    scores = np.array([prompt.max(0) @ query for prompt in prompts]) / (math.e * len(query))
    weights = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    return tensors["prompt"] + sum(weight * prompt for weight, prompt in zip(weights, prompts, strict=True)), weights


def test_the_prompt_of_every_row_is_the_formula(pack):
    embeddings, mask = texts()
    found = pack().row_prompts(embeddings, mask).detach().numpy()
    spread = []
    for run in range(2):
        tensors = {name: tensor.double().numpy() for name, tensor in pack.tensors(run).items()}
        for row in range(3):
            text = embeddings[run, row, mask[run, row].bool()].double().numpy()
            expected, weights = mixture(tensors, pack.sources.double().numpy(), text)
            np.testing.assert_allclose(found[run, row], expected, rtol=1e-4, atol=1e-4)
            spread.append(weights)
    # A formula with equal weights would not be told from another.
    assert np.ptp(spread, axis=0).max() > 0.1


@settings(deadline=None, max_examples=20)
@given(padding=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_padding_changes_nothing(small_pack, randomize, padding, seed):
    pack = larger(randomize(small_pack("attempt", seeds=[0, 1], methods=TRAINED_NORM), seed))
    embeddings, mask = texts(seed=seed)
    # Padding larger than every piece would win each maximum.
    wider = torch.cat([embeddings, torch.full((2, 3, padding, HIDDEN), 100.0)], 2)
    mask_wider = torch.nn.functional.pad(mask, (0, padding))
    wider = torch.where(mask_wider.bool().unsqueeze(-1), wider, 100.0)
    assert torch.equal(pack().row_prompts(wider, mask_wider), pack().row_prompts(embeddings, mask))


def test_parts_of_a_pack_are_those_of_its_runs(pack, small_pack):
    """Slices and selections of the output, and gradients: what a run in a pack gets, it gets alone."""
    embeddings, mask = texts()
    weights = torch.randn(2, 3, 10, HIDDEN, generator=torch.Generator().manual_seed(2))
    whole = pack().row_prompts(embeddings, mask)
    (whole * weights).sum().backward()
    for run in range(2):
        part = slice(run, run + 1)
        for output in (pack().slice(run, run + 1), pack().select([run])):
            torch.testing.assert_close(output.row_prompts(embeddings[part], mask[part])[0], whole[run])
        alone = small_pack("attempt", seeds=[run], methods=TRAINED_NORM)
        alone.load_tensors(0, pack.tensors(run))
        (alone().row_prompts(embeddings[part], mask[part]) * weights[part]).sum().backward()
        for (name, packed), single in zip(pack.named_parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(packed.grad[run], single.grad[0], rtol=1e-4, atol=1e-5, msg=name)


def test_sources_are_frozen_parts_and_all_else_is_trained(pack):
    output = pack()
    assert not output.sources.requires_grad and output.offset is None
    trained = [part for part in output if part is not None and part.requires_grad]
    assert {id(part) for part in trained} == {id(parameter) for parameter in pack.parameters()}
    groups = pack.parameter_groups()
    assert groups["prompt"] == [pack.prompt] and len(groups["attention"]) == 4


def test_the_text_follows_its_prompt_in_the_dtype_of_the_backbone(pack):
    embeddings, mask = texts()
    joined, joined_mask = combine(pack(), embeddings.bfloat16(), mask)
    assert joined.shape == (6, 10 + 6, HIDDEN) and joined.dtype == torch.bfloat16
    assert torch.equal(joined[:, 10:], embeddings.bfloat16().flatten(0, 1))
    assert torch.equal(joined_mask, torch.cat([torch.ones(6, 10, dtype=torch.long), mask.flatten(0, 1)], 1))


@pytest.mark.parametrize(("train_norm", "expected"), [(False, 230_400), (True, 231_936)])
def test_parameters_on_t5_base(train_norm, expected):
    """Two maps without biases; papers print 232K, which counts scale and shift of the layer norm."""
    methods = MethodSettings(attempt=AttemptSettings(train_norm=train_norm))
    sources, embedding = torch.zeros(5, 100, 768), torch.ones(110, 768)
    pack = build_prompt_module(
        "attempt", embedding, PromptSettings(), EptSettings(), 256, [0], sources=sources, methods=methods
    )
    assert pack.trained_parameters == 76_800 + 2 * 768 * 100 + 2 * 768 * train_norm == expected
    assert pack.stored_parameters == expected + 5 * 76_800


def test_the_target_prompt_starts_as_the_first_source(small_pack):
    sources = 5 * torch.randn(3, 10, HIDDEN, generator=torch.Generator().manual_seed(1))
    started = small_pack("attempt", seeds=[0, 1], sources=sources)
    assert torch.equal(started.prompt.detach(), sources[:1].expand(2, -1, -1))
    assert not torch.equal(started.down[0], started.down[1])
    vocabulary = {"attempt": AttemptSettings(target_init="vocabulary")}
    fresh = small_pack("attempt", seeds=[0, 1], sources=sources, methods=vocabulary)
    assert torch.equal(fresh.prompt, small_pack("pt", seeds=[0, 1]).prompt)


def test_a_frozen_norm_is_neither_trained_nor_stored(small_pack):
    pack = small_pack("attempt", seeds=[0])
    assert pack.tensors(0).keys() == {"prompt", "down", "up"}
    embeddings, mask = texts(runs=1)
    (pack().row_prompts(embeddings, mask) ** 2).sum().backward()
    assert pack.scale.grad is None and pack.down.grad.any()
    served = type(pack).served(pack.collapse(0))
    assert torch.equal(served.row_prompts(embeddings, mask), pack().row_prompts(embeddings, mask))


def test_use_needs_what_the_file_holds(pack, small_pack, tmp_path):
    save_prompt(tmp_path / "prompt.safetensors", pack.tensors(1), pack.collapse(1), {"method": "attempt"})
    saved = read_prompt(tmp_path / "prompt.safetensors")
    assert sum(tensor.numel() for tensor in saved.collapsed.values()) == pack.stored_parameters
    again = small_pack("attempt", seeds=[9], sources=saved.collapsed["sources"], methods=TRAINED_NORM)
    again.load_tensors(0, saved.tensors)
    embeddings, mask = texts()
    expected = pack().row_prompts(embeddings, mask)[1]
    torch.testing.assert_close(again().row_prompts(embeddings[1:], mask[1:])[0], expected, rtol=0, atol=0)


def test_a_mixture_without_sources_is_refused(small_pack):
    for sources in (None, torch.zeros(0, 10, HIDDEN)):
        with pytest.raises(InputError, match="attempt.*tasks.source"):
            small_pack("attempt", sources=sources)
