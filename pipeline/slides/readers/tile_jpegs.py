"""JPEG tiles of scanners' own formats: decoded, and whether they show damage."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from data.pixels.samples import as_rgb
from pipeline.geometry import Rect
from pipeline.slides.readers.segments import SHRINK_FLAGS, Samples

SOI, EOI = b"\xff\xd8\xff", b"\xff\xd9"
"""What a JPEG begins and ends with."""

_ZEROS = bytes(16)


def decode_jpeg(data: bytes, shrink: int = 1) -> NDArray[np.uint8]:
    """Pixels (height, width, 3) RGB of a JPEG, or of a fraction of its size.

    Raises:
        Exception: of any type.
    """
    if shrink == 1:
        pixels = imagecodecs.jpeg8_decode(data)
        return as_rgb(pixels if pixels.ndim == 3 else pixels[..., np.newaxis])
    shrunk = cv2.imdecode(np.frombuffer(data, np.uint8), SHRINK_FLAGS[shrink])
    if shrunk is None:
        raise ValueError("can't be decoded")
    return np.asarray(shrunk)


def ends_in_grey(pixels: Samples, shown: Rect, side: int = 8, grey: int = 128) -> bool:
    """Whether the last of a tile is the grey that stands for data that ended early.

    Args:
        pixels: (height, width, ...) of the tile.
        shown: how much of it lies within the picture.
        side: of a block of JPEG, in px.
        grey: the middle of what a sample may be.
    """
    corner = pixels[: shown.height, : shown.width][-side:, -side:]
    return bool((corner == grey).all()) and pixels.size > corner.size


def is_broken(data: bytes) -> bool:
    """Whether a JPEG shows that it is damaged, in its bytes; decoders often don't tell.

    It has no end, markers in its scan that don't belong there, or runs of zeros where its codes
    have none: the code of all zeros is that of nothing only in tables made for a plain picture.
    """
    data = data.rstrip(b"\0")
    if not data.endswith(EOI):
        return True
    start = data.find(b"\xff\xda") + 2
    if b"\xff\xc2" in data[:start]:
        return False  # progressive: tables and scans follow each other
    scan = np.frombuffer(data, np.uint8)[start:-2]
    after = scan[1:][scan[:-1] == 0xFF]
    if ((after != 0) & ((after < 0xD0) | (after > 0xD7))).any():
        return True
    return _ZEROS in data[start:] and any(first != 0 for first in _first_symbols(data[:start]))


def _first_symbols(head: bytes) -> Iterator[int]:
    """Of each Huffman table, what its shortest code, of zeros alone, stands for."""
    at = 2
    while at + 4 <= len(head) and head[at] == 0xFF:
        end = at + 2 + int.from_bytes(head[at + 2 : at + 4], "big")
        table = at + 4
        while head[at + 1] == 0xC4 and table + 17 < end:
            yield head[table + 17]
            table += 17 + sum(head[table + 1 : table + 17])
        at = end
