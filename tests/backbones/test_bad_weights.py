"""Folders whose weights are not those of the model in config.json: one sentence from the headers, before any load."""

import json
import time
import tracemalloc

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, BitsAndBytesConfig

from ept.backbones.files import backbone_identity, check_weights, hidden_size, read_config
from ept.backbones.load import load_backbone
from ept.backbones.shape import shape_of
from ept.backbones.t5_config import T5Config
from ept.backbones.tensors import Stored, check_tensors
from ept.demo.identity import BACKBONE_FOLDER
from ept.errors import InputError
from tiny_models import FAMILIES, make_causal, make_t5, make_wide_causal

# Of each family: the file's key of the number of layers, of the embeddings' rows, and one matrix of the blocks.
KINDS = {
    "t5": ("num_layers", "vocab_size", "encoder.block.1.layer.0.SelfAttention.q.weight"),
    "llama": ("num_hidden_layers", "vocab_size", "model.layers.1.self_attn.q_proj.weight"),
    "gpt2": ("n_layer", "vocab_size", "transformer.h.1.attn.c_attn.weight"),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def folder(kind, tmp_path):
    folder = tmp_path / "model"
    (make_t5("v1.0") if kind == "t5" else make_causal(kind)).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def _set(folder, **changes):
    path = folder / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))


def _change(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _refused(folder, *facts):
    """One sentence with the folder and these facts, at load and from the headers alone."""
    for read in (load_backbone, backbone_identity):
        with pytest.raises(InputError) as caught:
            read(folder)
        for fact in (str(folder), *map(str, facts)):
            assert fact in str(caught.value)


def test_sound_folders_are_accepted(folder):
    check_weights(folder)


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "not declared"])
@pytest.mark.parametrize("options", [{"load_in_8bit": True}, {"load_in_4bit": True}], ids=["int8", "nf4"])
def test_what_bitsandbytes_has_quantized(kind, tmp_path, options, declared):
    """Saved by transformers itself, and with what it says in config.json taken away."""
    source, auto = BACKBONE_FOLDER, AutoModelForSeq2SeqLM
    if kind != "t5":
        source, auto = tmp_path / "source", AutoModelForCausalLM
        make_wide_causal(kind).save_pretrained(source)
    model = auto.from_pretrained(source, quantization_config=BitsAndBytesConfig(**options), device_map="cpu")
    folder = tmp_path / "quantized"
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    if declared:
        _refused(folder, "config.json", "quantization_config", "bitsandbytes", "backbone.quantization")
    else:
        _set(folder, quantization_config=...)
        _refused(folder, "bitsandbytes", "backbone.quantization")


def _packed(name, *parts):
    """GPTQ and AWQ put several tensors in the place of a weight."""

    def change(tensors):
        weight = tensors.pop(name)
        for part, dtype in parts:
            tensors[name.removesuffix("weight") + part] = torch.ones(weight.shape).to(dtype)

    return change


def _as(name, dtype, scale=None):
    def change(tensors):
        tensors[name] = tensors[name].to(dtype)
        if scale:
            tensors[name.removesuffix("weight") + scale] = torch.ones(1)

    return change


FORMATS = {
    "gptq": lambda name: _packed(
        name, ("qweight", torch.int32), ("qzeros", torch.int32), ("scales", torch.float16), ("g_idx", torch.int32)
    ),
    "awq": lambda name: _packed(name, ("qweight", torch.int32), ("qzeros", torch.int32), ("scales", torch.float16)),
    "compressed": lambda name: _packed(name, ("weight_packed", torch.int32), ("weight_scale", torch.float16)),
    "float8 with scales": lambda name: _as(name, torch.float8_e4m3fn, "weight_scale_inv"),
    "float8 alone": lambda name: _as(name, torch.float8_e5m2),
    "float8 beside": lambda name: _as(name, torch.float32, "input_scale"),
}


@pytest.mark.parametrize("format", FORMATS)
def test_other_quantized_formats(kind, folder, format):
    name = KINDS[kind][2]
    _change(folder, FORMATS[format](name))
    _refused(folder, name.removesuffix("weight"), "quantized", "backbone.quantization")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "bool", "complex64"])
def test_weights_that_are_not_floating_point_numbers(kind, folder, dtype):
    name = KINDS[kind][2]
    _change(folder, _as(name, getattr(torch, dtype)))
    _refused(folder, name)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_floating_point_numbers_of_other_widths_are_read(folder, dtype):
    _change(folder, lambda tensors: tensors.update({n: t.to(getattr(torch, dtype)) for n, t in tensors.items()}))
    assert load_backbone(folder).dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")], ids=str)
@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
@pytest.mark.parametrize("where", ["matrix", "embeddings"])
def test_a_weight_that_is_not_finite(tmp_path, kind, value, quantization, where):
    folder = tmp_path / "model"
    (make_t5("v1.0") if kind == "t5" else make_causal(kind)).save_pretrained(folder)
    embeddings = {"t5": "shared.weight", "llama": "model.embed_tokens.weight", "gpt2": "transformer.wte.weight"}
    name = KINDS[kind][2] if where == "matrix" else embeddings[kind]
    _change(folder, lambda tensors: tensors[name].view(-1)[7:8].fill_(value))
    check_weights(folder)
    with pytest.raises(InputError) as caught:
        load_backbone(folder, quantization=quantization)
    assert str(folder) in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize("layers", [1, 3, 100_000, 10**12])
