"""The parameter count of every record against its tensors."""

import dataclasses

import pytest
import torch

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.shape import shape_of
from ept.config.settings import (
    AcceptSettings,
    AttemptSettings,
    BaselineSettings,
    DptSettings,
    EptSettings,
    MethodSettings,
    PromptSettings,
    ResidualSettings,
    UlptSettings,
)
from ept.errors import InputError
from ept.methods.build import build_prompt_module, build_weight_module
from ept.methods.registry import METHODS, Sizes, count_parameters
from tiny_models import VERSIONS, make_t5

PROMPT = PromptSettings(length=30, short_length=8, reference_length=12)
WEIGHTS = BaselineSettings(adapter_reduction=4, adapterdrop_layers=1, lora_rank=2, lst_reduction=4, lst_skip_every=2)
OPTIONS = MethodSettings(
    attempt=AttemptSettings(train_norm=True),
    ulpt=UlptSettings(rank=3),
    dpt=DptSettings(rank=2),
    accept=AcceptSettings(word_length=4, words=3, added_word_length=8, added_words=5),
    residual=ResidualSettings(bottleneck=5),
)
SOURCE_LENGTH = 9
T5_BASE = {
    "adept": 76_051,
    "ulpt": 100 * 64 + 2 * 768,
    "dpt": 8_680,
    "accept": 74_880,
    "residual": 1_308_704,
    "lst": 3_878_706,
    "ept_matched": 76_289,
}


@pytest.mark.registry
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("version", VERSIONS)
def test_numbers_are_those_of_the_tensors(method, version):
    model = make_t5(version)
    backbone = EncoderDecoder(model)
    options = [MethodSettings(), OPTIONS]
    epts = [EptSettings(), EptSettings(fusion="projected", fusion_rank=1, spaces=2, budget="matched")]
    for ept, methods in zip(epts, options, strict=True):
        if METHODS[method].packed:
            sources = torch.zeros(2, PROMPT.length, backbone.hidden_size)
            pack = build_prompt_module(
                method, backbone.embedding, PROMPT, ept, SOURCE_LENGTH, [0], sources=sources, methods=methods
            )
        else:
            pack = build_weight_module(method, backbone, WEIGHTS, 0)
        expected = pack.trained_parameters
        pack.close()
        sizes = Sizes(shape_of(model.config.to_dict()), PROMPT, ept, WEIGHTS, SOURCE_LENGTH, methods)
        assert count_parameters(method, sizes) == expected


@pytest.mark.parametrize("method", METHODS)
def test_a_record_without_arithmetic_is_counted_from_its_tensors(method, monkeypatch):
    sizes = Sizes(shape_of(make_t5("v1.0").config.to_dict()), PROMPT, EptSettings(), WEIGHTS, SOURCE_LENGTH, OPTIONS)
    expected = count_parameters(method, sizes)
    monkeypatch.setitem(METHODS, method, dataclasses.replace(METHODS[method], parameters=None))
    if METHODS[method].packed:
        assert count_parameters(method, sizes) == expected
    else:
        with pytest.raises(InputError, match=f"{method}.*parameters"):
            count_parameters(method, sizes)


@pytest.mark.parametrize("method", T5_BASE)
def test_numbers_on_t5_base(method):
    config = {"model_type": "t5", "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
    shape = shape_of({**config, "vocab_size": 32128})
    assert (
        count_parameters(method, Sizes(shape, PromptSettings(), EptSettings(), BaselineSettings(), 256))
        == (T5_BASE[method])
    )


@pytest.mark.parametrize("every", [0, 2, 3])
def test_a_ladder_with_other_rungs(every):
    model = make_t5("v1.0")
    settings = dataclasses.replace(WEIGHTS, lst_skip_every=every, lst_reduction=2)
    pack = build_weight_module("lst", EncoderDecoder(model), settings, 0)
    expected = pack.trained_parameters
    pack.close()
    sizes = Sizes(shape_of(model.config.to_dict()), PROMPT, EptSettings(), settings, SOURCE_LENGTH)
    assert count_parameters("lst", sizes) == expected
