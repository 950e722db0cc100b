"""Plain images as slides: PNG, JPEG, WebP and BMP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.pixels.orientation import TURNS
from data.pixels.plain import Picture, PictureError, read_picture
from pipeline.errors import SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers.base import Fact, Header, Reader, levels_of, show


class ImageReader(Reader):
    """A plain image, decoded at once: these formats can't be read in parts.

    Their resolution tags say how large to print, not how large a cell is: mpp is never stated.
    """

    library = "pillow"

    def __init__(self, path: Path) -> None:
        try:
            picture = read_picture(path)
        except PictureError as error:
            raise SlideError(f"{show(path)}: {error}") from error
        self._pixels = picture.pixels
        self._profile = picture.head.profile
        self._pixels.flags.writeable = False  # what is read is a view of it
        self.header = Header(
            format=picture.head.format,
            levels=levels_of((Size(*picture.head.size),)),
            facts=tuple(_facts(picture)),
            doubts=picture.doubts,
        )

    def profile(self) -> bytes | None:
        """See `Reader.profile`."""
        return self._profile

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        return self._pixels[region.y : region.bottom, region.x : region.right]

    def close(self) -> None:
        """See `Reader.close`."""
        self._pixels = np.zeros((0, 0, 3), np.uint8)


def _facts(picture: Picture) -> Iterator[Fact]:
    """What is not the same for all plain images."""
    if picture.depth.stored > 8:
        yield Fact(name="bit depth", value=str(picture.depth), source=picture.depth.source)
    turn = TURNS.get(picture.head.orientation)
    if turn:
        yield Fact(name="orientation", value=turn, source="file")
