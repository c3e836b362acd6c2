"""Pictures of many kinds become RGB images; whatever cannot be read is one sentence."""

import io
import struct
import zlib

import numpy as np
import pytest

from ept.errors import InputError
from ept.vision.image import MOST_PIXELS, decode

Image = pytest.importorskip("PIL.Image")

RED = np.full((4, 6, 3), (200, 10, 20), np.uint8)


def encoded(image, form="PNG"):
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def color(picture):
    image = decode(picture)
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


def test_the_same_picture_from_bytes_a_path_an_image_and_an_array(tmp_path):
    path = tmp_path / "red.png"
    path.write_bytes(encoded(Image.fromarray(RED)))
    for picture in (path.read_bytes(), path, str(path), Image.fromarray(RED), RED, RED / 255):
        assert np.array_equal(np.asarray(decode(picture)), RED)


def test_other_modes_become_rgb():
    gray = np.full((3, 3), 7, np.uint8)
    assert color(encoded(Image.fromarray(gray))) == (7, 7, 7)
    assert color(gray) == (7, 7, 7)
    assert color(encoded(Image.fromarray(np.full((3, 3), 0x8000, np.uint16)))) == (128, 128, 128)
    assert color(encoded(Image.fromarray(RED).convert("P"), "GIF"))[1:] != (255, 255)
    assert color(encoded(Image.fromarray(RED).convert("CMYK"), "TIFF")) == (200, 10, 20)
    clear = Image.new("RGBA", (2, 2), (200, 10, 20, 0))
    assert color(encoded(clear)) == (255, 255, 255)
    assert color(np.array(clear)) == (255, 255, 255)


def chunk(kind, data):
    """A part of a PNG with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side):
    """A PNG of a few bytes whose header claims side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))


@pytest.mark.parametrize("side", [7_200, 12_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(side):
    assert side * side > MOST_PIXELS
    with pytest.raises(InputError) as error:
        decode(bomb(side), "row 3")
    assert "row 3" in str(error.value) and str(MOST_PIXELS) in str(error.value)


@pytest.mark.parametrize(
    "picture",
    [
        b"",
        b"no picture",
        encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)))[:9000],
        encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)), "JPEG")[:900],
        np.zeros((2, 2, 2), np.uint8),
        np.zeros((0, 2, 3), np.uint8),
        np.full((2, 2), 300),
        np.full((2, 2), np.nan),
        np.full((2, 2), -1.0),
        np.array([["a", "b"]]),
        None,
        [1, 2],
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_picture_is_one_sentence_with_its_place(picture):
    with pytest.raises(InputError) as error:
        decode(picture, "the picture of row 7")
    assert "row 7" in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="gone.png"):
        decode(tmp_path / "gone.png")
