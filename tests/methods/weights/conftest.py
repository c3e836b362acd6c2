"""Small backbones, and what every test of the weight-side methods does with them."""

import pytest
import torch

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.config.settings import BaselineSettings
from ept.methods import registry
from ept.methods.build import build_weight_module
from tiny_models import VERSIONS, make_t5, t5_inputs

SMALL = BaselineSettings(
    adapter_reduction=4, adapterdrop_layers=1, lora_rank=2, lora_alpha=6, lst_reduction=4, lst_skip_every=2
)
METHODS = [name for name, method in registry.METHODS.items() if not method.packed]


@pytest.fixture(params=VERSIONS)
def backbone(request):
    """A random T5 of each generation, as the training loads it."""
    return EncoderDecoder(make_t5(request.param))


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture
def inputs():
    return t5_inputs()


@pytest.fixture(scope="session")
def attach():
    """A function backbone, method -> its pack with small sizes."""

    def make(backbone, method, seed=0, settings=SMALL):
        return build_weight_module(method, backbone, settings, seed)

    return make


@pytest.fixture(scope="session")
def randomize():
    """A function that moves every trained tensor of a pack, as training would."""

    def move(pack, seed=0):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in pack.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
        return pack

    return move


@pytest.fixture(scope="session")
def losses():
    """A function backbone, inputs -> the loss of every target piece [rows, length].

    The texts are those that the backbone itself embeds plus `inputs`' embeddings.
    """

    def compute(backbone, inputs):
        embeddings, mask, targets = inputs
        ids = torch.arange(mask.numel()).view(mask.shape) % len(backbone.embedding)
        return backbone.token_losses(backbone.embed(ids) + embeddings.to(backbone.dtype), mask, targets)

    return compute
