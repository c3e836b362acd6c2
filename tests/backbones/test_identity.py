"""The cheap identity: equal for equal folders, different for any change that makes another model."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_t5 import make_t5

from ept.backbones.files import SAMPLE_BYTES, SAMPLES, backbone_identity
from ept.errors import InputError


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


def test_samples_first_and_last_bytes_and_one_of_every_matrix_of_a_large_file(folder):
    path = folder / "model.safetensors"
    rows = 10 * SAMPLES
    big = torch.zeros(rows, SAMPLE_BYTES // 4)
    save_file({"a": big}, path)
    identity = backbone_identity(folder)
    for changed in (slice(0, 1), slice(rows - 1, rows), slice(300, 320)):
        edited = big.clone()
        edited[changed] = 1
        save_file({"a": edited}, path)
        assert backbone_identity(folder) != identity


def test_broken_folders(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(InputError, match="no complete safetensors file"):
        backbone_identity(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="tokenizer.json is missing"):
        backbone_identity(folder)
    (folder / "spiece.model").write_bytes(b"pieces")
    weights.unlink()
    with pytest.raises(InputError, match="only safetensors are read"):
        backbone_identity(folder)


def test_needs_no_torch(folder):
    code = f"""
import sys
from ept.backbones.identity import backbone_identity
backbone_identity({str(folder)!r})
assert not {{"torch", "numpy", "transformers", "safetensors"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
