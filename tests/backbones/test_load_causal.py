"""Decoder-only backbones from folders and GGUF."""

import json

import pytest
import torch
from gguf import GGUFWriter, TokenType

from ept.backbones.convert import convert_gguf
from ept.backbones.decoder_only import DecoderOnly
from ept.backbones.load import load_backbone
from ept.data.tokenizer import load_pieces
from ept.errors import InputError
from tiny_models import END, FAMILIES, HIDDEN, VOCABULARY, causal_inputs, make_causal


@pytest.fixture
def folder(tmp_path):
    """A tiny Llama as the hub has it."""
    make_causal("llama").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_of_a_loaded_model_are_those_of_the_saved_one(tmp_path, family):
    model = make_causal(family)
    model.save_pretrained(tmp_path)
    loaded = load_backbone(tmp_path)
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    inputs = causal_inputs()
    torch.testing.assert_close(loaded.token_losses(*inputs), DecoderOnly(model).token_losses(*inputs))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_gradient_checkpointing_changes_no_gradient_and_no_text(tmp_path, family):
    make_causal(family).save_pretrained(tmp_path)
    embeddings, mask, targets = causal_inputs()
    gradients, texts = [], []
    for checkpointing in (False, True):
        backbone = load_backbone(tmp_path, gradient_checkpointing=checkpointing)
        leaf = embeddings.clone().requires_grad_()
        backbone.token_losses(leaf, mask, targets).sum().backward()
        gradients.append(leaf.grad)
        state = backbone.begin(embeddings, mask)
        texts.append(state.advance(torch.tensor([[3], [4], [5]])))
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.testing.assert_close(texts[1], texts[0])


def _edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("change", "fact"),
    [({"use_sliding_window": True}, "use_sliding_window"), ({"eos_token_id": None}, "eos_token_id")],
    ids=str,
)
def test_a_model_that_cannot_be_a_backbone_is_one_sentence(folder, change, fact):
    _edit(folder, **change)
    with pytest.raises(InputError) as caught:
        load_backbone(folder)
    assert str(folder) in str(caught.value) and fact in str(caught.value)


def _write_gguf(path):
    """A Llama of 1 layer with tied embeddings, unquantized, and a byte-pair tokenizer."""
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(24)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(4)
    writer.add_vocab_size(VOCABULARY)
    letters = [chr(ord("A") + number) for number in range(VOCABULARY - 4)]
    pieces = ["<s>", "<unk>", "</s>", *letters, "AB"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(pieces)
    writer.add_token_types([TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (VOCABULARY - 3))
    writer.add_token_merges(["A B"])
    writer.add_bos_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_eos_token_id(END)
    torch.manual_seed(0)
    tensors = {"token_embd.weight": torch.randn(VOCABULARY, HIDDEN), "output_norm.weight": torch.ones(HIDDEN)}
    for name, rows, columns in (
        *((f"attn_{part}", HIDDEN, HIDDEN) for part in ("q", "k", "v", "output")),
        ("ffn_gate", 24, HIDDEN),
        ("ffn_up", 24, HIDDEN),
        ("ffn_down", HIDDEN, 24),
    ):
        tensors[f"blk.0.{name}.weight"] = 0.3 * torch.randn(rows, columns)
    for name in ("attn_norm", "ffn_norm"):
        tensors[f"blk.0.{name}.weight"] = torch.ones(HIDDEN)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def test_a_gguf_file_becomes_a_backbone_folder(tmp_path):
    tensors = _write_gguf(tmp_path / "tiny.gguf")
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model")
    backbone = load_backbone(tmp_path / "model")
    torch.testing.assert_close(backbone.embedding, tensors["token_embd.weight"])
    assert (backbone.eos_id, load_pieces(tmp_path / "model").end_id) == (END, END)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()} == {_mode_of_new_files(tmp_path)}
    before = {path: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    with pytest.raises(InputError) as caught:
        convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model")
    assert str(tmp_path / "model") in str(caught.value)
    assert {path: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before


def _mode_of_new_files(folder):
    (folder / "any").touch()
    return (folder / "any").stat().st_mode & 0o777


@pytest.mark.parametrize("content", [b"", b"GGUF", b"zip"])
def test_what_is_no_gguf_leaves_nothing(tmp_path, content):
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(InputError, match="bad.gguf"):
        convert_gguf(tmp_path / "bad.gguf", tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.gguf"]
