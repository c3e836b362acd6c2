"""What the methods inside the backbone refuse, which leaves the backbone as it was."""

import pytest
import torch

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.config.settings import BaselineSettings
from ept.errors import InputError
from tiny_models import make_t5


def _state(backbone):
    return {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}


BAD = [
    ("adapter", {"adapter_reduction": 17}, ["adapter_reduction is 17", "hidden size 16"]),
    ("adapter", {"adapter_reduction": 0}, ["adapter_reduction is 0"]),
    ("adapterdrop", {"adapterdrop_layers": 2}, ["adapterdrop_layers is 2", "2 layers"]),
    ("lora", {"lora_rank": 17}, ["lora_rank is 17", "16 x 16"]),
    ("lst", {"lst_reduction": 5}, ["lst_reduction is 5", "d_kv is 4"]),
    ("lst", {"lst_skip_every": 1}, ["lst_skip_every is 1"]),
]


@pytest.mark.parametrize(("method", "options", "words"), BAD, ids=[f"{options}" for _, options, _ in BAD])
def test_options_that_do_not_fit_the_backbone(backbone, attach, method, options, words):
    before = _state(backbone)
    with pytest.raises(InputError) as caught:
        attach(backbone, method, settings=BaselineSettings(**options))
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in ["baselines.", *words])
    torch.testing.assert_close(_state(backbone), before, rtol=0, atol=0)


def test_a_stack_of_one_layer_has_no_side_layer(attach):
    backbone = EncoderDecoder(make_t5(num_layers=2, num_decoder_layers=1))
    with pytest.raises(InputError, match="lst_skip_every 4.*1 layer"):
        attach(backbone, "lst", settings=BaselineSettings(lst_reduction=4))


def test_errors_of_foreign_tensors_change_nothing(backbone, attach):
    pack = attach(backbone, "lora")
    before = pack.collapse(0)
    name = next(iter(before))
    for tensors, words in (
        ({"prompt": torch.ones(2, 16)}, ["lacks decoder", "more", "unknown prompt"]),
        ({**before, name: torch.ones(3, 16)}, [f"tensor {name} has shape [3, 16]", "[2, 16]"]),
        ({**before, name: before[name] * torch.nan}, [f"tensor {name} holds NaN"]),
    ):
        with pytest.raises(InputError) as caught:
            pack.load_tensors(0, tensors, "runs/x.safetensors")
        assert all(word in str(caught.value) for word in ["runs/x.safetensors", *words])
        assert len(str(caught.value)) < 1500
        torch.testing.assert_close(pack.tensors(0), before, rtol=0, atol=0)


def test_two_methods_at_once_are_refused(backbone, attach):
    attach(backbone, "bitfit")
    with pytest.raises(RuntimeError, match="attached"):
        attach(backbone, "lora")
