"""How a JPEG's colours are stored: by its markers, where the file around it says otherwise."""

from __future__ import annotations

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC, PLANARCONFIG

from configs import Doubt
from data.pixels.jpeg import Space, jpeg_head
from pipeline.slides.readers import tiff_tags
from pipeline.slides.readers.segments import Segments

NAMES: dict[Space, str] = {"rgb": "RGB", "ycbcr": "YCbCr"}
"""For people."""

_STATED: dict[int, Space] = {PHOTOMETRIC.RGB: "rgb", PHOTOMETRIC.YCBCR: "ycbcr"}
_TAGS = {space: PHOTOMETRIC(tag) for tag, space in _STATED.items()}


def misstated(segments: Segments) -> Space | None:
    """What a TIFF's tag says of the colours where the markers of its fullest JPEG deny it.

    None where they don't, or where there are none.
    """
    page, counts = segments.keyframe, np.asarray(segments.page.databytecounts)
    stated = _STATED.get(page.photometric)
    suited = (
        stated is not None
        and page.compression in tiff_tags.JPEG_CODECS
        and page.samplesperpixel == 3
        and page.planarconfig == PLANARCONFIG.CONTIG
        and counts.any()
    )
    if not suited:
        return None
    try:
        head = jpeg_head(segments.stored(int(counts.argmax())) or b"")
    except (EOFError, OSError):  # reading it will tell
        return None
    marked = head.space if head else None
    return stated if marked not in (None, stated) else None


def believe_markers(segments: Segments) -> Space | None:
    """Has a page decoded as its JPEGs say, before any of it is; what its tag says if otherwise."""
    stated = misstated(segments)
    if stated:
        segments.keyframe.photometric = _TAGS[other(stated)]
    return stated


def misread(segments: Segments, index: int, stated: Space) -> NDArray[np.uint8]:
    """A tile's pixels as if its colours were stored as the tag says, against its markers."""
    return decode_jpeg(segments.stored(index) or b"", stated, segments.page.jpegtables)


def decode_jpeg(data: bytes, space: Space, tables: bytes | None = None) -> NDArray[np.uint8]:
    """A JPEG's pixels (H, W, 3), RGB, its colours stored in a way that the caller knows."""
    return np.asarray(
        imagecodecs.jpeg8_decode(data, tables=tables, colorspace=space, outcolorspace="rgb")
    )


def other(space: Space) -> Space:
    """The other one of the two ways."""
    return "ycbcr" if space == "rgb" else "rgb"


def told(stated: Space, who: str) -> Doubt:
    """What a person should know of colours that ``who`` misstates."""
    text = (
        f"{who} says that colours are stored as {NAMES[stated]}, but its JPEGs say "
        f"{NAMES[other(stated)]}: they are believed"
    )
    return Doubt(code="colour-misstated", text=text)
