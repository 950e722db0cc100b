"""A slide to be looked at: its own pixels near by, one overview from afar.

A file's coarsest level may be far finer than the whole slide on a screen: a slide without any
smaller level would be decoded whole for its first view. So scales far coarser than the file's own
are resampled from one overview. It is made of the coarsest level where that is small. Where it is
large it is the overview that the report has: 1,600 px wide, and there at once.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.resample import resample
from pipeline.geometry import Size
from pipeline.review.tiles import hatching
from pipeline.slides.slide import Slide

OVERVIEW_PX = 2048
"""Longest side of an overview that is made of the slide."""

CHEAP_PX = 64_000_000
"""Pixels of a level that is read for an overview: it takes a second or less."""

_REACH = 4
"""Scales up to this much coarser than the file's coarsest source are read from it."""

_STRETCH = 1.5
"""By how much an overview may be enlarged: beyond the pixels come from the file."""


class Ground:
    """Pixels of an open slide at any scale; see `tiles.Pixels`.

    Args:
        slide: stays open as long as this is used.
        picture: gives the JPEG of an overview that is there already; None for none.
    """

    def __init__(self, slide: Slide, picture: Callable[[], bytes | None]) -> None:
        self._slide = slide
        self._picture = picture
        self._lock = threading.Lock()
        self._overview: NDArray[np.uint8] | None = None
        self._downsample = (1.0, 1.0)
        self._made = False
        coarsest = slide.sources_for(float("inf"))[0]
        self._coarsest = coarsest.downsample
        self._is_cheap = coarsest.size.area <= CHEAP_PX

    @property
    def nbytes(self) -> int:
        """Memory of the overview."""
        return 0 if self._overview is None else self._overview.nbytes

    def read_region(self, x: float, y: float, size: Size, downsample: float) -> NDArray[np.uint8]:
        """A region, (height, width, 3) RGB.

        Raises:
            ReadError: it can't be read.
        """
        if downsample > _REACH * self._coarsest:
            overview = self._made_overview()
            if overview is not None and max(self._downsample) <= downsample * _STRETCH:
                return self._cut(overview, x, y, size, downsample)
        return self._slide.read_region(x, y, size, downsample)

    def _cut(
        self, overview: NDArray[np.uint8], x: float, y: float, size: Size, downsample: float
    ) -> NDArray[np.uint8]:
        """A part of the overview; what lies beyond the slide is background."""
        across, down = self._downsample
        height, width = overview.shape[:2]
        left, top = x / across, y / down
        right, bottom = (
            left + size.width * downsample / across,
            top + size.height * downsample / down,
        )
        if left < 0 or top < 0 or right > width or bottom > height:
            overview, left, top, right, bottom = self._padded(overview, left, top, right, bottom)
        return resample(overview, (size.width, size.height), (left, top, right, bottom))

    def _padded(
        self, overview: NDArray[np.uint8], left: float, top: float, right: float, bottom: float
    ) -> tuple[NDArray[np.uint8], float, float, float, float]:
        height, width = overview.shape[:2]
        before = max(0, int(np.ceil(-left))), max(0, int(np.ceil(-top)))
        after = max(0, int(np.ceil(right - width))), max(0, int(np.ceil(bottom - height)))
        canvas = np.empty(
            (height + before[1] + after[1], width + before[0] + after[0], 3), np.uint8
        )
        canvas[:] = self._slide.background
        canvas[before[1] : before[1] + height, before[0] : before[0] + width] = overview
        return (
            canvas,
            left + before[0],
            top + before[1],
            right + before[0],
            bottom + before[1],
        )

    def _made_overview(self) -> NDArray[np.uint8] | None:
        with self._lock:
            if not self._made:
                self._overview = self._read_overview() if self._is_cheap else self._taken()
                self._made = True
            return self._overview

    def _read_overview(self) -> NDArray[np.uint8]:
        size = self._slide.size
        downsample = max(self._coarsest, max(size.width, size.height) / OVERVIEW_PX)
        image, readable = self._slide.overview(downsample)
        if not readable.all():
            marks = hatching(0, 0, Size(image.shape[1], image.shape[0]))
            image = np.where(readable[..., None], image, marks)
        self._downsample = (downsample, downsample)
        return image

    def _taken(self) -> NDArray[np.uint8] | None:
        """The report's overview, if its shape is the slide's."""
        jpeg = self._picture()
        if jpeg is None:
            return None
        try:
            with Image.open(io.BytesIO(jpeg)) as image:
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, ValueError):
            return None
        size = self._slide.size
        downsample = max(size.width, size.height) / max(pixels.shape[:2])
        wide, high = size.width / downsample, size.height / downsample
        if abs(wide - pixels.shape[1]) > 1.01 or abs(high - pixels.shape[0]) > 1.01:
            return None
        self._downsample = (downsample, downsample)
        return pixels
