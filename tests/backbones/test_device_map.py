"""A backbone whose blocks are spread over devices.

Tensors that have only shapes and devices stand for those on GPUs (`lazy` is a kind of device that every build of torch
knows): an operation that mixes two devices fails with them as on hardware. Numbers, speed and memory need real GPUs.
"""

import pytest
import torch
from accelerate.hooks import attach_align_device_hook_on_blocks
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from ept.backbones.backbone import Form
from ept.backbones.decoder_only import DecoderOnly, device_map
from ept.backbones.encoder_decoder import EncoderDecoder, blocks_of
from ept.backbones.load import spread
from ept.backbones.t5 import T5
from ept.backbones.t5_config import T5Config
from tiny_models import FAMILIES, T5_SHAPE, make_causal

SHAPE = T5_SHAPE | dict(num_layers=3, num_decoder_layers=4)


def _model():
    with torch.device("meta"):
        return T5(T5Config(**SHAPE))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_blocks_keep_their_order_and_devices_share_their_parameters(count):
    model, devices = _model(), [f"lazy:{number}" for number in range(count)]
    places = spread(blocks_of(model), devices)
    assert list(places) == [f"encoder.block.{i}" for i in range(3)] + [f"decoder.block.{i}" for i in range(4)]
    assert list(places.values()) == sorted(places.values()) and set(places.values()) == set(devices)
    sizes = {name: sum(p.numel() for p in model.get_submodule(name).parameters()) for name in places}
    for device in devices:
        held = sum(size for name, size in sizes.items() if places[name] == device)
        # A border moves by at most half a block on either side.
        assert abs(held - sum(sizes.values()) / count) <= max(sizes.values())


@pytest.fixture
def fake(monkeypatch):
    # Checkpointing asks for a kind's module.
    monkeypatch.setattr(torch, "lazy", torch.cpu, raising=False)
    with FakeTensorMode(shape_env=ShapeEnv()) as mode:
        yield mode


def _move(module, device):
    """Put what a module itself holds on a device."""
    for name, parameter in list(module.named_parameters(recurse=False)):
        setattr(module, name, nn.Parameter(parameter.detach().to(device), requires_grad=False))
    for name, buffer in list(module.named_buffers(recurse=False)):
        setattr(module, name, buffer.to(device))


def _t5(places, rest, checkpointing=False):
    """A T5 with each block on its device of `places`, all else on `rest`."""
    model = T5(T5Config(**SHAPE))
    for name, module in model.named_modules():
        _move(module, places.get(".".join(name.split(".")[:3]), rest))
    return EncoderDecoder(model, checkpointing)


def _decoder_only(family, places, checkpointing):
    """A model as transformers loads it by a device map."""
    model = make_causal(family)
    for name, device in places.items():
        for module in model.get_submodule(name).modules():
            _move(module, device)
    model.tie_weights()
    attach_align_device_hook_on_blocks(model, places, skip_keys=model._skip_keys_device_placement)
    return DecoderOnly(model, checkpointing)


def test_devices_that_are_mixed_are_found_out(fake):
    backbone = _t5({"encoder.block.1": "lazy:1"}, "lazy:0")
    backbone._spread = False
    with pytest.raises(Exception, match="devices"):
        backbone.encode(torch.randn(3, 7, 16, device="lazy:0"), torch.ones(3, 7, device="lazy:0"))


def _check_every_way_to_read(backbone):
    """Losses and their gradients, label scores and writing: all begin and end on the first device."""
    first = torch.device("lazy:0")
    embeddings = torch.randn(3, 7, 16, device=first, requires_grad=True)
    mask, targets = torch.ones(3, 7, device=first), torch.ones(3, 2, dtype=torch.int64, device=first)
    losses = backbone.token_losses(embeddings, mask, targets)
    losses.sum().backward()
    assert {losses.device, embeddings.grad.device} == {first}
    with torch.no_grad():
        assert backbone.tree_logits(embeddings, mask, [0, 3, 4], [0, 0, 1]).device == first
        state = backbone.begin(embeddings, mask).select(torch.tensor([2, 0], device=first))
        assert state.advance(torch.ones(2, 1, dtype=torch.int64, device=first)).device == first


@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_way_to_read_t5_brings_tensors_to_the_blocks(fake, checkpointing):
    places = spread(blocks_of(_model()), ["lazy:0", "lazy:1", "lazy:2"])
    _check_every_way_to_read(_t5(places, "lazy:0", checkpointing))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_way_to_read_a_decoder_only_model_too(tmp_path, request, family, checkpointing):
    make_causal(family).save_pretrained(tmp_path)
    places = device_map(tmp_path, Form(spread_over=("lazy:0", "lazy:1")))
    request.getfixturevalue("fake")
    backbone = _decoder_only(family, places, checkpointing)
    assert {str(parameter.device) for parameter in backbone.model.parameters()} == {"lazy:0", "lazy:1"}
    _check_every_way_to_read(backbone)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_device_map_names_every_tensor_once_and_all_but_later_blocks_on_the_first(tmp_path, family):
    model = make_causal(family)
    model.save_pretrained(tmp_path)
    places = device_map(tmp_path, Form(spread_over=("cuda:0", "cuda:1")))
    for name, _ in model.named_parameters():
        (place,) = {device for part, device in places.items() if name.startswith(f"{part}.")}
        assert place == ("cuda:1" if ".1." in name else "cuda:0")
