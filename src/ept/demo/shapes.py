"""Images of the demonstration: colored things drawn with NumPy, questions about them, captions, and drawn digits.

The frozen tokenizer knows no names of shapes. A disc is a ball, a triangle a tree, a square a house and a ring a wheel.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ept.demo.world import World
from ept.errors import InputError

SIDE = 48
"""Height and width of an image in pixels."""
KINDS = ("ball", "tree", "house", "wheel")
COLORS = {"red": (205, 50, 45), "blue": (45, 80, 205), "green": (40, 155, 70)}
SIZES = {"small": 5.0, "big": 9.5}
"""Word -> half of the height in pixels."""
LARGER, SMALLER = ("big", "large"), ("small", "little")
COUNTS = ("1", "2", "3")
ANSWERS = ("yes", "no", *COUNTS, *KINDS, *COLORS)
"""Every answer to a question about an image."""
CELL = SIDE // 2


@dataclass(frozen=True)
class Shape:
    """A thing in an image: words for kind, color and size, and its center in pixels."""

    kind: str
    color: str
    size: str
    x: float
    y: float

    @property
    def on_the_left(self) -> bool:
        """Whether it is in the left half of the image."""
        return self.x < CELL


def draw_scene(world: World, most: int = 4) -> list[Shape]:
    """One to `most` (4 at most) shapes in reading order, each in a quarter of the image of its own.

    At most three have one color, so that there is a question about every scene.
    """
    quarters = sorted(world.several(range(4), 1 + world.below(most)))
    while True:
        scene = [_shape(world, CELL * (quarter % 2), CELL * (quarter // 2)) for quarter in quarters]
        if len(scene) < 4 or len({shape.color for shape in scene}) > 1:
            return scene


def _shape(world: World, left: int, top: int) -> Shape:
    size = world.pick(tuple(SIZES))
    free = CELL - 2 * SIZES[size] - 2
    x, y = (start + 1 + SIZES[size] + world.number() * free for start in (left, top))
    return Shape(world.pick(KINDS), world.pick(tuple(COLORS)), size, x, y)


def paint(world: World, scene: list[Shape]) -> tuple[np.ndarray, np.ndarray]:
    """The image of a scene, uint8 [SIDE, SIDE, 3], and which shape each pixel shows, int64 [SIDE, SIDE], else -1."""
    rng = np.random.default_rng(world.below(2**31))
    image = rng.uniform(200, 245) + rng.normal(0, 5, (SIDE, SIDE, 3))
    owner = np.full((SIDE, SIDE), -1)
    for number, shape in enumerate(scene):
        color = np.array(COLORS[shape.color]) + rng.uniform(-25, 25, 3)
        cover = np.clip(0.5 - _distance(shape), 0, 1)
        image += cover[:, :, None] * (color - image)
        owner[cover > 0.5] = number
    return np.clip(image, 0, 255).astype(np.uint8), owner


def _distance(shape: Shape) -> np.ndarray:
    """About how far outside of the shape each pixel is, in pixels; negative inside. [SIDE, SIDE]."""
    places = np.arange(SIDE) + 0.5
    across, down = places[None, :] - shape.x, places[:, None] - shape.y
    half = SIZES[shape.size]
    if shape.kind == "house":
        return np.maximum(np.abs(across), np.abs(down)) - 0.9 * half
    if shape.kind == "tree":
        return np.maximum(down - 0.9 * half, 0.88 * np.abs(across) - 0.48 * (down + half))
    away = np.sqrt(across**2 + down**2)
    return away - half if shape.kind == "ball" else np.abs(away - 0.72 * half) - 0.28 * half


Question = Callable[[World, list[Shape]], tuple[str, str] | None]


def _count(world: World, scene: list[Shape]) -> tuple[str, str] | None:
    color = world.pick(tuple(COLORS))
    found = str(sum(shape.color == color for shape in scene))
    return (f"how many were {color}?", found) if found in COUNTS else None


def _kind(world: World, scene: list[Shape]) -> tuple[str, str] | None:
    shape = world.pick(scene)
    alone = sum(other.color == shape.color for other in scene) == 1
    return (f"what was {shape.color}?", shape.kind) if alone else None


def _only(world: World, scene: list[Shape]) -> Shape | None:
    """A shape that is the only one of its kind, None where there is none."""
    kinds = [shape.kind for shape in scene]
    alone = [shape for shape in scene if kinds.count(shape.kind) == 1]
    return world.pick(alone) if alone else None


def _color(world: World, scene: list[Shape]) -> tuple[str, str] | None:
    shape = _only(world, scene)
    return (f"how was the {shape.kind}?", shape.color) if shape else None


def _is_colored(world: World, scene: list[Shape]) -> tuple[str, str] | None:
    if not (shape := _only(world, scene)):
        return None
    color = shape.color if world.chance(0.5) else world.other(tuple(COLORS), shape.color)
    return f"was the {shape.kind} {color}?", "yes" if color == shape.color else "no"


def _is_sized(world: World, scene: list[Shape]) -> tuple[str, str] | None:
    if not (shape := _only(world, scene)):
        return None
    size = world.pick(tuple(SIZES))
    return f"was the {shape.kind} {size}?", "yes" if size == shape.size else "no"


def _is_left(world: World, scene: list[Shape]) -> tuple[str, str] | None:
    first, second = _only(world, scene), _only(world, scene)
    if not first or not second or first.on_the_left == second.on_the_left:
        return None
    return f"was the {first.kind} left and the {second.kind} right?", "yes" if first.on_the_left else "no"


QUESTIONS: tuple[tuple[tuple[Question, ...], tuple[str, ...]], ...] = (
    ((_count,), COUNTS),
    ((_kind,), KINDS),
    ((_color,), tuple(COLORS)),
    ((_is_colored, _is_sized, _is_left), ("yes", "no")),
)
"""Questions, a group for each set of answers."""


def ask(world: World, scene: list[Shape]) -> tuple[str, str] | None:
    """A question about a scene and its answer; None where the question that was drawn does not fit."""
    return world.pick(world.pick(QUESTIONS)[0])(world, scene)


def draw_question(world: World) -> tuple[list[Shape], str, str]:
    """A scene, a question and its answer: every set of answers is equally likely, and so is each answer of a set."""
    group, answers = world.pick(QUESTIONS)
    wanted, question = world.pick(answers), world.pick(group)
    while True:
        scene = draw_scene(world)
        asked = question(world, scene)
        if asked and asked[1] == wanted:
            return scene, *asked


def captions(scene: list[Shape]) -> list[str]:
    """Three sentences that tell the same scene."""
    plain = [f"a {shape.size} {shape.color} {shape.kind}" for shape in scene]
    other = [phrase.replace("a big", "a large").replace("a small", "a little") for phrase in plain]
    told = [f"the {shape.kind} was {shape.size} and {shape.color}" for shape in scene]
    return [" and ".join(plain), " beside ".join(other), " and ".join(told)]


def png(image: np.ndarray) -> bytes:
    """An image, uint8 [height, width, 3] or [height, width], as an uncompressed PNG: the same bytes everywhere."""
    height, width = image.shape[:2]
    rows = np.insert(image.reshape(height, -1), 0, 0, axis=1).astype(np.uint8)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if image.ndim == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 0)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


# Strokes of each digit as corners (x, y) between 0 and 1, y downward.
_STROKES: tuple[tuple[tuple[float, float], ...], ...] = (
    ((0.5, 0), (0.2, 0.15), (0.1, 0.5), (0.2, 0.85), (0.5, 1), (0.8, 0.85), (0.9, 0.5), (0.8, 0.15), (0.5, 0)),
    ((0.3, 0.2), (0.55, 0), (0.55, 1)),
    ((0.15, 0.2), (0.4, 0), (0.75, 0.1), (0.8, 0.35), (0.5, 0.65), (0.1, 1), (0.9, 1)),
    ((0.15, 0.05), (0.7, 0.05), (0.8, 0.25), (0.4, 0.48), (0.85, 0.65), (0.75, 0.92), (0.15, 0.97)),
    ((0.55, 0), (0.1, 0.6), (0.9, 0.6), (0.7, 0.6), (0.7, 0.3), (0.65, 1)),
    ((0.85, 0), (0.25, 0), (0.2, 0.42), (0.65, 0.42), (0.85, 0.65), (0.7, 0.95), (0.15, 1)),
    ((0.7, 0), (0.35, 0.25), (0.15, 0.65), (0.3, 0.97), (0.7, 0.97), (0.85, 0.7), (0.6, 0.5), (0.2, 0.6)),
    ((0.1, 0), (0.9, 0), (0.6, 0.45), (0.4, 1)),
    ((0.5, 0.45), (0.2, 0.25), (0.5, 0), (0.8, 0.25), (0.5, 0.45), (0.15, 0.75), (0.5, 1), (0.85, 0.75), (0.5, 0.45)),
    ((0.8, 0.4), (0.4, 0.5), (0.15, 0.25), (0.5, 0), (0.8, 0.15), (0.8, 0.5), (0.6, 1)),
)


def paint_digit(world: World, digit: int) -> np.ndarray:
    """A digit in dark strokes as a coarse scan shows it, uint8 [SIDE, SIDE, 3]; its form varies."""
    rng = np.random.default_rng(world.below(2**31))
    corners = np.array(_STROKES[digit]) + rng.normal(0, 0.035, (len(_STROKES[digit]), 2))
    turn, slant = rng.normal(0, 0.12), rng.normal(0, 0.2)
    stretched = (corners - 0.5) * rng.uniform((18, 37), (34, 47))
    turned = stretched @ np.array([[np.cos(turn), np.sin(turn)], [slant - np.sin(turn), np.cos(turn)]])
    every_other = np.arange(1, SIDE, 2)
    points = np.stack(np.meshgrid(every_other, every_other), -1) - SIDE / 2 - rng.uniform(-2, 2, 2)
    starts, ends = turned[:-1], turned[1:]
    along = ends - starts
    share = ((points[:, :, None] - starts) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-6)
    nearest = starts + np.clip(share, 0, 1)[..., None] * along
    away = np.sqrt(((points[:, :, None] - nearest) ** 2).sum(-1)).min(-1)
    ink = np.clip(rng.uniform(2.2, 4) - away, 0, 1)
    # As in scans of 8 x 8 points that are enlarged.
    coarse = ink.reshape(8, 3, 8, 3).mean((1, 3)) * rng.uniform(1, 1.3)
    weights = np.stack([np.interp((np.arange(SIDE) - 2.5) / 6, np.arange(8), row) for row in np.eye(8)], 1)
    gray = 255 * (1 - np.clip(weights @ coarse @ weights.T, 0, 1))
    return np.repeat(gray.astype(np.uint8)[:, :, None], 3, 2)


def _stored(image: np.ndarray) -> dict:
    """An image in the layout of Hugging Face's Image."""
    return {"bytes": png(image), "path": None}


