"""Prompts over decoder-only models: PEFT's prompt tuning, packing, every method trains, weights stay or change."""

import numpy as np
import pytest
import torch
from peft import PromptTuningConfig, get_peft_model

from ept.backbones.decoder_only import DecoderOnly
from ept.methods.build import build_weight_module
from ept.methods.prompt import PromptOutput
from ept.training.step import pack_losses
from tiny_models import FAMILIES, HIDDEN, make_causal
from training.small_training import BASELINES, RATES, Run, accumulate, distance, make_grid, make_pack, make_split, train


@pytest.fixture(params=FAMILIES)
def backbone(request):
    return DecoderOnly(make_causal(request.param))


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Forty rows of 2 to 12 pieces with labels of two and three pieces."""
    lengths = np.random.default_rng(5).integers(2, 13, 40)
    return make_split(tmp_path_factory.mktemp("causal") / "train.arrow", lengths)


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradient_are_those_of_pefts_prompt_tuning(family, tmp_path):
    """On rows without padding; PEFT prepends its prompt to text and label and ignores -100."""
    split = make_split(tmp_path / "train.arrow", [9] * 4)
    batch = split.collate(np.array([0, 2]))
    backbone = DecoderOnly(make_causal(family))
    prompt = torch.randn(1, 3, HIDDEN, generator=torch.Generator().manual_seed(2)).requires_grad_()
    loss = pack_losses(backbone, PromptOutput(prompt, None), batch)[0]
    loss.backward()
    theirs = get_peft_model(make_causal(family), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    weight = theirs.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        weight.copy_(prompt[0])
    labels = torch.cat([torch.full_like(batch.input_ids, -100), batch.target_ids], 1)
    expected = theirs(input_ids=torch.cat([batch.input_ids, batch.target_ids], 1), labels=labels).loss
    expected.backward()
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(prompt.grad[0], weight.grad, atol=1e-6, rtol=1e-5)


def test_the_offset_counts_from_the_first_real_piece(backbone, split):
    """E + C row by row, each row alone and without padding."""
    generator = torch.Generator().manual_seed(3)
    prompt, offset = (torch.randn(1, length, HIDDEN, generator=generator) for length in (2, 12))
    output = PromptOutput(prompt, offset)
    rows = np.arange(6)
    found = pack_losses(backbone, output, split.collate(rows))[0]
    total = 0.0
    for row in rows:
        batch = split.collate(np.array([row]))
        text = backbone.embed(batch.input_ids) + output.offset[:, : batch.input_ids.shape[1]]
        joined = torch.cat([output.prompt, text], 1)
        total += backbone.token_losses(joined, torch.ones(joined.shape[:2]), batch.target_ids).sum()
    torch.testing.assert_close(found, total / int(split.target_lengths[rows].sum()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ["pt", "dept", "ept"])
def test_packed_gradients_are_those_of_separate_runs(backbone, split, method):
    rows = np.array([[0, 5, 9, 3], [7, 2, 20, 31]])
    together = make_pack(backbone, method, (0, 1))
    losses = accumulate(backbone, together, split, rows)
    for run, seed in enumerate((0, 1)):
        alone = make_pack(backbone, method, (seed,))
        loss = accumulate(backbone, alone, split, rows[run : run + 1])
        torch.testing.assert_close(losses[run : run + 1], loss, atol=1e-5, rtol=1e-5)
        found = {name: parameter.grad[run] for name, parameter in together.named_parameters()}
        expected = {name: parameter.grad[0] for name, parameter in alone.named_parameters()}
        assert max(distance(found, expected).values()) < 1e-4


@pytest.mark.parametrize("method", ["pt", "spot", "dept", "ept", "attempt", "mpt"])
def test_prompts_learn_and_the_backbone_stays_bit_by_bit(split, method):
    backbone = DecoderOnly(make_causal("llama"))
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    prompts = make_pack(backbone, method, (0, 1))
    train(backbone, prompts, split, make_grid(method, scales=(0.3,)))
    start = make_pack(backbone, method, (0, 1))
    rows = split.collate(np.tile(np.arange(40), 2))
    with torch.no_grad():
        assert (pack_losses(backbone, prompts(), rows) < pack_losses(backbone, start(), rows)).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.model.state_dict().items())


@pytest.mark.parametrize("method", ["fine_tuning", "bitfit", "lora", "adapter", "adapterdrop"])
def test_methods_inside_the_backbone_start_from_it_learn_and_leave_it_bit_by_bit(backbone, split, method):
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    batch, nothing = split.collate(np.arange(40)), PromptOutput(torch.zeros(1, 0, HIDDEN), None)
    with torch.no_grad():
        plain = pack_losses(backbone, nothing, batch)
    weights = build_weight_module(method, backbone, BASELINES, 0)
    with torch.no_grad():
        torch.testing.assert_close(pack_losses(backbone, weights(), batch), plain)
    train(backbone, weights, split, [Run(0, {"weights": RATES["weights"]})])
    with torch.no_grad():
        assert pack_losses(backbone, weights(), batch) < plain
    weights.close()
    after = backbone.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
