"""Sizes against models that transformers builds on the meta device, and against torch's own counters."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GPT2Config, LlamaConfig, Qwen2Config, Qwen3Config
from transformers import T5Config as PublicT5Config

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.shape import QUANTIZED_BYTES, known_configs, shape_of
from ept.backbones.t5 import T5
from ept.backbones.t5_config import T5Config

T5_SIZES = dict(vocab_size=50, d_model=16, d_ff=24, num_heads=2)
LLAMA_SIZES = dict(
    vocab_size=50,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
)
SMALL = {
    "t5 v1.0": PublicT5Config(**T5_SIZES, d_kv=8, num_layers=2, num_decoder_layers=3),
    "t5 v1.1": PublicT5Config(
        **T5_SIZES, d_kv=5, num_layers=3, feed_forward_proj="gated-gelu", tie_word_embeddings=False
    ),
    "llama": LlamaConfig(**LLAMA_SIZES),
    "llama tied": LlamaConfig(**LLAMA_SIZES, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**LLAMA_SIZES),
    "qwen3": Qwen3Config(**LLAMA_SIZES, head_dim=6),
    "gpt2": GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=4),
}
# Rounded as the papers and model cards do.
PUBLISHED_MILLIONS = {
    "google-t5/t5-small": 61,
    "google-t5/t5-base": 223,
    "google-t5/t5-large": 738,
    "google-t5/t5-3b": 2852,
    "google-t5/t5-11b": 11307,
    "google/t5-v1_1-base": 248,
    "meta-llama/Llama-2-7b-hf": 6738,
    "openai-community/gpt2": 124,
}


def _meta_model(config):
    with torch.device("meta"):
        auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = auto.from_config(config)
        if config is SMALL["t5 v1.1"]:
            # transformers ties a fresh model's head even where the configuration says not to.
            model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
        return model


@pytest.mark.parametrize("name", SMALL)
def test_parameters_are_those_of_transformers_models(name):
    config = SMALL[name]
    shape, model = shape_of(config.to_dict()), _meta_model(config)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    linear = [
        module.weight.numel()
        for part, module in model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and part != "lm_head"
    ]
    assert shape.linear_parameters == sum(linear)


def test_t5_base_has_the_parameters_of_its_model():
    (config,) = [PublicT5Config(**values) for name, values in known_configs().items() if name == "google-t5/t5-base"]
    found = shape_of(config.to_dict()).parameters
    assert found == sum(parameter.numel() for parameter in _meta_model(config).parameters()) == 222_903_552


def test_well_known_backbones_have_their_published_size():
    found = {name: round(shape_of(config).parameters / 1e6) for name, config in known_configs().items()}
    assert found == PUBLISHED_MILLIONS


def test_bytes_of_the_weights_by_precision():
    shape = shape_of(SMALL["t5 v1.0"].to_dict())
    rest = shape.parameters - shape.linear_parameters
    assert shape.weight_bytes("float32") == 4 * shape.parameters
    assert shape.weight_bytes("bfloat16", "int8") == shape.linear_parameters + 2 * rest
    # 64 weights of 4 bits and their 8-bit scale; 256 such scales share a float32.
    block = (64 * 0.5 + 1 + 4 / 256) / 64
    assert QUANTIZED_BYTES["nf4"] == block
    assert shape.weight_bytes("bfloat16", "nf4") == round(shape.linear_parameters * block + 2 * rest)


@pytest.mark.parametrize(("layers", "decoder_layers", "width"), [(2, 3, 4), (1, 1, 8), (3, 2, 5)])
@pytest.mark.parametrize("feed_forward", ["relu", "gated-gelu"])
def test_operations_of_a_t5_are_those_that_torch_counts(layers, decoder_layers, width, feed_forward):
    config = T5Config(
        **T5_SIZES,
        d_kv=width,
        num_layers=layers,
        num_decoder_layers=decoder_layers,
        feed_forward_proj=feed_forward,
    )
    shape, backbone = shape_of({"model_type": "t5", **vars(config)}), EncoderDecoder(T5(config))
    inputs, mask = torch.randn(3, 11, 16, requires_grad=True), torch.ones(3, 11, dtype=torch.int64)
    targets = torch.tensor([[3, 4, 1], [5, 1, -100], [6, 1, -100]])
    # The plain kernel: torch does not count fused attention on a CPU.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        backbone.token_losses(inputs, mask, targets).sum().backward()
    assert shape.training_flops(3, 11, 3, 7) == counter.get_total_flops()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        backbone.tree_logits(inputs, mask, tokens=[0, 3, 4], parents=[0, 0, 1])
    assert shape.prediction_flops(3, 11, 3) == counter.get_total_flops()


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
def test_operations_of_a_decoder_are_those_that_torch_counts(name):
    config = SMALL[name]
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config).requires_grad_(False)
    inputs = torch.randn(3, 14, 16, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        logits = model(inputs_embeds=inputs, logits_to_keep=3).logits
        logits.sum().backward()
    assert shape_of(config.to_dict()).training_flops(3, 11, 3, 9) == counter.get_total_flops()


def test_a_kind_of_model_that_is_not_known_has_no_shape():
    assert shape_of({"model_type": "mamba"}) is None and shape_of({}) is None
