"""The pixels of annotated fields: of plain images, and of slides, of which only parts are read."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from data.fields.fieldset import Field
from data.fields.places import Survey, survey_of
from data.pixels.plain import PictureError, read_picture
from data.resample import SUPPORT, resample

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]

MOST_BYTES = 2 << 30
"""Decoded images that are kept by one process: some five hundred fields of 1376 x 1020 px."""

MOST_SLIDES = 8
"""Slides that one process keeps open: each may keep 128 MB of decoded tiles, and opening takes
some 2 ms."""

SURVEY_MPP = 8.0
"""µm per pixel at which cells are told from glass."""


class ImageError(ConfigError):
    """An image, or a part of a slide, that can't be read; others may still be.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path

    def __reduce__(self) -> Any:
        """Comes through from a worker process."""
        return _image_error, (str(self), self.path)


class OpenSlide(Protocol):
    """A slide whose regions can be read at any scale."""

    def read(
        self, x: float, y: float, size: tuple[int, int], downsample: float, away: int = 0
    ) -> Pixels:
        """A region.

        Args:
            x: its left edge in level-0 px.
            y: its top edge.
            size: width and height of the result in px.
            downsample: level-0 px per px of the result.
            away: by how many focal planes beside the best-focused one, upwards; the last there is
                where there are fewer.

        Returns:
            (height, width, 3) RGB.

        Raises:
            ImageError: the region can't be read.
        """

    def overview(self, mpp: float) -> tuple[Pixels, NDArray[np.bool_], float]:
        """The whole slide at a low resolution, around whatever can't be read.

        Args:
            mpp: µm per pixel of the result.

        Returns:
            (H, W, 3) RGB; (H, W) where cells may be, which they may not where nothing can be read;
            and the level-0 px per px of both.
        """

    def close(self) -> None:
        """Gives back the file."""


Opener = Callable[[Field], OpenSlide | None]
"""Opens the slide of a field; None for a plain image, which is decoded as a whole."""


def no_slides(_: Field) -> None:
    """The opener of those who have plain images only."""


