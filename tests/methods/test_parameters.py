"""Reckoned numbers of trained parameters against those of the tensors."""

import dataclasses

import pytest
import torch

from backbones.tiny_t5 import VERSIONS, make_t5
from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.shape import shape_of
from ept.config.settings import BaselineSettings, EptSettings, PromptSettings
from ept.methods.build import build_prompt_module, build_weight_module
from ept.methods.registry import METHODS, Sizes

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
            pack = build_prompt_module(method, backbone.embedding, PROMPT, ept, SOURCE_LENGTH, [0], sources=sources)
        else:
            pack = build_weight_module(method, backbone, WEIGHTS, 0)
        expected = pack.trained_parameters
        pack.close()
        shape = shape_of(model.config.to_dict())
        assert METHODS[method].parameters(Sizes(shape, PROMPT, ept, WEIGHTS, SOURCE_LENGTH)) == expected


@pytest.mark.parametrize("every", [0, 2, 3])
def test_a_ladder_with_other_rungs(every):
    model = make_t5("v1.0")
    settings = dataclasses.replace(WEIGHTS, lst_skip_every=every, lst_reduction=2)
    pack = build_weight_module("lst", EncoderDecoder(model), settings, 0)
    expected = pack.trained_parameters
    pack.close()
    sizes = Sizes(shape_of(model.config.to_dict()), PROMPT, EptSettings(), settings, SOURCE_LENGTH)
    assert METHODS["lst"].parameters(sizes) == expected