def test_another_number_of_layers_in_bounded_time_and_memory(kind, folder, layers):
    key = KINDS[kind][0]
    _set(folder, **{key: layers})
    tracemalloc.start()
    start = time.process_time()
    _refused(folder, key, layers)
    assert time.process_time() - start < 2 and tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("rows", [39, 41, 10**12])
def test_another_vocabulary(kind, folder, rows):
    _set(folder, vocab_size=rows)
    _refused(folder, "[40, 16]", f"[{rows}, 16]")


@pytest.mark.parametrize("value", [40, 10**12, -2, "1", True])
def test_a_special_token_beyond_the_vocabulary(kind, folder, value):
    for key in ("decoder_start_token_id", "eos_token_id", "pad_token_id") if kind == "t5" else ("eos_token_id",):
        before = read_config(folder).get(key)
        _set(folder, **{key: value})
        _refused(folder, "config.json", key, repr(value))
        _set(folder, **{key: before})


def test_a_llama_may_have_several_ends_and_no_padding(tmp_path):
    make_causal("llama").save_pretrained(tmp_path)
    _set(tmp_path, eos_token_id=[5, 7], pad_token_id=-1)
    backbone = load_backbone(tmp_path)
    assert (backbone.eos_id, backbone.pad_id) == (5, 5)
    for wrong in ([5, 40], []):
        _set(tmp_path, eos_token_id=wrong)
        with pytest.raises(InputError):
            load_backbone(tmp_path)


@pytest.mark.parametrize("model_type", [["t5"], {"t5": 1}, None, 5, "", "bert", ...], ids=str)
def test_a_model_type_that_is_not_supported(folder, model_type):
    _set(folder, model_type=model_type)
    _refused(folder, "config.json", "model_type", "t5")


def test_tensors_that_are_missing_or_too_many(kind, folder):
    name = KINDS[kind][2]
    _change(folder, lambda tensors: tensors.update({"classifier.weight": torch.ones(2)}))
    _refused(folder, "classifier.weight")
    _change(folder, lambda tensors: [tensors.pop("classifier.weight"), tensors.pop(name)])
    _refused(folder, name)


def test_tensors_that_published_checkpoints_hold_in_addition(kind, folder):
    added = {
        "t5": {
            "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": torch.ones(32, 4),
            "encoder.embed_tokens.weight": torch.ones(40, 16),
        },
        "llama": {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2), "lm_head.weight": torch.ones(40, 16)},
        "gpt2": {"transformer.h.0.attn.bias": torch.ones(1, 1, 4, 4, dtype=torch.bool)},
    }[kind]
    _change(folder, lambda tensors: tensors.update(added))
    load_backbone(folder)


def test_a_decoder_that_was_saved_without_its_head_prefix(tmp_path):
    """As GPT-2 was published."""
    make_causal("gpt2").save_pretrained(tmp_path)
    expected = load_backbone(tmp_path).model.state_dict()
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({n.removeprefix("transformer."): t for n, t in tensors.items()}, tmp_path / "model.safetensors")
    found = load_backbone(tmp_path).model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def _cut(part):
    return lambda whole: whole[:part]


@pytest.mark.parametrize(
    "spoil",
    [
        *map(_cut, (0, 5, 20, 200, -100, -1)),
        lambda whole: whole + b"more",
        lambda whole: b"\x10" + bytes(7) + b"x" * 400,
        lambda whole: (2**62).to_bytes(8, "little") + whole[8:],
        lambda whole: b"\x02" + bytes(7) + b"[]",
        lambda whole: b"\x08" + bytes(7) + b'{"a": 5}',
    ],
    ids=[
        *(f"cut at {part}" for part in (0, 5, 20, 200, -100, -1)),
        "more behind",
        "a header of nothing",
        "a header too long",
        "a header that is a list",
        "a header of a number",
    ],
)
def test_a_file_that_is_not_whole(folder, spoil):
    path = folder / "model.safetensors"
    path.write_bytes(spoil(path.read_bytes()))
    _refused(folder, path)