class FieldImages:
    """Pixels of fields. Copies in other processes open their slides anew: handles don't travel.

    Args:
        fields: whose pixels are wanted.
        opener: of slides.
    """

    def __init__(self, fields: Sequence[Field], opener: Opener = no_slides) -> None:
        self._fields = fields
        self._opener = opener
        self._surveys: dict[int, Survey] = {}
        self._forget()

    def crop(self, index: int, size: tuple[int, int], box: Box, away: int = 0) -> Pixels:
        """A box of a field, at any scale.

        Args:
            index: of the field.
            size: width and height of the result in px.
            box: xyxy in px of the field; may be fractional.
            away: see `OpenSlide.read`; plain images have one focal plane.

        Returns:
            (height, width, 3) RGB.

        Raises:
            ImageError: it can't be read.
        """
        field = self._fields[index]
        x, y = field.origin
        left, top, right, bottom = box
        slide = self._slide(field)
        if slide is not None:
            return slide.read(x + left, y + top, size, (right - left) / size[0], away)
        return resample(self._whole(field.image), size, (x + left, y + top, x + right, y + bottom))

    def whole(self, index: int, size: tuple[int, int]) -> Pixels:
        """All of a field, at a size of (width, height) px; see `crop`."""
        field = self._fields[index]
        return self.crop(index, size, (0.0, 0.0, field.width, field.height))

    def square(self, index: int, size: int, center: tuple[float, float], side: float) -> Pixels:
        """A square around a place, at any scale; white where it reaches beyond the image.

        Args:
            index: of the field.
            size: side of the result in px.
            center: x and y in px of the field; may be fractional.
            side: in px of the field.

        Returns:
            (size, size, 3) RGB.

        Raises:
            ImageError: it can't be read.
        """
        left, top = center[0] - side / 2, center[1] - side / 2
        field = self._fields[index]
        if self._slide(field) is not None:
            return self.crop(index, (size, size), (left, top, left + side, top + side))
        x, y = field.origin
        whole = self._whole(field.image)
        # With what the filter reaches, in whole pixels: beyond the image it finds white.
        reach = math.ceil(SUPPORT * max(side / size, 1)) + 1
        x0, y0 = math.floor(x + left) - reach, math.floor(y + top) - reach
        x1, y1 = math.ceil(x + left + side) + reach, math.ceil(y + top + side) + reach
        part = _part_on_white(whole, x0, y0, x1, y1)
        box = (x + left - x0, y + top - y0, x + left + side - x0, y + top + side - y0)
        return resample(part, (size, size), box)

    def survey(self, index: int) -> Survey:
        """How dark a field is, and where; kept, also for processes that are started later.

        Raises:
            ImageError: it can't be opened.
        """
        if index not in self._surveys:
            self._surveys[index] = self._make_survey(self._fields[index], index)
        return self._surveys[index]

    def is_slide(self, index: int) -> bool:
        """Whether a field lies on a slide, not on a plain image."""
        return self._slide(self._fields[index]) is not None

    def __getstate__(self) -> dict[str, Any]:
        return {"_fields": self._fields, "_opener": self._opener, "_surveys": self._surveys}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _make_survey(self, field: Field, index: int) -> Survey:
        slide = self._slide(field)
        if slide is None:
            pixels = max(1.0, SURVEY_MPP / (field.mpp or SURVEY_MPP))
            size = max(1, round(field.width / pixels)), max(1, round(field.height / pixels))
            steps = np.array([field.width, field.height]) / size
            return survey_of(self.whole(index, size), steps)
        image, cellular, step = slide.overview(SURVEY_MPP)
        x, y = (round(start / step) for start in field.origin)
        columns = slice(x, x + math.ceil(field.width / step))
        part = slice(y, y + math.ceil(field.height / step)), columns
        return survey_of(image[part], np.array([step, step]), cellular[part])

    def _forget(self) -> None:
        self._process = os.getpid()
        self._slides: OrderedDict[Path, OpenSlide | None] = OrderedDict()
        self._decoded: OrderedDict[Path, Pixels] = OrderedDict()
        self._bytes = 0

    def _slide(self, field: Field) -> OpenSlide | None:
        if self._process != os.getpid():  # a fork shares its parent's position in the file
            self._process = os.getpid()
            self._slides.clear()
        if field.image not in self._slides:
            self._slides[field.image] = self._opener(field)
        self._slides.move_to_end(field.image)
        if len(self._slides) > MOST_SLIDES:
            _, oldest = self._slides.popitem(last=False)
            if oldest is not None:
                oldest.close()
        return self._slides[field.image]

    def _whole(self, path: Path) -> Pixels:
        if path not in self._decoded:
            self._decoded[path] = pixels = _decode(path)
            self._bytes += pixels.nbytes
            while self._bytes > MOST_BYTES and len(self._decoded) > 1:
                self._bytes -= self._decoded.popitem(last=False)[1].nbytes
        self._decoded.move_to_end(path)
        return self._decoded[path]


def _part_on_white(image: Pixels, x0: int, y0: int, x1: int, y1: int) -> Pixels:
    """Pixels x0..x1, y0..y1 of an image, and white where it has none."""
    height, width = image.shape[:2]
    if min(x0, y0) >= 0 and x1 <= width and y1 <= height:
        return image[y0:y1, x0:x1]
    part = np.full((y1 - y0, x1 - x0, 3), 255, np.uint8)
    left, right = np.clip([x0, x1], 0, width).tolist()
    top, bottom = np.clip([y0, y1], 0, height).tolist()
    part[top - y0 : bottom - y0, left - x0 : right - x0] = image[top:bottom, left:right]
    return part


def _decode(path: Path) -> Pixels:
    try:
        return read_picture(path).pixels
    except PictureError as error:
        raise ImageError(path, str(error)) from error


def _image_error(text: str, path: Path) -> ImageError:
    return ImageError(path, text.removeprefix(f"{path}: "))
