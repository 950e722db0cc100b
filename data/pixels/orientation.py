"""The turn that EXIF asks for: pictures are read as viewers and annotation tools show them."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

UPRIGHT = 1

TURNS = {
    2: "mirrored left to right",
    3: "turned by 180°",
    4: "mirrored top to bottom",
    5: "mirrored along the diagonal",
    6: "turned by 90° clockwise",
    7: "mirrored along the other diagonal",
    8: "turned by 90° counterclockwise",
}
"""What is done to the stored picture, by the value of EXIF's tag Orientation."""

_ORIENTATION = 0x0112
_HEAD = b"Exif\0\0"


def orientation_of(exif: bytes | None) -> int:
    """EXIF's orientation, 1 to 8; 1 for anything that is none, as viewers have it."""
    if not exif:
        return UPRIGHT
    try:
        tags = Image.Exif()
        with warnings.catch_warnings(action="ignore"):
            tags.load(exif if exif.startswith(_HEAD) else _HEAD + exif)
            value = tags.get(_ORIENTATION)
    except Exception:  # damaged EXIF fails in many ways; the picture is none the worse for it
        return UPRIGHT
    return value if isinstance(value, int) and value in TURNS else UPRIGHT


def turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """A stored picture (H, W, ...) as it is shown."""
    if orientation == UPRIGHT:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def turned_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Width and height of a stored picture as it is shown."""
    return (height, width) if orientation >= 5 else (width, height)
