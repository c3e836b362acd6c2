"""The identity of a backbone folder: equal for equal contents, different after any change of what is read."""

import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file

from ept.backbones.files import backbone_identity
from ept.errors import InputError
from tiny_models import make_t5


@pytest.fixture
def folder(write_backbone):
    return write_backbone(make_t5("v1.0"))


def test_is_a_digest_of_content_alone(write_backbone, folder):
    identity = backbone_identity(folder)
    assert len(identity) == 8 and int(identity, 16) >= 0
    assert backbone_identity(str(folder)) == identity
    assert backbone_identity(write_backbone(make_t5("v1.0"), name="copy")) == identity
    (folder / "README.md").write_text("words")
    assert backbone_identity(folder) == identity


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_changes_with_configuration_and_tokenizer(folder, name):
    identity = backbone_identity(folder)
    (folder / name).write_text((folder / name).read_text() + "\n")
    assert backbone_identity(folder) != identity


def test_changes_with_whatever_reading_a_sentencepiece_model_depends_on(folder):
    (folder / "tokenizer.json").unlink()
    seen = set()
    for name in ("spiece.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        (folder / name).write_bytes(b"{}")
        seen.add(backbone_identity(folder))
    assert len(seen) == 4


def _layer_norms(tensors):
    for name, tensor in tensors.items():
        if name.endswith("layer_norm.weight"):
            tensor += 0.01


def _ten_embedding_rows(tensors):
    tensors["shared.weight"][1000:1010] *= 2


def _position_biases(tensors):
    for name, tensor in tensors.items():
        if name.endswith("relative_attention_bias.weight"):
            tensor += 0.01


def _one_q_matrix(tensors):
    tensors["encoder.block.1.layer.0.SelfAttention.q.weight"].mul_(-1)


@pytest.mark.parametrize("change", [_layer_norms, _ten_embedding_rows, _position_biases, _one_q_matrix])
def test_changes_with_few_numbers_of_a_file_that_is_remembered(tmp_path, write_backbone, change):
    """Of a file of some megabytes, where these are a thousandth."""
    folder = write_backbone(make_t5(std=None, vocab_size=12000, d_model=64))
    path = folder / "model.safetensors"
    assert path.stat().st_size > 2**21
    identity = backbone_identity(folder)
    assert backbone_identity(folder) == identity
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    assert backbone_identity(folder) != identity


def test_changes_with_any_tensor_of_a_small_model(folder):
    path = folder / "model.safetensors"
    seen = {backbone_identity(folder)}
    tensors = load_file(path)
    for name, tensor in tensors.items():
        save_file({**tensors, name: tensor + 1}, path)
        seen.add(backbone_identity(folder))
    assert len(seen) == len(tensors) + 1


def test_changes_with_shards(write_backbone):
    assert backbone_identity(write_backbone(make_t5("v1.0"), name="a")) != backbone_identity(
        write_backbone(make_t5("v1.0"), name="b", shards=True)
    )


def _cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:20])


BREAKERS = {
    "model.safetensors": _cut,
    "tokenizer.json": lambda folder: (folder / "tokenizer.json").unlink(),
    "model.safetensors.index.json": lambda folder: (folder / "model.safetensors").unlink(),
    "config.json": lambda folder: (folder / "config.json").unlink(),
}


@pytest.mark.parametrize("name", BREAKERS)
def test_broken_folders_are_one_sentence_with_the_file(folder, name):
    BREAKERS[name](folder)
    with pytest.raises(InputError) as caught:
        backbone_identity(folder)
    assert str(folder) in str(caught.value) and name in str(caught.value)


def test_needs_no_torch(folder):
    code = f"""
import sys
from ept.backbones.files import backbone_identity
backbone_identity({str(folder)!r})
assert not {{"torch", "numpy", "transformers"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
