"""Encoders of images: the demonstration's and its training, and a CLIP model in a folder."""

import numpy as np
import pytest
import torch

from ept.demo.shapes import draw_scene, paint
from ept.demo.world import World
from ept.errors import InputError
from ept.vision import pretrain
from ept.vision.encoder import WEIGHTS, ClipEncoder, load_encoder, pooled

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def pictures():
    world = World("validation", (2,))
    return [Image.fromarray(paint(world, draw_scene(world))[0]) for _ in range(3)]


def test_the_demonstrations_encoder_reads_each_picture_by_itself(pictures):
    encoder = load_encoder("demo")
    found = encoder.encode(pictures)
    assert found.shape == (3, encoder.patches, encoder.width) == (3, 36, 96) and found.dtype == torch.float32
    for picture, features in zip(pictures, found, strict=True):
        torch.testing.assert_close(encoder.encode([picture])[0], features, atol=1e-4, rtol=1e-4)
    larger = encoder.encode([pictures[0].resize((96, 96), Image.Resampling.NEAREST)])
    assert torch.nn.functional.cosine_similarity(larger[0].flatten(), found[0].flatten(), dim=0) > 0.9


def test_training_is_reproducible_and_its_file_is_an_encoder(tmp_path, monkeypatch, pictures):
    monkeypatch.setattr(pretrain, "NAMING_STEPS", 1)
    monkeypatch.setattr(pretrain, "IMAGES", 2)
    lines = []
    for name in ("a", "b"):
        pretrain.train_encoder(tmp_path / name, seed=3, steps=2, progress=lines.append)
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()
    assert len(lines) == 2 and lines[0].startswith("step 2 of 2")
    found = load_encoder("local", str(tmp_path / "a")).encode(pictures)
    assert found.shape == (3, 36, 96) and found.isfinite().all()


def test_a_clip_model_in_a_folder(tmp_path, pictures):
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    model = CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=32, patch_size=8)).eval()
    model.save_pretrained(tmp_path)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(tmp_path)
    encoder = load_encoder("local", str(tmp_path), patches=4)
    assert isinstance(encoder, ClipEncoder)
    found = encoder.encode(pictures)
    assert found.shape == (3, 4, 16)
    inputs = CLIPImageProcessor.from_pretrained(tmp_path)(pictures, return_tensors="pt")
    with torch.inference_mode():
        grid = model(**inputs).last_hidden_state[:, 1:].view(3, 4, 4, 16)
    expected = torch.stack([grid[:, :2, :2], grid[:, :2, 2:], grid[:, 2:, :2], grid[:, 2:, 2:]], 1).mean((2, 3))
    torch.testing.assert_close(found, expected)


def test_patches_are_a_square_number():
    with pytest.raises(InputError, match=r"vision\.patches"):
        pooled(torch.zeros(1, 3, 4, 4), 35)


@pytest.mark.parametrize("content", [b"", b"x", np.zeros(99).tobytes()])
def test_a_folder_without_an_encoder_is_refused(tmp_path, content):
    if content:
        (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(InputError, match=WEIGHTS):
        load_encoder("local", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"vision\.id"):
        load_encoder("local", str(tmp_path))
