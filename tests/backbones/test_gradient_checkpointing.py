"""Gradient checkpointing: the same gradients, bit for bit, from less that is kept."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.load import load_backbone
from ept.config.settings import BaselineSettings
from ept.demo.identity import BACKBONE_FOLDER
from ept.methods.build import build_weight_module
from tiny_models import make_t5, t5_inputs

SMALL = BaselineSettings(adapter_reduction=4, adapterdrop_layers=1, lora_rank=2, lst_reduction=4, lst_skip_every=2)


def _gradients(backbone, method=None):
    """Losses, the gradient of the input, and those of what `method` trains inside the backbone."""
    embeddings, mask, targets = t5_inputs()
    embeddings.requires_grad_()
    pack = build_weight_module(method, backbone, SMALL, seed=0) if method else None
    trained = list(pack.parameters()) if pack else []
    losses = backbone.token_losses(embeddings, mask, targets)
    # LST hands no gradient to the input.
    wanted = trained if method == "lst" else [embeddings, *trained]
    found = torch.autograd.grad(losses.sum(), wanted, allow_unused=True)
    if pack:
        pack.close()
    return [losses.detach(), *found]


@pytest.mark.parametrize("method", [None, "lora", "adapter", "lst", "bitfit"])
def test_gradients_are_the_same(t5, method):
    kept, computed_again = (EncoderDecoder(t5, gradient_checkpointing) for gradient_checkpointing in (False, True))
    found, expected = _gradients(computed_again, method), _gradients(kept, method)
    assert len(found) > 1 and sum(part is not None and bool(part.any()) for part in expected) > 1
    for own, other in zip(found, expected, strict=True):
        assert (own is None and other is None) or torch.equal(own, other)


def _kept_bytes(backbone, rows=4, length=60):
    """What one forward pass keeps for the backward pass, but for the frozen weights."""
    frozen = {parameter.data_ptr() for parameter in backbone.model.parameters()}
    kept = {}

    def keep(tensor):
        if tensor.data_ptr() not in frozen:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    embeddings = torch.randn(rows, length, backbone.hidden_size, dtype=backbone.dtype).requires_grad_()
    targets = torch.full((rows, 2), backbone.eos_id)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = backbone.token_losses(embeddings, torch.ones(rows, length), targets)
    losses.sum().backward()
    return sum(kept.values())


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_less_is_kept(quantization):
    """Of a block its input alone: of the demonstration backbone's five blocks less than a third is left."""
    kept, less = (
        _kept_bytes(load_backbone(BACKBONE_FOLDER, quantization=quantization, gradient_checkpointing=checkpointing))
        for checkpointing in (False, True)
    )
    assert 0 < less < kept / 3


def test_more_positions_fit():
    t5 = make_t5("v1.0")
    assert EncoderDecoder(t5, gradient_checkpointing=True).most_positions > 2 * EncoderDecoder(t5).most_positions
