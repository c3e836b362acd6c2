"""Bad backbone folders: `ept check` and a training say what is wrong; tests/backbones/test_bad_weights.py has more."""

import pytest
import torch

from bad_input.cases import TRAIN, cases
from bad_input.spoil import (
    after,
    content,
    gone,
    index,
    model_json,
    model_tensors,
    moved,
    prepared,
    settings,
    tokenizer,
    torn,
)

NORM = "encoder.final_layer_norm.weight"
Q = "encoder.block.0.layer.0.SelfAttention.q.weight"


def _as(name, dtype):
    return model_tensors(lambda tensors: tensors.update({name: tensors[name].to(dtype)}))


# What is wrong, and the facts that the sentence has in this order.
FROM_FILES = {
    "no folder": (settings(backbone__id="elsewhere"), "elsewhere .. backbone.id"),
    "a file as folder": (settings(backbone__id="config.yaml"), "config.yaml .. backbone.id"),
    "no config.json": (gone("model/config.json"), "model/config.json"),
    "torn config.json": (torn("model/config.json"), "model/config.json"),
    "config.json in Latin-1": (content("model/config.json", b'{"\xe9": 1}'), "model/config.json"),
    "config.json nested": (content("model/config.json", "[" * 10**5), "model/config.json"),
    "config.json a list": (content("model/config.json", "[]"), "model/config.json .. model_type"),
    "other architecture": (model_json(model_type="bert"), "model/config.json .. bert .. t5"),
    "a list of architectures": (model_json(model_type=["t5"]), "model/config.json .. model_type .. t5"),
    "size in words": (model_json(d_model="large"), "model/config.json .. d_model .. large"),
    "no layers": (model_json(num_layers=0), "model/config.json .. num_layers .. 0"),
    "layers not said": (model_json(num_layers=None), "model/config.json .. num_layers .. 6 .. 1"),
    "layers beyond memory": (model_json(num_layers=100_000), "model/config.json .. num_layers .. 100000 .. 1"),
    "negative size": (model_json(d_ff=-5), "model/config.json .. d_ff .. -5"),
    "unknown activation": (model_json(feed_forward_proj="tanhh"), "config.json .. feed_forward_proj .. tanhh"),
    "start beyond the vocabulary": (model_json(decoder_start_token_id=16), "decoder_start_token_id .. 16"),
    "other size": (model_json(d_ff=48), "model .. [24, 16] .. [48, 16]"),
    "already quantized": (model_json(quantization_config={"quant_method": "gptq"}), "config.json .. gptq .. backbone."),
    "integers": (_as(Q, torch.int8), f"model .. {Q} .. I8"),
    "float8": (_as(Q, torch.float8_e4m3fn), f"model .. {Q} .. backbone.quantization"),
    "torn weights": (torn("model/model.safetensors"), "model/model.safetensors"),
    "torn header": (torn("model/model.safetensors", 40), "model/model.safetensors"),
    "empty weights": (content("model/model.safetensors", ""), "model/model.safetensors"),
    "a tensor missing": (model_tensors(lambda tensors: tensors.pop(NORM)), f"model .. {NORM}"),
    "a tensor too many": (model_tensors(lambda tensors: tensors.update(more=torch.ones(8))), "model .. more"),
    "a tensor of other shape": (
        model_tensors(lambda tensors: tensors.update({NORM: torch.ones(8)})),
        f"model .. {NORM} .. [8] .. [16]",
    ),
    "only a pickle": (moved("model/model.safetensors", "model/pytorch_model.bin"), "model .. convert-weights"),
    "a shard missing": (index({"a": "b.safetensors"}), "model/b.safetensors"),
    "a shard elsewhere": (index({"a": "../b.safetensors"}), "index.json .. ../b.safetensors"),
    "a shard with a number": (index({"a": 5}), "index.json .. 5"),
    "an index of nothing": (index([]), "index.json"),
    "no tokenizer": (gone("model/tokenizer.json"), "model/tokenizer.json"),
}


@pytest.mark.parametrize("command", ["check", TRAIN], ids=["check", "train"])
@pytest.mark.parametrize(("spoil", "facts"), FROM_FILES.values(), ids=FROM_FILES.keys())
def test_a_bad_backbone_is_found_before_anything_is_trained(refused, spoil, facts, command):
    refused(spoil, command, facts)


WHEN_LOADED = {
    "NaN": (model_tensors(lambda tensors: tensors[NORM].fill_(float("nan"))), TRAIN, f"model .. {NORM}"),
    "infinity": (model_tensors(lambda tensors: tensors[Q][1:2, 3].fill_(float("inf"))), TRAIN, f"model .. {Q}"),
    "too many pieces": (
        after(tokenizer(" ".join("0123456789abcdefgh")), prepared("rte")),
        TRAIN,
        "model .. 21 .. 16",
    ),
    "another </s>": (
        after(model_json(eos_token_id=2), prepared("rte")),
        TRAIN,
        "model .. </s> .. 1 .. 2",
    ),
    "torn tokenizer": (torn("model/tokenizer.json"), TRAIN, "model/tokenizer.json"),
    "no </s>": (tokenizer(drop="</s>"), TRAIN, "model .. </s>"),
}


@cases(WHEN_LOADED)
def test_a_bad_backbone_is_found_when_it_is_loaded(refused, spoil, command, words):
    refused(spoil, command, words)
