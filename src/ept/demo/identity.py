"""The embedded demonstration benchmark and its small pretrained T5: no download, not science.

This module stays cheap to import; `generator.generate` makes the data, `pretrain.rebuild` the backbone.
"""

from pathlib import Path

GENERATOR_VERSION = 1
"""Part of the data's identity: raised whenever the same (task, split, seed) would give other rows."""

ENCODER_FOLDER = Path(__file__).parent / "vision"
"""The image encoder, with its projection into the backbone's embeddings."""
BACKBONE_FOLDER = Path(__file__).parent / "backbone"
"""The shipped backbone: config.json, model.safetensors, tokenizer.json and its configuration."""


def encoder_folder(source: str, id_: str) -> Path | None:
    """The folder of an image encoder's files by `vision.source` and `vision.id`; None for one that is on the Hub."""
    return {"demo": ENCODER_FOLDER, "local": Path(id_)}.get(source)
