"""Trains the demonstration's encoder: a small vision transformer whose features the frozen T5 can read.

The transformer and a linear map into the T5's embeddings are trained together; the T5 stays as it is. Given an image
in place of a context, it is to answer in the words and commands that it was pretrained on ("find : what was red?").
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from ept.backbones.backbone import Backbone
from ept.backbones.load import load_backbone
from ept.data.tokenizer import load_tokenizer
from ept.demo.identity import BACKBONE_FOLDER
from ept.demo.optimizing import Muon
from ept.demo.shapes import Shape, ask, captions, draw_scene, paint, paint_digit
from ept.demo.world import World
from ept.files import write_atomically
from ept.vision.encoder import PATCH, SIDE, WEIGHTS, VisionTransformer, load_vision_transformer

NAMING_STEPS, STEPS = 250, 4000
"""In the first steps each patch only names what it shows, in the T5's embeddings of words: this costs little."""
IMAGES, TEXTS = 24, 2
"""Images of a step, and texts about each."""
DIGITS = 0.25
"""Share of images with a drawn digit."""
TOLD = 0.15
"""Share of texts that ask for a caption."""
RATE = 2e-3
WARM_UP = 50
AVERAGED = 0.98
"""Weights are a running average of those of the steps, in place of falling rates: it is good after any of them."""
SCALE = 1 / 8
"""Of the products with the embeddings of words, which have 128 numbers of size 1: a sum of three words scores 9."""
BACKGROUND = "nothing"
REPORT_EVERY = 25
PATCHES = (SIDE // PATCH) ** 2


def draw_image(world: World) -> tuple[np.ndarray, list[str], list[tuple[str, str]]]:
    """An image, three words for each of its patches, and TEXTS texts about it with their answers."""
    if world.chance(DIGITS):
        digit = world.below(10)
        texts = [
            ("find : what was it? ;", str(digit)),
            ("check : was it double? ;", "no" if digit % 2 else "yes"),
            ("check : was it big? ;", "yes" if digit > 4 else "no"),
        ]
        return paint_digit(world, digit), [" ".join([str(digit)] * 3)] * PATCHES, world.several(texts, TEXTS)
    scene = draw_scene(world)
    image, owner = paint(world, scene)
    texts = []
    while len(texts) < TEXTS:
        if len(scene) < 4 and world.chance(TOLD):
            texts.append(("roles :", captions(scene)[0]))
        elif asked := ask(world, scene):
            command = "check" if asked[1] in ("yes", "no") and world.chance(0.5) else "find"
            texts.append((f"{command} : {asked[0]} ;", asked[1]))
    return image, _patch_words(scene, owner), texts


def _patch_words(scene: list[Shape], owner: np.ndarray) -> list[str]:
    """Size, color and kind of the shape that covers most of each patch, if it covers a tenth of it."""
    count = SIDE // PATCH
    parts = owner.reshape(count, PATCH, count, PATCH).transpose(0, 2, 1, 3).reshape(PATCHES, -1)
    covered = np.stack([(parts == number).sum(1) for number in range(len(scene))], 1)
    names = [f"{shape.size} {shape.color} {shape.kind}" for shape in scene]
    return [
        names[most] if share > PATCH * PATCH / 10 else " ".join([BACKGROUND] * 3)
        for most, share in zip(covered.argmax(1), covered.max(1), strict=True)
    ]


def with_images(backbone: Backbone, texts: list[list[int]], visual: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings and mask of rows [text with `</s>` | patches], padded on the right.

    Args:
        backbone: The frozen backbone.
        texts: Pieces of each text.
        visual: Projected features of each text's image, [rows, patches, hidden].
    """
    longest = max(map(len, texts))
    ids = torch.tensor([text + [backbone.pad_id] * (longest - len(text)) for text in texts])
    mask = torch.cat([ids != backbone.pad_id, torch.ones(visual.shape[:2], dtype=torch.bool)], 1).long()
    order = mask.argsort(dim=1, descending=True, stable=True)
    rows = torch.cat([backbone.embed(ids), visual], 1)
    return rows.gather(1, order[..., None].expand_as(rows)), mask.gather(1, order)


class Drawn(NamedTuple):
    """A batch of images [images, SIDE, SIDE, 3] and texts about them.

    `words` [images, patches, 3] are the pieces that name a patch, `texts` the pieces of each text, `answers` [texts,
    length] those of its answer, padded with -100.
    """

    images: Tensor
    words: Tensor
    texts: list[list[int]]
    answers: Tensor


def draw(world: World, tokenizer: Tokenizer) -> Drawn:
    """A batch of IMAGES images with TEXTS texts each."""
    images, names, texts = zip(*(draw_image(world) for _ in range(IMAGES)), strict=True)
    known = {name: tokenizer.encode(name, add_special_tokens=False).ids for name in set().union(*names)}
    pairs = [pair for part in texts for pair in part]
    sources, answers = ([tokenizer.encode(text).ids for text in part] for part in zip(*pairs, strict=True))
    longest = max(map(len, answers))
    return Drawn(
        torch.from_numpy(np.stack(images)),
        torch.tensor([[known[name] for name in part] for part in names]),
        sources,
        torch.tensor([answer + [-100] * (longest - len(answer)) for answer in answers]),
    )


def naming_loss(backbone: Backbone, visual: Tensor, words: Tensor) -> Tensor:
    """How badly projected features [images, patches, hidden] name `words` [images, patches, 3]."""
    scores = SCALE * visual @ backbone.embedding.T
    return -scores.float().log_softmax(-1).gather(-1, words).mean()


def train_encoder(
    folder: str | Path, seed: int = 0, steps: int = STEPS, progress: Callable[[str], None] = print
) -> VisionTransformer:
    """Train the encoder with its projection and write both, as float16, to `folder`.

    Same seed, machine and number of threads: same weights.

    Args:
        folder: made if it is missing; gets the file WEIGHTS.
        seed: of the start and of the images.
        steps: the first NAMING_STEPS of them only name patches.
        progress: gets a line with the loss, the share of answers' pieces that are right, and the time left.
    """
    torch.manual_seed(seed)
    backbone, tokenizer = load_backbone(BACKBONE_FOLDER, dtype="bfloat16"), load_tokenizer(BACKBONE_FOLDER)
    world, model = World("pretraining", (seed, 17)), VisionTransformer(backbone.hidden_size)
    parameters = dict(model.named_parameters())
    matrices = [tensor for name, tensor in parameters.items() if tensor.ndim == 2 and name != "positions"]
    others = [tensor for name, tensor in parameters.items() if tensor.ndim != 2 or name == "positions"]
    muon, adam = Muon(matrices, RATE), torch.optim.AdamW(others, lr=RATE, weight_decay=0.0)
    average = {name: tensor.detach().clone() for name, tensor in parameters.items()}
    started, notes = time.monotonic(), list[tuple[float, float]]()
    for step in range(1, steps + 1):
        drawn = draw(world, tokenizer)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            visual = model.project(model(drawn.images)).bfloat16()
        loss, right = naming_loss(backbone, visual, drawn.words), 0.0
        if step > NAMING_STEPS:
            logits, answers = read(backbone, drawn, visual)
            loss = functional.cross_entropy(logits, answers) + 0.2 * loss
            right = (logits.argmax(-1) == answers).float().mean().item()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        share = min(1.0, step / WARM_UP)
        adam.param_groups[0]["lr"] = RATE * share
        muon.step(share)
        adam.step()
        model.zero_grad()
        for name, tensor in parameters.items():
            average[name].lerp_(tensor.detach(), 1 - min(AVERAGED, step / (step + 10)))
        notes.append((loss.item(), right))
        if step % REPORT_EVERY == 0 or step == steps:
            mean_loss, share_right = np.mean(notes, 0)
            left = (time.monotonic() - started) / step * (steps - step) / 60
            progress(
                f"step {step} of {steps}, loss {mean_loss:.3f}, {100 * share_right:.1f} % of pieces right, "
                f"{left:.1f} minutes left"
            )
            notes.clear()
            save(average, Path(folder))
    return load_vision_transformer(Path(folder) / WEIGHTS)


def read(backbone: Backbone, drawn: Drawn, visual: Tensor) -> tuple[Tensor, Tensor]:
    """What the T5 makes of the texts with their images' projected features: logits of the answers' pieces, and these.

    Float32 [pieces, vocabulary] and int64 [pieces].
    """
    embeddings, mask = with_images(backbone, drawn.texts, visual.repeat_interleave(TEXTS, 0))
    logits = backbone.label_states(embeddings, mask, drawn.answers).logits
    return logits, drawn.answers[drawn.answers != -100]


def save(weights: dict[str, Tensor], folder: Path) -> None:
    """Write the weights in float16."""
    with write_atomically(folder / WEIGHTS) as temporary:
        save_file({name: tensor.half() for name, tensor in weights.items()}, temporary, metadata={"format": "pt"})
