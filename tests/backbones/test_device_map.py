"""A backbone whose blocks are spread over devices. Tensors that only have shapes and devices stand for those on GPUs
(`lazy` is a kind of device that every build of torch knows): an operation that mixes two devices fails with them as on
hardware. Numbers, speed and memory need real GPUs.
"""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.load import spread
from ept.backbones.t5 import T5
from ept.backbones.t5_config import T5Config

SHAPE = dict(vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=3, num_decoder_layers=4, num_heads=4)


def _model():
    with torch.device("meta"):
        return T5(T5Config(**SHAPE))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_blocks_keep_their_order_and_devices_share_their_parameters(count):
    model, devices = _model(), [f"lazy:{number}" for number in range(count)]
    places = spread(model, devices)
    assert list(places) == [f"encoder.block.{i}" for i in range(3)] + [f"decoder.block.{i}" for i in range(4)]
    assert list(places.values()) == sorted(places.values()) and set(places.values()) == set(devices)
    sizes = {name: sum(p.numel() for p in model.get_submodule(name).parameters()) for name in places}
    for device in devices:
        held = sum(size for name, size in sizes.items() if places[name] == device)
        # A border moves by at most half a block on either side.
        assert abs(held - sum(sizes.values()) / count) <= max(sizes.values())


@pytest.fixture
def fake():
    with FakeTensorMode(shape_env=ShapeEnv()) as mode:
        yield mode


def _on(places, rest):
    """A T5 with each block on its device of `places`, all else on `rest`."""
    model = T5(T5Config(**SHAPE))
    for name, module in model.named_modules():
        if getattr(module, "weight", None) is not None:
            device = places.get(".".join(name.split(".")[:3]), rest)
            module.weight = nn.Parameter(module.weight.detach().to(device), requires_grad=False)
    return EncoderDecoder(model)


def test_devices_that_are_mixed_are_found_out(fake):
    backbone = _on({"encoder.block.1": "lazy:1"}, "lazy:0")
    backbone._spread = False
    with pytest.raises(Exception, match="devices"):
        backbone.encode(torch.randn(3, 7, 16, device="lazy:0"), torch.ones(3, 7, device="lazy:0"))


def test_every_way_to_read_the_backbone_brings_tensors_to_the_blocks(fake):
    backbone = _on(spread(_model(), ["lazy:0", "lazy:1", "lazy:2"]), "lazy:0")
    first = torch.device("lazy:0")
    embeddings = torch.randn(3, 7, 16, device=first)
    mask, targets = torch.ones(3, 7, device=first), torch.ones(3, 2, dtype=torch.int64, device=first)
    with torch.no_grad():
        assert backbone.token_losses(embeddings, mask, targets).device == first
        assert backbone.tree_logits(embeddings, mask, [0, 3, 4], [0, 0, 1]).device == first
        state = backbone.begin(embeddings, mask).select(torch.tensor([2, 0], device=first))
        assert state.advance(torch.ones(2, 1, dtype=torch.int64, device=first)).device == first