def shapes_vqa(world: World) -> dict:
    """A row with a question about shapes."""
    scene, question, answer = draw_question(world)
    return {"image": _stored(paint(world, scene)[0]), "question": question, "label": ANSWERS.index(answer)}


def shapes_captioning(world: World) -> dict:
    """A row with three captions of up to three shapes."""
    scene = draw_scene(world, most=3)
    return {"image": _stored(paint(world, scene)[0]), "answers": captions(scene)}


_IMAGE = ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
_QUESTION = pa.schema([_IMAGE, ("question", pa.string()), ("label", pa.int64())])
_CAPTION = pa.schema([_IMAGE, ("answers", pa.list_(pa.string()))])
_SIZES = {"train": 1500, "validation": 300, "test": 400}
_DIGITS = {"train": slice(0, 897), "validation": slice(897, 1197), "test": slice(1197, None)}
"""Images of each split, in permuted order."""
IMAGE_TASKS = ("shapes_vqa", "shapes_captioning", "digits")


def image_table(task_name: str, split: str, seed: int) -> pa.Table:
    """A split (train, validation, test) of a task with images. Raises InputError for digits without scikit-learn."""
    if task_name == "digits":
        return pa.Table.from_pylist(_digits(split), schema=_QUESTION)
    world = World("validation", (seed, zlib.crc32(task_name.encode()), zlib.crc32(split.encode())))
    make, schema = (shapes_vqa, _QUESTION) if task_name == "shapes_vqa" else (shapes_captioning, _CAPTION)
    return pa.Table.from_pylist([make(world) for _ in range(_SIZES[split])], schema=schema)


def _digits(split: str) -> list[dict]:
    """Three questions about each of scikit-learn's handwritten digits, 8 x 8 points (UCI, CC BY 4.0)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(
            "the task digits needs scikit-learn, which has its images; install the extra `vision`"
        ) from error
    found = load_digits()
    rows = []
    for number in np.random.default_rng(0).permutation(len(found.target))[_DIGITS[split]]:
        digit = int(found.target[number])
        image = _stored((255 * (1 - found.images[number] / 16)).round().astype(np.uint8))
        # The answers' places in the task's labels: the ten digits, yes, no.
        asked = (
            ("which digit is it?", digit),
            ("is it even?", 10 + digit % 2),
            ("is it above four?", 10 + (digit < 5)),
        )
        rows += [{"image": image, "question": question, "label": label} for question, label in asked]
    return rows
