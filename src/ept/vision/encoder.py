"""Frozen encoders of images: the demonstration's small vision transformer, CLIP's of transformers, and timm's."""

from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from ept.demo.identity import encoder_folder
from ept.errors import InputError, reason_of

SIDE, PATCH = 48, 8
WEIGHTS = "model.safetensors"
WIDTH, LAYERS, HEADS, FEED_FORWARD = 96, 4, 4, 288


class Block(nn.Module):
    """Self-attention and a feed-forward part, each after a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query_key_value, self.output = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.inner, self.outer = nn.Linear(WIDTH, FEED_FORWARD), nn.Linear(FEED_FORWARD, WIDTH)

    def forward(self, state: Tensor) -> Tensor:
        """The next state of all patches, [images, patches, WIDTH] as before."""
        heads = self.query_key_value(self.attention_norm(state)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads
        shares = (query @ key.mT * (WIDTH // HEADS) ** -0.5).softmax(-1)
        state = state + self.output((shares @ value).transpose(1, 2).flatten(2))
        return state + self.outer(functional.gelu(self.inner(self.feed_forward_norm(state))))


class VisionTransformer(nn.Module):
    """Images of SIDE x SIDE pixels as features of their patches, row by row.

    It has the linear map of features to a backbone's embeddings of size `hidden` that was trained with it.
    """

    patches = (SIDE // PATCH) ** 2

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(PATCH * PATCH * 3, WIDTH)
        self.positions = nn.Parameter(0.5 * torch.randn(self.patches, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm, self.projection = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, hidden)

    def forward(self, images: Tensor) -> Tensor:
        """Features, float32 [images, patches, WIDTH], of images, uint8 [images, SIDE, SIDE, 3]."""
        count = SIDE // PATCH
        parts = (images.float() / 127.5 - 1).view(-1, count, PATCH, count, PATCH, 3).transpose(2, 3)
        state = self.embedding(parts.reshape(-1, self.patches, PATCH * PATCH * 3)) + self.positions
        for block in self.blocks:
            state = block(state)
        return self.norm(state)

    def project(self, features: Tensor) -> Tensor:
        """Features [..., WIDTH] as embeddings of the backbone [..., hidden]."""
        return self.projection(features)


def load_vision_transformer(path: Path) -> VisionTransformer:
    """The vision transformer of a safetensors file, frozen, in float32. Raises InputError for another file."""
    try:
        weights = {name: tensor.float() for name, tensor in load_file(path).items()}
        model = VisionTransformer(len(weights["projection.bias"]))
        model.load_state_dict(weights)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise InputError(
            f"{path} does not hold the small vision transformer ({reason_of(error)}); correct vision.id"
        ) from error
    return model.requires_grad_(False).eval()


class Encoder(Protocol):
    """A frozen image encoder."""

    patches: int
    """Features of an image, one for each patch, row by row."""
    width: int
    """Numbers of a feature."""

    def encode(self, images: list[Any]) -> Tensor:
        """The features of RGB images of Pillow, float32 [images, patches, width]."""


def load_encoder(
    source: Literal["demo", "hub", "local"], id_: str = "", revision: str = "", patches: int = 36
) -> Encoder:
    """The encoder that the section `vision` of a configuration names.

    A local folder holds WEIGHTS of our own small transformer, or a CLIP model of transformers with its config.json. On
    the Hub `timm/<name>` is one of timm's, which must be installed, and any other a CLIP model.

    Args:
        source: Where it is.
        id_: Repository or folder.
        revision: Commit of the repository.
        patches: Patches of an image; the grid of a published encoder is averaged to so many, a square number.

    Raises:
        InputError: It is not there, or is another kind of model.
    """
    folder = encoder_folder(source, id_)
    if folder is not None and not (folder / "config.json").is_file():
        return SmallEncoder(load_vision_transformer(folder / WEIGHTS))
    name = f"{id_}@{revision}" if revision else id_
    try:
        if id_.startswith("timm/"):
            return TimmEncoder(id_, revision, patches)
        return ClipEncoder(id_, revision or "main", patches)
    except ImportError as error:
        raise InputError(f"{name} needs the library timm; install it (`pip install timm`)") from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{name} cannot be loaded as an image encoder ({reason_of(error)}); check vision.id, "
            "vision.revision and the network"
        ) from error


class SmallEncoder:
    """The vision transformer of this module as an encoder."""

    def __init__(self, model: VisionTransformer):
        self._model = model
        self.patches, self.width = model.patches, WIDTH

    @torch.inference_mode()
    def encode(self, images: list[Any]) -> Tensor:
        """See Encoder. Images are resized to SIDE x SIDE pixels, without regard to their proportions."""
        from PIL import Image

        resized = [np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for image in images]
        return self._model(torch.from_numpy(np.stack(resized)))


class ClipEncoder:
    """The image side of a CLIP model (Radford et al., arXiv 2103.00020) of transformers, without its class token."""

    def __init__(self, name: str, revision: str, patches: int):
        from transformers import AutoImageProcessor, CLIPVisionModel

        self._processor = AutoImageProcessor.from_pretrained(name, revision=revision)
        self._model: Any = CLIPVisionModel.from_pretrained(name, revision=revision).requires_grad_(False).eval()
        self.patches, self.width = patches, self._model.config.hidden_size

    @torch.inference_mode()
    def encode(self, images: list[Any]) -> Tensor:
        """See Encoder."""
        states = self._model(**self._processor(images, return_tensors="pt")).last_hidden_state[:, 1:]
        side = round(states.shape[1] ** 0.5)
        return pooled(states.unflatten(1, (side, side)).permute(0, 3, 1, 2).float(), self.patches)


class TimmEncoder:
    """A model of timm, for example CLIP's RN101, as VL-Adapter uses it: the last map of features."""

    def __init__(self, name: str, revision: str, patches: int):
        import timm

        self._model = timm.create_model(f"hf-hub:{name}@{revision}", pretrained=True).requires_grad_(False).eval()
        self._transform = timm.data.create_transform(**timm.data.resolve_model_data_config(self._model))
        self.patches, self.width = patches, self._model.num_features

    @torch.inference_mode()
    def encode(self, images: list[Any]) -> Tensor:
        """See Encoder."""
        return pooled(
            self._model.forward_features(torch.stack([self._transform(image) for image in images])), self.patches
        )


def pooled(maps: Tensor, patches: int) -> Tensor:
    """Maps of features [images, width, rows, columns] as averages of `patches` patches [images, patches, width]."""
    side = round(patches**0.5)
    if side * side != patches:
        raise InputError(f"vision.patches is {patches}; use a square number, such as 36")
    return functional.adaptive_avg_pool2d(maps, side).flatten(2).transpose(1, 2)
