"""Bad backbone folders."""

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

CASES = {
    "no folder": (settings(backbone__id="elsewhere"), TRAIN, "elsewhere .. check backbone.id"),
    "a file as folder": (settings(backbone__id="config.yaml"), TRAIN, "config.yaml .. check backbone.id"),
    "no config.json": (gone("model/config.json"), TRAIN, "model/config.json is missing; a backbone folder holds"),
    "torn config.json": (torn("model/config.json"), TRAIN, "model/config.json is no JSON .. fetch it again"),
    "config.json in Latin-1": (
        content("model/config.json", b'{"\xe9": 1}'),
        TRAIN,
        "config.json is no JSON .. fetch it",
    ),
    "config.json nested": (
        content("model/config.json", "[" * 10**5),
        TRAIN,
        "config.json is no JSON .. fetch it again",
    ),
    "config.json a list": (content("model/config.json", "[]"), TRAIN, "config.json: model_type is None; supported: t5"),
    "other architecture": (
        model_json(model_type="bert"),
        TRAIN,
        "model/config.json: model_type is bert; supported: t5",
    ),
    "size in words": (model_json(d_model="large"), TRAIN, "model/config.json describes no T5 .. fetch it again"),
    "no layers": (model_json(num_layers=0), TRAIN, "model/config.json describes no T5 .. fetch it again"),
    "layers not said": (model_json(num_layers=None), TRAIN, "model: no tensor encoder.block.1. .. fetch the backbone"),
    "negative size": (model_json(d_ff=-5), TRAIN, "model/config.json describes no T5 .. fetch it again"),
    "unknown activation": (model_json(feed_forward_proj="tanhh"), TRAIN, "config.json describes no T5 .. fetch it"),
    "other size": (
        model_json(d_ff=48),
        TRAIN,
        "model: .. has the shape [24, 16], config.json says [48, 16]; .. belong to",
    ),
    "torn weights": (torn("model/model.safetensors"), TRAIN, "model.safetensors cannot be read .. fetch it again"),
    "torn header": (torn("model/model.safetensors", 40), TRAIN, "model.safetensors is no complete .. fetch it again"),
    "empty weights": (
        content("model/model.safetensors", ""),
        TRAIN,
        "model.safetensors is no complete .. fetch it again",
    ),
    "header in words": (
        content("model/model.safetensors", b"\x10" + bytes(7) + b"x" * 400),
        TRAIN,
        "model.safetensors cannot be read as safetensors .. fetch it again",
    ),
    "a tensor missing": (
        model_tensors(lambda tensors: tensors.pop("encoder.final_layer_norm.weight")),
        TRAIN,
        "model: no tensor encoder.final_layer_norm.weight in its safetensors files; fetch the backbone again",
    ),
    "a tensor of other shape": (
        model_tensors(lambda tensors: tensors.update({"encoder.final_layer_norm.weight": torch.ones(8)})),
        TRAIN,
        "model: encoder.final_layer_norm.weight has the shape [8], config.json says [16]; .. belong to different",
    ),
    "only a pickle": (
        moved("model/model.safetensors", "model/pytorch_model.bin"),
        TRAIN,
        "model has neither model.safetensors nor .. only safetensors are read, so convert other weights",
    ),
    "a shard missing": (
        index({"a": "b.safetensors"}),
        TRAIN,
        "model/b.safetensors is missing, .. fetch the backbone again",
    ),
    "a shard elsewhere": (
        index({"a": "../b.safetensors"}),
        TRAIN,
        "index.json: '../b.safetensors' is no .. fetch it again",
    ),
    "a shard with a number": (index({"a": 5}), TRAIN, "index.json .. fetch it again"),
    "an index of nothing": (index([]), TRAIN, "index.json is no index of safetensors shards .. fetch it again"),
    "too many pieces": (
        after(tokenizer(" ".join("0123456789abcdefgh")), prepared("rte")),
        TRAIN,
        "model: the tokenizer has 21 pieces, the backbone 16; use the tokenizer that belongs to the backbone",
    ),
    "another </s>": (
        after(model_json(eos_token_id=2), prepared("rte")),
        TRAIN,
        "model: </s> is piece 1 of the tokenizer, config.json says 2; use the tokenizer that belongs to the backbone",
    ),
    "torn tokenizer": (
        torn("model/tokenizer.json"),
        TRAIN,
        "tokenizer.json: this is no tokenizer .. copy the model's again",
    ),
    "no </s>": (tokenizer(drop="</s>"), TRAIN, "model: the tokenizer does not know </s>; use that of a T5 model"),
}


@cases(CASES)
def test_bad_backbone(refused, spoil, command, words):
    refused(spoil, command, words)