def test_a_folder_that_lacks_a_file(folder, tmp_path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    _refused(folder, "model.safetensors", "convert-weights")
    for spoil in ("{", b"\xe9", "[" * 10**5, '{"a": ' + "1" * 5000 + "}", " " * 10**6 + "{}"):
        (folder / "config.json").write_bytes(spoil if isinstance(spoil, bytes) else spoil.encode())
        _refused(folder, "config.json")
    (folder / "config.json").unlink()
    _refused(folder, "config.json")
    _refused(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("weight_map", "fact"),
    [
        ({"a": "b.safetensors"}, "b.safetensors"),
        ({"a": "../b.safetensors"}, "../b.safetensors"),
        ({"a": "/b.safetensors"}, "/b.safetensors"),
        ({"a": "b.bin"}, "b.bin"),
        ({"a": 5}, "5"),
        ({"a": []}, ""),
        ({}, ""),
        ([], ""),
    ],
    ids=str,
)
def test_an_index_that_names_other_files(folder, weight_map, fact):
    (folder / "model.safetensors").unlink()
    (folder.parent / "b.safetensors").write_bytes(b"")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    _refused(folder, "model.safetensors.index.json", fact)


SIZES = {"t5": ["d_model", "d_ff", "num_heads"], "llama": ["hidden_size", "intermediate_size"], "gpt2": ["n_embd"]}


@pytest.mark.parametrize("value", [0, -5, 2.5, "16", True, [16], 10**12])
def test_a_size_that_is_not_that_of_the_files(kind, folder, value):
    for key in SIZES[kind]:
        before = read_config(folder)[key]
        _set(folder, **{key: value})
        _refused(folder)
        _set(folder, **{key: before})


WRONG_T5 = [
    {"feed_forward_proj": "tanhh"},
    {"relative_attention_num_buckets": 2},
    {"relative_attention_max_distance": 16},
    {"tie_word_embeddings": 1},
    {"layer_norm_epsilon": float("inf")},
]


@pytest.mark.parametrize("wrong", WRONG_T5, ids=str)
def test_a_t5_that_cannot_be(write_backbone, wrong):
    folder = write_backbone(make_t5("v1.0"))
    _set(folder, **wrong)
    _refused(folder, "config.json", *wrong)


def test_a_head_that_config_json_says_is_its_own(write_backbone):
    folder = write_backbone(make_t5("v1.0"))
    _set(folder, tie_word_embeddings=False)
    _refused(folder, "lm_head.weight")


LLAMA = dict(vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4)
T5_SIZES = dict(vocab_size=50, d_model=16, d_ff=24, num_heads=2, d_kv=5, num_layers=2)
PUBLIC = {
    "t5": T5_SIZES,
    "t5 gated": T5_SIZES | dict(feed_forward_proj="gated-gelu", num_decoder_layers=3),
    "mt5": T5_SIZES,
    "llama": LLAMA,
    "llama biased": LLAMA | dict(attention_bias=True, mlp_bias=True, num_key_value_heads=2),
    "llama tied": LLAMA | dict(tie_word_embeddings=True),
    "qwen2": LLAMA | dict(num_key_value_heads=2),
    "qwen3": LLAMA | dict(head_dim=6, num_key_value_heads=2),
    "qwen3 biased": LLAMA | dict(attention_bias=True, num_key_value_heads=4),
    "gpt2": dict(vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=4, eos_token_id=1),
    "gpt2 narrow": dict(vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=4, n_inner=20, eos_token_id=1),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_the_tensors_of_transformers_models_are_those_that_are_expected(tmp_path, name):
    """Each one of them is needed, and there is no other."""
    config = AutoConfig.for_model(name.split()[0], **PUBLIC[name])
    with torch.device("meta"):
        auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = auto.from_config(config)
    stored = {name: Stored("F32", tuple(tensor.shape)) for name, tensor in model.named_parameters()}
    check_tensors(tmp_path, config.to_dict(), stored)
    for missing in stored:
        with pytest.raises(InputError) as caught:
            check_tensors(tmp_path, config.to_dict(), {n: t for n, t in stored.items() if n != missing})
        assert missing in str(caught.value) or "layers" in str(caught.value)


@pytest.mark.parametrize("model_type", ["t5", "mt5", *FAMILIES])
def test_sizes_that_config_json_leaves_out_are_transformers_defaults(tmp_path, model_type):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "hidden_size": None}))
    found, theirs = read_config(tmp_path), AutoConfig.for_model(model_type)
    assert hidden_size(tmp_path) == theirs.hidden_size
    assert shape_of({"model_type": model_type}) == shape_of(found) == shape_of(theirs.to_dict())
    if model_type in ("t5", "mt5"):
        own = T5Config.of(found)
        assert own == T5Config.of({"model_type": model_type})
        for field in ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads"):
            assert getattr(own, field) == getattr(theirs, field)


@pytest.mark.parametrize("kind", ["t5", "gpt2"], indirect=True)
def test_a_backbone_of_the_default_size_need_not_say_it(tmp_path, kind):
    """T5 without d_model, GPT-2 without n_embd."""
    folder = tmp_path / "model"
    if kind == "t5":
        make_t5(std=None, d_model=512, num_layers=1, num_heads=2).save_pretrained(folder)
    else:
        shape = dict(vocab_size=40, n_layer=1, n_head=4, n_positions=16, eos_token_id=2, bos_token_id=1)
        AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", **shape)).save_pretrained(folder)
    _set(folder, d_model=..., n_embd=...)
    assert load_backbone(folder).hidden_size == hidden_size(folder) == {"t5": 512, "gpt2": 768}[kind]
