"""Reckoned numbers of trained parameters against those of the tensors."""

import dataclasses

import pytest
import torch

from backbones.tiny_t5 import VERSIONS, make_t5
from ept.ablation import Variant
from ept.backbones.encoder_decoder import EncoderDecoder
from ept.baselines.build import build_weights
from ept.baselines.settings import BaselineSettings
from ept.cost.shapes import shape_of
from ept.cost.trained import trained_parameters
from ept.methods import METHODS
from ept.prompts.build import build_pack
from ept.prompts.settings import EptSettings, PromptSettings

PROMPT = PromptSettings(length=30, short_length=8, reference_length=12)
WEIGHTS = BaselineSettings(adapter_reduction=4, adapterdrop_layers=1, lora_rank=2, lst_reduction=4, lst_skip_every=2)
SOURCE_LENGTH = 9


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("version", VERSIONS)
def test_numbers_are_those_of_the_tensors(method, version):
    model = make_t5(version)
    backbone = EncoderDecoder(model)
    for ept in (EptSettings(), EptSettings(fusion="projected", fusion_rank=1, spaces=2, budget="matched")):
        if METHODS[method].packed:
            sources = torch.zeros(2, PROMPT.length, backbone.hidden_size)
            pack = build_pack(method, backbone.embedding, PROMPT, ept, SOURCE_LENGTH, [0], sources=sources)
        else:
            pack = build_weights(method, backbone, WEIGHTS, 0)
        expected = pack.trained_parameters
        pack.close()
        shape = shape_of(model.config.to_dict())
        assert trained_parameters(method, shape, Variant("", PROMPT, ept), WEIGHTS, SOURCE_LENGTH) == expected


@pytest.mark.parametrize("every", [0, 2, 3])
def test_a_ladder_with_other_rungs(every):
    model = make_t5("v1.0")
    settings = dataclasses.replace(WEIGHTS, lst_skip_every=every, lst_reduction=2)
    pack = build_weights("lst", EncoderDecoder(model), settings, 0)
    expected = pack.trained_parameters
    pack.close()
    variant = Variant("", PROMPT, EptSettings())
    assert trained_parameters("lst", shape_of(model.config.to_dict()), variant, settings, 9) == expected
