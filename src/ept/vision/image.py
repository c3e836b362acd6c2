"""Images of any source as RGB images, within limits: one sentence for whatever cannot be read."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ept.errors import InputError, reason_of

MOST_PIXELS = 50_000_000
"""Of one image: more than any camera phone takes. A file of a few kilobytes can stand for gigabytes of pixels."""


def decode(image: Any, where: str = "the image") -> Any:
    """An image as an RGB Pillow image.

    Transparent places become white. Of several frames the first one is taken; 16-bit gray becomes 8-bit.

    Args:
        image: Bytes of a file, a path, a Pillow image, or an array [height, width] or [height, width, 1, 3 or 4]:
            whole numbers from 0 to 255 or floating-point numbers from 0 to 1.
        where: What messages call it.

    Raises:
        InputError: There is no such file, it is no image or damaged, it has more than MOST_PIXELS pixels, the array
            has another shape or other values, or Pillow is missing.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise InputError("images need the library Pillow; install the extra `vision`") from error
    if isinstance(image, np.ndarray):
        return Image.fromarray(_pixels(image, where))
    if isinstance(image, str | Path) and not Path(image).is_file():
        raise InputError(f"{image}: there is no such file; correct the path of the image")
    if not isinstance(image, Image.Image | bytes | str | Path):
        raise InputError(
            f"{where} is of the type {type(image).__name__}; give bytes, a path, an array or a Pillow image"
        )
    where = str(image) if isinstance(image, str | Path) else where
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if not isinstance(image, Image.Image):
                image = Image.open(io.BytesIO(image) if isinstance(image, bytes) else image)
        _check_size(image.width * image.height, where)
        return _rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{where} has more than {MOST_PIXELS} pixels; make it smaller") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{where} is not an image that Pillow can read; save it as PNG or JPEG") from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        raise InputError(f"{where} is damaged or cut off ({reason_of(error)}); save it again") from error


def _check_size(pixels: int, where: str) -> None:
    if pixels > MOST_PIXELS:
        raise InputError(f"{where} has {pixels} pixels, at most {MOST_PIXELS} are read; make it smaller")


def _rgb(image: Any) -> Any:
    from PIL import Image

    image.load()
    if image.mode.startswith("I"):
        numbers = np.asarray(image).astype(np.int64)
        return Image.fromarray((numbers >> (8 if numbers.max() > 255 else 0)).clip(0, 255).astype(np.uint8)).convert(
            "RGB"
        )
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _pixels(array: np.ndarray, where: str) -> np.ndarray:
    """The array as uint8 [height, width, 3], transparent places in white."""
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        raise InputError(f"{where} has the shape {list(array.shape)}; use [height, width] or [height, width, 3]")
    _check_size(array.shape[0] * array.shape[1], where)
    most = 1.0 if np.issubdtype(array.dtype, np.floating) else 255.0
    if not (np.issubdtype(array.dtype, np.number) and array.min() >= 0 and array.max() <= most):
        raise InputError(f"{where} has values outside of 0 to {most:g}; scale them, or use whole numbers to 255")
    numbers = array.astype(np.float64) / most
    if array.shape[2] == 4:
        numbers = 1 - numbers[:, :, 3:] * (1 - numbers[:, :, :3])
    return np.broadcast_to((numbers * 255).round().astype(np.uint8), (*array.shape[:2], 3)).copy()
