"""Quantised layers against their formulas, and the quantised demonstration backbone against transformers' and against
itself in float32.
"""

import copy
import shutil

import bitsandbytes
import numpy as np
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from torch import nn
from transformers import BitsAndBytesConfig, T5ForConditionalGeneration

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.load import load_backbone
from ept.backbones.quantise import quantised_linear, weight_of
from ept.baselines.build import build_weights
from ept.baselines.settings import BaselineSettings
from ept.demo import BACKBONE_FOLDER
from ept.prompts.build import build_pack
from ept.prompts.combine import combine
from ept.prompts.save import read_prompt, save_prompt
from ept.prompts.settings import EptSettings, PromptSettings

# QLoRA (Dettmers et al. 2023), appendix E.
# fmt: off
NF4 = np.array([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
])
# fmt: on
QUANTIZATIONS = ["nf4", "int8"]


def _weight(seed=0, shape=(48, 128)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.05


def _input(seed=1, shape=(3, 7, 128)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_nf4_is_its_formula():
    """Each block of 64 divided by its largest size, rounded to the nearest of sixteen levels; those largest sizes
    less their mean are rounded to 8 bits, in steps of at most 0.9 / 64 of the largest of them.
    """
    weight = _weight()
    layer = quantised_linear(weight, "nf4")
    blocks = weight.numpy().astype(np.float64).reshape(-1, 64)
    largest = np.abs(blocks).max(1, keepdims=True)
    expected = NF4[np.abs(blocks[:, :, None] / largest[:, :, None] - NF4).argmin(2)] * largest
    found = dequantize_4bit(layer.weight.data, layer.weight.quant_state).numpy().reshape(-1, 64)
    step = 0.9 / 64 * np.abs(largest - largest.mean()).max()
    assert np.abs(found - expected).max() <= step / 2 + 1e-6
    assert np.abs(found - blocks).max() > 10 * step


def test_nf4_computes_with_the_weight_that_it_stands_for_and_gives_its_gradient():
    layer = quantised_linear(_weight(), "nf4")
    stands_for = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    x = _input().requires_grad_()
    found = layer(x)
    torch.testing.assert_close(found, x @ stands_for.T)
    (gradient,) = torch.autograd.grad(found.square().sum(), x)
    torch.testing.assert_close(gradient, 2 * (x @ stands_for.T) @ stands_for)


def test_int8_is_its_formula():
    """Weights and inputs in steps of a 127th of the largest of their row, where numbers above 6 do not count; columns
    that hold one are spared.
    """
    weight, x = _weight(), _input()
    x[1, 2, 5] = 8
    layer = quantised_linear(weight, "int8")

    def rounded(values):
        values = values.numpy().astype(np.float16).astype(np.float64)
        step = np.abs(np.where(np.abs(values) < 6, values, 0)).max(-1, keepdims=True) / 127
        return np.rint(values / step) * step

    weights, inputs = rounded(weight), rounded(x)
    inputs[..., 5] = x[..., 5]
    found = layer(x.requires_grad_())
    # Float16 holds eleven bits: a product that lies between two steps may fall on the other.
    tie = np.abs(inputs).max() / 127 * np.abs(weights).max()
    np.testing.assert_allclose(found.detach().numpy(), inputs @ weights.T, atol=2 * tie)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    step = float(weight.abs().max()) / 127
    np.testing.assert_allclose(gradient.numpy(), np.broadcast_to(weights.sum(0), x.shape), atol=1.01 * step)
    np.testing.assert_allclose(weight_of(layer).numpy(), weights, atol=1.01 * step)


@pytest.fixture(scope="module", params=QUANTIZATIONS)
def quantization(request):
    return request.param


@pytest.fixture(scope="module")
def plain():
    return load_backbone(BACKBONE_FOLDER)


@pytest.fixture(scope="module")
def quantised(quantization):
    """The demonstration backbone, quantised, computing in float32."""
    return load_backbone(BACKBONE_FOLDER, quantization=quantization)


def _linears(model):
    """The linear layers of the blocks by name."""
    return {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear) and name != "lm_head"
    }


def _batch(backbone, seed=0, rows=8):
    """Texts [rows, 20], mask with padding and targets [rows, 2] that `</s>` ends."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, len(backbone.embedding), (rows, 20), generator=generator)
    mask = (torch.arange(20) < torch.randint(5, 21, (rows, 1), generator=generator)).long()
    labels = torch.randint(3, len(backbone.embedding), (rows, 1), generator=generator)
    return ids, mask, torch.cat([labels, torch.full((rows, 1), backbone.eos_id)], 1)


def _loss(backbone, seed=0):
    ids, mask, targets = _batch(backbone, seed)
    with torch.no_grad():
        return float(backbone.token_losses(backbone.embed(ids), mask, targets).mean())


def _bytes(layer):
    """Of the weight and of every scale and table that belongs to it."""
    weight, state = layer.weight, getattr(layer.weight, "quant_state", None)
    parts = [weight.data]
    if state is not None:
        parts += [state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
    if weight.dtype == torch.int8:
        parts.append(layer.state.SCB if weight.SCB is None else weight.SCB)
    return sum(part.numel() * part.element_size() for part in parts)


def test_the_same_numbers_as_through_transformers(quantised, quantization):
    """Except for `wo`, which transformers leaves unquantised in 4 bit too."""
    options = {
        "nf4": dict(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        ),
        "int8": dict(load_in_8bit=True),
    }[quantization]
    theirs = T5ForConditionalGeneration.from_pretrained(
        BACKBONE_FOLDER, quantization_config=BitsAndBytesConfig(**options), dtype=torch.float32, device_map="cpu"
    )
    layers, compared = _linears(theirs), 0
    for name, own in _linears(quantised.model).items():
        if type(layers[name]) is nn.Linear:
            assert name.endswith("wo")
            continue
        assert type(own) is type(layers[name])
        assert torch.equal(own.weight.data, layers[name].weight.data), name
        if quantization == "nf4":
            state, other = own.weight.quant_state, layers[name].weight.quant_state
            assert torch.equal(state.absmax, other.absmax) and torch.equal(state.state2.absmax, other.state2.absmax)
        compared += 1
    assert compared > 20
    # Their model works as a backbone of ours.
    ids, mask, targets = _batch(quantised)
    with torch.no_grad():
        found = EncoderDecoder(theirs).token_losses(theirs.shared(ids), mask, targets).mean()
        expected = theirs(input_ids=ids, attention_mask=mask, labels=targets).loss
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_memory_of_the_linear_layers(quantization):
    """Against float32, from the bytes of the tensors."""
    model = load_backbone(BACKBONE_FOLDER, "bfloat16", quantization=quantization).model
    layers = _linears(model)
    held = sum(map(_bytes, layers.values()))
    full = sum(4 * layer.in_features * layer.out_features for layer in layers.values())
    assert held <= 0.35 * full
    assert {type(layer) for name, layer in layers.items() if quantization == "nf4" or not name.endswith("wo")} == {
        bitsandbytes.nn.Linear4bit if quantization == "nf4" else bitsandbytes.nn.Linear8bitLt
    }
    assert {model.shared.weight.dtype, model.lm_head.weight.dtype} == {torch.bfloat16}


def test_the_model_is_that_of_the_weights_which_4_bits_stand_for(plain):
    quantised, same = load_backbone(BACKBONE_FOLDER, quantization="nf4"), copy.deepcopy(plain)
    for name, layer in _linears(quantised.model).items():
        same.model.get_submodule(name).weight = nn.Parameter(weight_of(layer), requires_grad=False)
    ids, mask, targets = _batch(plain)
    found, expected = (plain.embed(ids).requires_grad_() for _ in range(2))
    losses = quantised.token_losses(found, mask, targets), same.token_losses(expected, mask, targets)
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)
    for loss in losses:
        loss.sum().backward()
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in quantised.model.parameters())


def test_the_loss_is_as_close_as_errors_of_that_size_must_leave_it(plain, quantised):
    """The tolerance is what random noise in the weights changes that moves each layer's outputs as far as its
    quantisation does: three times the mean over draws.
    """
    inputs = {}
    layers = {name: layer for name, layer in _linears(quantised.model).items() if type(layer) is not nn.Linear}
    hooks = [
        layer.register_forward_hook(lambda _, x, out, name=name: inputs.update({name: x[0].flatten(0, 1)}))
        for name, layer in layers.items()
    ]
    found, expected, changes = _loss(quantised), _loss(plain), []
    for hook in hooks:
        hook.remove()
    for draw in range(6):
        noisy, generator = copy.deepcopy(plain), torch.Generator().manual_seed(draw)
        for name, layer in layers.items():
            weight, x = noisy.model.get_submodule(name).weight, inputs[name]
            error = layer(x) - x @ weight.T
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(noise * (error.norm() / (x @ noise.T).norm()))
        changes.append(abs(_loss(noisy) - expected))
    assert len(layers) > 20 and found != expected
    assert abs(found - expected) <= 3 * np.mean(changes)


PROMPT = PromptSettings(length=8, short_length=5, reference_length=20)


def _prompts(backbone, method="ept"):
    return build_pack(method, backbone.embedding, PROMPT, EptSettings(), 20, [0])


def _prompted_loss(backbone, prompts):
    ids, mask, targets = _batch(backbone)
    embeddings, mask = combine(prompts(), backbone.embed(ids)[None], mask[None])
    return backbone.token_losses(embeddings, mask, targets).mean()


def _fit(backbone, pack, loss, rate, steps=12):
    """Losses before and after."""
    optimiser = torch.optim.Adam(pack.parameters(), lr=rate)
    before = loss().item()
    for _ in range(steps):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    return before, loss().item()


def _held(backbone):
    return {name: layer.weight.data.clone() for name, layer in _linears(backbone.model).items()}


def test_prompts_train_and_serve_the_unquantised_model(plain, quantised, tmp_path):
    held, prompts = _held(quantised), _prompts(quantised)
    # As in training: validation first, without gradients.
    with torch.inference_mode():
        _prompted_loss(quantised, prompts)
    before, after = _fit(quantised, prompts, lambda: _prompted_loss(quantised, prompts), rate=0.3)
    assert after < 0.7 * before
    assert all(torch.equal(layer, held[name]) for name, layer in _held(quantised).items())

    save_prompt(tmp_path / "prompt.safetensors", prompts.tensors(0), prompts.collapse(0), {})
    reloaded = _prompts(plain)
    reloaded.load_tensors(0, read_prompt(tmp_path / "prompt.safetensors").tensors)
    with torch.no_grad():
        untrained, served = _prompted_loss(plain, _prompts(plain)), _prompted_loss(plain, reloaded)
    assert served < 0.7 * untrained


SMALL = BaselineSettings(adapter_reduction=4, adapterdrop_layers=1, lora_rank=4, lst_reduction=4, lst_skip_every=2)


@pytest.mark.parametrize("method", ["lora", "adapter", "lst"])
def test_additions_train_beside_quantised_weights(quantised, method):
    """LoRA this way is QLoRA. The backbone is afterwards what it was."""
    held, before_all = _held(quantised), _loss(quantised)
    pack = build_weights(method, quantised, SMALL, seed=0)
    ids, mask, targets = _batch(quantised)
    loss = lambda: quantised.token_losses(quantised.embed(ids), mask, targets).mean()  # noqa: E731
    before, after = _fit(quantised, pack, loss, rate=0.01)
    assert after < 0.9 * before
    if method == "lora":
        wrapped = quantised.model.encoder.block[0].layer[0].SelfAttention.q
        assert type(wrapped).__module__ == "peft.tuners.lora.bnb"
    pack.close()
    assert _held(quantised).keys() == held.keys()
    assert all(torch.equal(layer, held[name]) for name, layer in _held(quantised).items())
    assert _loss(quantised) == before_all


def test_lora_of_a_quantised_backbone_fits_the_unquantised(plain):
    quantised = load_backbone(BACKBONE_FOLDER, quantization="nf4")
    own, other = build_weights("lora", quantised, SMALL, 0), build_weights("lora", plain, SMALL, 0)
    other.load_tensors(0, own.tensors(0))
    own.close()
    other.close()


def test_shards_are_quantised_alike(plain, tmp_path):
    model = T5ForConditionalGeneration.from_pretrained(BACKBONE_FOLDER)
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    shutil.copy(BACKBONE_FOLDER / "config.json", tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    whole, shards = (load_backbone(folder, quantization="nf4") for folder in (BACKBONE_FOLDER, tmp_path))
    assert _loss(whole) == _loss(shards)
