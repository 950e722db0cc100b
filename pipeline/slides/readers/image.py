"""Plain images: PNG, JPEG, WebP and BMP, read by Pillow."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.errors import SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers.base import WHITE, Header, Reader, lay_on, levels_of, reason, show

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")


class ImageReader(Reader):
    """A plain image, decoded at once: these formats can't be read in parts.

    Their resolution tags say how large to print, not how large a cell is: mpp is never stated.
    """

    library = "pillow"

    def __init__(self, path: Path) -> None:
        self._pixels, image_format = _decode(path)
        self._pixels.flags.writeable = False  # what is read is a view of it
        height, width = self._pixels.shape[:2]
        self.header = Header(image_format, levels_of((Size(width, height),)))

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        return self._pixels[region.y : region.bottom, region.x : region.right]

    def close(self) -> None:
        """See `Reader.close`."""
        self._pixels = np.zeros((0, 0, 3), np.uint8)


def is_image(path: Path) -> bool:
    """Whether the file starts as one of `FORMATS` does."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS):
            return True
    except UnidentifiedImageError:
        return False
    except (Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        return True  # it is one, and reading it will say what is wrong


def _decode(path: Path) -> tuple[NDArray[np.uint8], str]:
    """Pixels (H, W, 3) and the format's name in lower case."""
    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path, formats=FORMATS) as image,
        ):
            return _to_rgb(image), str(image.format).lower()
    except Image.DecompressionBombError as error:
        raise SlideError(
            f"{show(path)}: too large for a plain image, which must be held in memory whole; "
            "convert it to a pyramidal tiled TIFF"
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise SlideError(f"{show(path)}: damaged or truncated image: {reason(error)}") from error


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16"):
        # Pillow would clip 16 bits to 8 rather than scale them
        grey = (np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError("more than 16 bits a pixel")
    if image.has_transparency_data:
        return lay_on(image.convert("RGBA"), WHITE)
    return np.asarray(image.convert("RGB"))
