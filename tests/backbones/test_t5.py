"""Our blocks against transformers': position buckets, configurations, cross-attention, modules that are shared."""

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional
from transformers.models.t5.modeling_t5 import T5Attention

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.t5 import ACTIVATIONS, T5, Attention, FrozenNorm, LayerCache, Norm, position_buckets
from ept.backbones.t5_config import T5Config
from tiny_models import VERSIONS, make_t5

DISTANCES = torch.arange(-600, 601)


@pytest.mark.parametrize("both_sides", [True, False])
@pytest.mark.parametrize(
    ("buckets", "max_distance"), [(32, 128), (32, 20), (8, 128), (10, 37), (7, 50), (64, 1000), (4, 3), (32, 600)]
)
def test_position_buckets_are_those_of_transformers(buckets, max_distance, both_sides):
    expected = T5Attention._relative_position_bucket(DISTANCES, both_sides, buckets, max_distance)
    assert torch.equal(position_buckets(DISTANCES, buckets, max_distance, both_sides), expected)
    square = DISTANCES[None, ::40] - DISTANCES[::40, None]
    expected = T5Attention._relative_position_bucket(square, both_sides, buckets, max_distance)
    assert torch.equal(position_buckets(square, buckets, max_distance, both_sides), expected)


# What config.json of the published models says, without what no model depends on.
PUBLISHED = {
    "t5-base": dict(d_model=768, d_ff=3072, num_heads=12, num_layers=12, dropout_rate=0.1, n_positions=512),
    "t5-3b": dict(d_model=1024, d_kv=128, d_ff=16384, num_heads=32, num_layers=24),
    "t5-v1_1-base": dict(
        d_model=768,
        d_ff=2048,
        num_heads=12,
        num_layers=12,
        num_decoder_layers=12,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    ),
    "flan-t5-small": dict(
        d_model=512,
        d_ff=1024,
        num_heads=6,
        num_layers=8,
        num_decoder_layers=8,
        feed_forward_proj="gated-gelu",
        dense_act_fn="gelu_new",
        is_gated_act=True,
        relative_attention_max_distance=128,
        tie_word_embeddings=False,
    ),
    "mt5-small": dict(
        d_model=512,
        d_ff=1024,
        num_heads=6,
        num_layers=8,
        num_decoder_layers=8,
        vocab_size=250112,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    ),
    "ul2": dict(
        d_model=4096,
        d_kv=256,
        d_ff=16384,
        num_heads=16,
        num_layers=32,
        num_decoder_layers=32,
        feed_forward_proj="gated-silu",
        tie_word_embeddings=False,
        scalable_attention=True,
    ),
    "uneven": dict(num_layers=3, num_decoder_layers=5, relative_attention_num_buckets=16, layer_norm_epsilon=1e-5),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_configuration_means_what_it_means_to_transformers(name):
    values = PUBLISHED[name]
    own, theirs = T5Config.of(values), transformers.T5Config(**values)
    for field in set(T5Config.__dataclass_fields__) - {"tie_word_embeddings", "decoder_start_token_id"}:
        assert getattr(own, field) == getattr(theirs, field), field
    assert (own.gated, own.activation) == (theirs.is_gated_act, theirs.dense_act_fn)
    # transformers 5 says of every T5 that its head is tied, and finds out when it loads.
    assert own.tie_word_embeddings == values.get("tie_word_embeddings", True)
    assert own.decoder_start_token_id == own.pad_token_id == 0
    # What transformers writes of it is read as the same.
    again = theirs.to_dict() | {"tie_word_embeddings": own.tie_word_embeddings}
    assert T5Config.of(again) == own


def test_activations_are_those_of_transformers():
    x = torch.linspace(-6, 6, 101)
    for name, function in ACTIVATIONS.items():
        torch.testing.assert_close(function(x), transformers.activations.ACT2FN[name](x))


@pytest.mark.parametrize(
    "wrong",
    [
        {"d_model": 0},
        {"num_heads": "8"},
        {"d_kv": 2.5},
        {"tie_word_embeddings": 1},
        {"eos_token_id": -1},
        {"feed_forward_proj": "gated-tanh"},
        {"vocab_size": True},
        {"layer_norm_epsilon": 0},
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_named(wrong):
    ((key, value),) = wrong.items()
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        T5Config.of(wrong)
    assert key in str(caught.value) and repr(value) in str(caught.value)


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def dtype(request):
    return request.param


HIDDEN = 16


def _attention(dtype):
    torch.manual_seed(0)
    return Attention(T5Config(d_model=HIDDEN, d_kv=8, num_heads=3)).to(dtype).requires_grad_(False)


def _cross_inputs(dtype, queries, seed=1):
    """Hidden [3, queries, 16], encoded [3, 9, 16] and a bias [3, 1, 1, 9] that closes some positions."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(3, queries, HIDDEN, generator=generator).to(dtype).requires_grad_()
    encoded = torch.randn(3, 9, HIDDEN, generator=generator).to(dtype).requires_grad_()
    bias = torch.zeros(3, 1, 1, 9, dtype=dtype)
    bias[1, ..., 4:] = torch.finfo(dtype).min
    return hidden, encoded, bias


def _with_gradients(attention, dtype, queries, cache=None):
    """Output and gradients of hidden and encoded."""
    hidden, encoded, bias = _cross_inputs(dtype, queries)
    out = attention.cross(hidden, encoded, bias, cache)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(2))
    (out.float() * weights).sum().backward()
    return out.detach(), hidden.grad, encoded.grad


@pytest.mark.parametrize("queries", [1, 3, 7, 8, 9])
def test_cross_attention_without_keys_is_that_with_keys(dtype, queries, monkeypatch):
    """With a cache keys are made, so that both ways can be compared."""
    attention = _attention(dtype)
    taken = []
    own = attention._cross_without_keys
    monkeypatch.setattr(attention, "_cross_without_keys", lambda *inputs: taken.append(1) or own(*inputs))
    found = _with_gradients(attention, dtype, queries)
    assert len(taken) == (queries < attention.width)
    expected = _with_gradients(attention, dtype, queries, LayerCache())
    close = {} if dtype == torch.float32 else dict(rtol=0.05, atol=0.05)
    for own_part, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own_part, other, **close)
    assert (found[2][1, 4:] == 0).all() and (found[2][1, :4] != 0).any()


def _lora(attention):
    model = nn.ModuleDict({"cross": attention})
    peft = get_peft_model(model, LoraConfig(r=2, target_modules=["k", "v"], init_lora_weights=False))
    return peft.base_model.model["cross"]


def _hooked(attention):
    attention.v.register_forward_hook(lambda module, inputs, output: output * 1.5 + 1)
    return attention


def _pre_hooked(attention):
    attention.k.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
    return attention


def _biased(attention):
    attention.v.bias = nn.Parameter(torch.linspace(-1, 1, attention.v.out_features, dtype=attention.v.weight.dtype))
    return attention


def _replaced(attention):
    class Doubled(nn.Linear):
        def forward(self, hidden):
            return super().forward(hidden) * 2

    k = Doubled(HIDDEN, attention.k.out_features, bias=False, dtype=attention.k.weight.dtype)
    k.weight = attention.k.weight
    attention.k = k
    return attention


@pytest.mark.parametrize("change", [_lora, _hooked, _pre_hooked, _biased, _replaced])
def test_changed_modules_are_called_as_modules(dtype, change):
    """What keys and values are is for the modules to say, however few queries there are."""
    attention = change(_attention(dtype)).requires_grad_(False)
    found = _with_gradients(attention, dtype, 2)
    for own, other in zip(found, _with_gradients(attention, dtype, 2, LayerCache()), strict=True):
        torch.testing.assert_close(own, other)
    assert not torch.allclose(found[0], _with_gradients(_attention(dtype), dtype, 2)[0], rtol=0.01)


def test_cross_attention_without_keys_trains_its_weights():
    """Fine-tuning of the whole backbone reaches W_k and W_v this way too."""
    gradients = []
    for cache in (None, LayerCache()):
        attention = _attention(torch.float32).requires_grad_()
        _with_gradients(attention, torch.float32, 2, cache)
        gradients.append([parameter.grad for parameter in attention.parameters()])
    for own, other in zip(*gradients, strict=True):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("version", VERSIONS)
def test_around_shares_every_module_and_weight(version):
    theirs = make_t5(version)
    own = T5.around(theirs)
    assert {parameter.data_ptr() for parameter in own.parameters()} == {p.data_ptr() for p in theirs.parameters()}
    modules = dict(theirs.named_modules())
    for name, module in own.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            assert module is modules[name]
    own_state, state = own.state_dict(), theirs.state_dict()
    assert all(tensor.data_ptr() == state[name].data_ptr() for name, tensor in own_state.items())
    # A hook or a change on one side counts on both.
    backbone = EncoderDecoder(theirs)
    embeddings, mask, targets = torch.randn(2, 5, 16), torch.ones(2, 5), torch.tensor([[3, 1], [4, 1]])
    before = backbone.token_losses(embeddings, mask, targets)
    with torch.no_grad():
        theirs.decoder.block[1].layer[1].EncDecAttention.v.weight.mul_(2)
        theirs.encoder.final_layer_norm.weight.mul_(0.5)
    after = backbone.token_losses(embeddings, mask, targets)
    assert not torch.allclose(before, after)
    output = theirs(inputs_embeds=embeddings, attention_mask=mask, labels=targets)
    torch.testing.assert_close(after.sum() / 4, output.loss)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 3), length=st.integers(1, 40), pieces=st.integers(1, 12))
def test_losses_are_those_of_transformers_for_any_shape(seed, rows, length, pieces):
    """Few target pieces and many: with keys of cross-attention and without."""
    t5 = make_t5(list(VERSIONS)[seed % 2])
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(rows, length, 16, generator=generator)
    mask = (torch.arange(length) < torch.randint(1, length + 1, (rows, 1), generator=generator)).long()
    targets = torch.randint(0, 40, (rows, pieces), generator=generator)
    found = EncoderDecoder(t5).token_losses(embeddings, mask, targets)
    with torch.no_grad():
        output = t5(inputs_embeds=embeddings, attention_mask=mask, labels=targets)
    torch.testing.assert_close(found.mean(), output.loss, rtol=1e-4, atol=1e-4)


def test_the_gradient_of_the_frozen_norm_is_the_true_one():
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((3, 5, 8), (8,)))
    expected = hidden / (hidden.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight
    torch.testing.assert_close(FrozenNorm.apply(hidden, weight, 1e-3), expected)
    assert torch.autograd.gradcheck(lambda x: FrozenNorm.apply(x, weight, 1e-3), hidden.requires_grad_())


def _attention_in_float64(queries, keys, values, bias, gradient):
    """Outputs and the gradients of queries, keys and values, by the textbook."""
    queries, keys, values, bias, gradient = (part.double().numpy() for part in (queries, keys, values, bias, gradient))
    scores = queries @ keys.swapaxes(-1, -2) + bias
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    inner = gradient @ values.swapaxes(-1, -2)
    inner = weights * (inner - (inner * weights).sum(-1, keepdims=True))
    return weights @ values, inner @ keys, inner.swapaxes(-1, -2) @ queries, weights.swapaxes(-1, -2) @ gradient


@pytest.mark.parametrize("length", [3, 50, 150])
def test_attention_in_bfloat16_is_as_exact_as_the_fused_one(length):
    torch.manual_seed(length)
    attention = Attention(T5Config.of(make_t5("v1.0").config.to_dict())).bfloat16()
    attention.o = nn.Identity()
    heads, width = 4, attention.width
    parts = [torch.randn(2, heads, length, width).bfloat16().requires_grad_() for _ in range(3)]
    gradient = torch.randn(2, length, heads * width).bfloat16()
    bias = torch.randn(2, heads, length, length).bfloat16()
    bias[0, :, :, length // 2 :] = torch.finfo(torch.bfloat16).min
    truth = _attention_in_float64(
        *(part.detach() for part in parts), bias, gradient.unflatten(-1, (heads, width)).transpose(1, 2)
    )

    def errors(output):
        found = output.unflatten(-1, (heads, width)).transpose(1, 2)
        gradients = torch.autograd.grad(output, parts, gradient)
        pairs = zip((found.detach(), *gradients), truth, strict=True)
        return [np.abs(one.double().numpy() - other).max() / np.abs(other).max() for one, other in pairs]

    fused = functional.scaled_dot_product_attention(*parts, attn_mask=bias, scale=1.0).transpose(1, 2).flatten(2)
    for own, other in zip(errors(attention._attend(*parts, bias)), errors(fused), strict=True):
        assert own < max(1.5 * other, 2**-7)


@pytest.mark.parametrize("width", [16, 64])
@pytest.mark.parametrize("length", [3, 50, 150])
def test_attention_in_bfloat16_is_as_exact_without_gradients(length, width):
    torch.manual_seed(length)
    attention = Attention(T5Config.of(make_t5("v1.0").config.to_dict())).bfloat16()
    attention.o, attention.width = nn.Identity(), width
    parts = [torch.randn(2, 4, length, width).bfloat16() for _ in range(3)]
    bias = torch.randn(2, 4, length, length)
    bias[0, :, :, length // 2 :] = torch.finfo(torch.float32).min
    truth = _attention_in_float64(*parts, bias, parts[2])[0]
    with torch.inference_mode():
        found = attention._attend(*parts, bias).unflatten(-1, (4, width)).transpose(1, 2)
    assert np.abs(found.double().numpy() - truth).max() / np.abs(truth).max() < 2**-7


def test_the_frozen_norm_in_bfloat16_rounds_once():
    torch.manual_seed(0)
    norm = Norm(64, 1e-6).requires_grad_(False)
    norm.weight.copy_(torch.randn(64).bfloat16())
    hidden = (5 * torch.randn(3, 7, 64)).bfloat16()
    gradient = torch.randn(3, 7, 64).bfloat16()
    found = {}
    for dtype in (torch.bfloat16, torch.float64):
        inputs = hidden.to(dtype).requires_grad_()
        weight = norm.weight.to(dtype)
        # The definition in float64; the product with the weight in bfloat16 rounds a second time.
        exact = inputs / (inputs.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight
        output = FrozenNorm.apply(inputs, weight, 1e-6) if dtype == torch.bfloat16 else exact
        found[dtype] = [part.double() for part in (output, *torch.autograd.grad(output, inputs, gradient.to(dtype)))]
    for own, exact in zip(found[torch.bfloat16], found[torch.float64], strict=True):
        assert ((own - exact).abs() <= 2**-7 * exact.abs() + 2**-8 * exact.abs().max()).all()
