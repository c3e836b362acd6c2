"""Quantized backbones against transformers' and against themselves in float32.

They are the demonstration's T5, a small Llama and GPT-2.
"""

import copy
import shutil

import bitsandbytes
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BitsAndBytesConfig,
    T5ForConditionalGeneration,
)

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.load import load_backbone
from ept.backbones.quantize import quantized_linear, weight_of
from ept.config.settings import BaselineSettings, EptSettings, PromptSettings
from ept.demo.identity import BACKBONE_FOLDER
from ept.methods.build import build_prompt_module, build_weight_module
from ept.methods.prompt import combine
from ept.methods.prompt_file import read_prompt, save_prompt
from tiny_models import make_wide_causal


@pytest.fixture(scope="module", params=["t5", "llama", "gpt2"])
def kind(request):
    return request.param


@pytest.fixture(scope="module", params=["nf4", "int8"])
def quantization(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    """The backbone's folder; Llama and GPT-2 are random."""
    if kind == "t5":
        return BACKBONE_FOLDER
    saved = tmp_path_factory.mktemp(kind)
    make_wide_causal(kind).save_pretrained(saved)
    return saved


@pytest.fixture(scope="module")
def plain(folder):
    return load_backbone(folder)


@pytest.fixture(scope="module")
def quantized(folder, quantization):
    """Quantized, computing in float32."""
    return load_backbone(folder, quantization=quantization)


def _linears(model):
    """The linear layers of the blocks by name."""
    return {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear) and name != "lm_head"
    }


def _weight(plain, name):
    """The float32 weight [outputs, inputs] of a layer, a view that can be written; GPT-2 holds it turned."""
    layer = plain.model.get_submodule(name)
    return layer.weight.data if isinstance(layer, nn.Linear) else layer.weight.data.T


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


def test_the_same_numbers_as_through_transformers(folder, quantized, quantization, kind):
    """Except for T5's `wo`, which transformers leaves unquantized in 4 bit too."""
    options = {
        "nf4": dict(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        ),
        "int8": dict(load_in_8bit=True),
    }[quantization]
    model_class = AutoModelForSeq2SeqLM if kind == "t5" else AutoModelForCausalLM
    theirs = model_class.from_pretrained(
        folder, quantization_config=BitsAndBytesConfig(**options), dtype=torch.float32, device_map="cpu"
    )
    layers, compared = _linears(theirs), 0
    for layer in layers.values():
        # Without gradients and on some processors it would compute in bfloat16.
        layer.support_avx512bf16_for_cpu = False
    for name, own in _linears(quantized.model).items():
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
    ids, mask, targets = _batch(quantized)
    with torch.no_grad():
        if kind == "t5":
            # Their model works as a backbone of ours.
            found = EncoderDecoder(theirs).token_losses(theirs.shared(ids), mask, targets).mean()
            expected = theirs(input_ids=ids, attention_mask=mask, labels=targets).loss
        else:
            # Without padding, as they number positions.
            found = quantized.token_losses(quantized.embed(ids), torch.ones_like(mask), targets).mean()
            joined = torch.cat([ids, targets], 1)
            expected = theirs(input_ids=joined, labels=joined.masked_fill(torch.arange(22) < 20, -100)).loss
    # int8 rounds inputs: what is computed in another order may fall on another step.
    close = 1e-4 if quantization == "nf4" else 1e-2
    torch.testing.assert_close(found, expected, rtol=close, atol=close)


@pytest.mark.parametrize("kind", ["llama", "gpt2"], indirect=True)
def test_transformers_quantizes_as_we_do(plain, quantized, quantization):
    """Decoder-only models come from there, T5 from `quantized_linear`."""
    layers = _linears(quantized.model)
    assert len(layers) >= 20
    for name, layer in layers.items():
        own = quantized_linear(_weight(plain, name).contiguous(), quantization)
        assert torch.equal(layer.weight.data, own.weight.data)
        torch.testing.assert_close(weight_of(layer), weight_of(own), rtol=0, atol=0)


def test_memory_of_the_linear_layers(folder, quantization):
    """Against float32, from the bytes of the tensors."""
    backbone = load_backbone(folder, "bfloat16", quantization=quantization)
    model = backbone.model
    layers = _linears(model)
    held = sum(map(_bytes, layers.values()))
    full = sum(4 * layer.in_features * layer.out_features for layer in layers.values())
    assert held <= 0.35 * full
    assert {type(layer) for name, layer in layers.items() if quantization == "nf4" or not name.endswith("wo")} == {
        bitsandbytes.nn.Linear4bit if quantization == "nf4" else bitsandbytes.nn.Linear8bitLt
    }
    assert {backbone.embedding.dtype, model.lm_head.weight.dtype} == {torch.bfloat16}


def test_the_model_is_that_of_the_weights_which_4_bits_stand_for(folder, plain):
    quantized, same = load_backbone(folder, quantization="nf4"), copy.deepcopy(plain)
    for name, layer in _linears(quantized.model).items():
        _weight(same, name).copy_(weight_of(layer))
    ids, mask, targets = _batch(plain)
    found, expected = (plain.embed(ids).requires_grad_() for _ in range(2))
    losses = quantized.token_losses(found, mask, targets), same.token_losses(expected, mask, targets)
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)
    for loss in losses:
        loss.sum().backward()
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in quantized.model.parameters())


def test_the_loss_is_as_close_as_errors_of_that_size_must_leave_it(plain, quantized):
    """The tolerance is three times the mean change that random noise in the weights causes.

    The noise moves each layer's outputs as far as its quantization does.
    """
    inputs = {}
    layers = {name: layer for name, layer in _linears(quantized.model).items() if type(layer) is not nn.Linear}
    hooks = [
        layer.register_forward_hook(lambda _, x, out, name=name: inputs.update({name: x[0].flatten(0, 1)}))
        for name, layer in layers.items()
    ]
    found, expected, changes = _loss(quantized), _loss(plain), []
    for hook in hooks:
        hook.remove()
    for draw in range(6):
        noisy, generator = copy.deepcopy(plain), torch.Generator().manual_seed(draw)
        for name, layer in layers.items():
            weight, x = _weight(noisy, name), inputs[name]
            error = layer(x) - functional.linear(x, weight, layer.bias)
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(noise * (error.norm() / (x @ noise.T).norm()))
        changes.append(abs(_loss(noisy) - expected))
    assert len(layers) > 20 and found != expected
    assert abs(found - expected) <= 3 * np.mean(changes)


PROMPT = PromptSettings(length=8, short_length=5, reference_length=20)


def _prompts(backbone, method="ept"):
    return build_prompt_module(method, backbone.embedding, PROMPT, EptSettings(), 20, [0])


def _prompted_loss(backbone, prompts):
    ids, mask, targets = _batch(backbone)
    embeddings, mask = combine(prompts(), backbone.embed(ids)[None], mask[None])
    return backbone.token_losses(embeddings, mask, targets).mean()


def _fit(backbone, pack, loss, rate, steps=12):
    """Losses before and after."""
    optimizer = torch.optim.Adam(pack.parameters(), lr=rate)
    before = loss().item()
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return before, loss().item()


def _held(backbone):
    return {name: layer.weight.data.clone() for name, layer in _linears(backbone.model).items()}


def test_prompts_train_and_serve_the_unquantized_model(plain, quantized, tmp_path):
    held, prompts = _held(quantized), _prompts(quantized)
    # As in training: validation first, without gradients.
    with torch.inference_mode():
        _prompted_loss(quantized, prompts)
    before, after = _fit(quantized, prompts, lambda: _prompted_loss(quantized, prompts), rate=0.3)
    assert after < 0.7 * before
    assert all(torch.equal(layer, held[name]) for name, layer in _held(quantized).items())

    save_prompt(tmp_path / "prompt.safetensors", prompts.tensors(0), prompts.collapse(0), {})
    reloaded = _prompts(plain)
    reloaded.load_tensors(0, read_prompt(tmp_path / "prompt.safetensors").tensors)
    with torch.no_grad():
        untrained, served = _prompted_loss(plain, _prompts(plain)), _prompted_loss(plain, reloaded)
    assert served < 0.7 * untrained


SMALL = BaselineSettings(adapter_reduction=4, adapterdrop_layers=1, lora_rank=4, lst_reduction=4, lst_skip_every=2)


def test_additions_train_beside_quantized_weights(quantized, plain, kind):
    """LoRA this way is QLoRA. The backbone is afterwards what it was, and what was trained fits the unquantized."""
    ids, mask, targets = _batch(quantized)
    for method in ["lora", "adapter", "lst"] if kind == "t5" else ["lora", "adapter"]:
        held, before_all = _held(quantized), _loss(quantized)
        pack = build_weight_module(method, quantized, SMALL, seed=0)
        loss = lambda: quantized.token_losses(quantized.embed(ids), mask, targets).mean()  # noqa: E731
        before, after = _fit(quantized, pack, loss, rate=0.01)
        assert after < 0.9 * before, method
        if method == "lora":
            kinds = {type(module).__module__ for module in quantized.model.modules()}
            assert "peft.tuners.lora.bnb" in kinds and "peft.tuners.lora.layer" not in kinds
        trained = {name: tensor.clone() for name, tensor in pack.tensors(0).items()}
        pack.close()
        assert all(torch.equal(layer, held[name]) for name, layer in _held(quantized).items())
        assert len(held) == len(_held(quantized)) and _loss(quantized) == before_all
        on_plain = build_weight_module(method, plain, SMALL, seed=0)
        on_plain.load_tensors(0, trained)
        on_plain.close()


def test_shards_are_quantized_alike(tmp_path):
    model = T5ForConditionalGeneration.from_pretrained(BACKBONE_FOLDER)
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    shutil.copy(BACKBONE_FOLDER / "config.json", tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    whole, shards = (load_backbone(folder, quantization="nf4") for folder in (BACKBONE_FOLDER, tmp_path))
    assert _loss(whole) == _loss(shards)
