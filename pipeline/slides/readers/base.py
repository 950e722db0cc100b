"""What every reader of slide files gives: a header, and pixels of one level."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from configs import Doubt, StrictModel
from pipeline.errors import SlideError
from pipeline.geometry import Rect, Size

Color = tuple[int, int, int]
WHITE: Color = (255, 255, 255)


NO_PLANE = "plane-not-read"
"""The code of what is refused since a focal plane isn't there or can't be read."""

DICOM_MARK_END = 132
"""How many bytes of a file `says_dicom` looks at."""


def says_dicom(start: bytes) -> bool:
    """Whether the first bytes of a file say that it is DICOM (PS3.10, section 7.1)."""
    return start[128:DICOM_MARK_END] == b"DICM"


class UnsupportedError(SlideError):
    """A reader does not decode what the file holds; another one may."""


class Fact(StrictModel):
    """One thing that is settled about a slide, and who says so.

    Attributes:
        name: such as "mpp", "bit depth" or "focal plane".
        value: for people, with its unit.
        source: "file", "data" (what its pixels show), "argument", "override" or "table".
    """

    name: str
    value: str
    source: Literal["file", "data", "argument", "override", "table"]


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a slide's pyramid.

    Attributes:
        size: in pixels of the level.
        downsample: level-0 pixels per pixel of this level.
    """

    size: Size
    downsample: float


@dataclass(frozen=True, slots=True)
class FocalPlane:
    """One of several focal planes of a slide, whose level 0 all have one size.

    Attributes:
        name: for people, such as "z = 2 µm" or "plane 3".
        z_um: where the file says that it lies, in µm along the optical axis; None where it doesn't.
        readable: whether its pixels can be had.
    """

    name: str
    z_um: float | None = None
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Header:
    """What a slide file says of itself.

    Attributes:
        format: vendor or container, such as "aperio" or "png".
        levels: finest first.
        mpp: µm per level-0 pixel in x and y as stated, sane or not; None where nothing is stated.
        objective: magnification of the objective.
        background: colour of what was never scanned.
        bounds: level-0 area that was scanned; None where nothing is stated.
        facts: what else was settled about it, and by whom.
        doubts: what a person should know of how it was settled.
        mpp_denied: why the mpp that is stated isn't believed, although a microscope could have it.
        planes: focal planes that the file names, in its order; none where it has one.
        plane: index of the one whose pixels are read; None where there is one, or where each of
            several areas has its own.
    """

    format: str
    levels: tuple[Level, ...]
    mpp: tuple[float, float] | None = None
    objective: float | None = None
    background: Color = WHITE
    bounds: Rect | None = None
    facts: tuple[Fact, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    mpp_denied: str = ""
    planes: tuple[FocalPlane, ...] = ()
    plane: int | None = None


class Reader(ABC):
    """An open slide file.

    A reader may be used by several threads at once; it does not pickle: open one per process.

    Attributes:
        library: what decodes the pixels.
        files: that hold them, as far as it knows; the slide's own goes without saying.
    """

    library: str
    header: Header
    files: tuple[Path, ...] = ()

    def shrinks(self, level: int) -> tuple[int, ...]:
        """By what whole factors a level can be had smaller for less work than resampling it."""
        return ()

    def profile(self) -> bytes | None:
        """The ICC profile of its pixels; None where it has none.

        Raises:
            ReadError: there is one, and it can't be read.
        """
        return None

    def of_plane(self, index: int) -> Reader:
        """A reader of another focal plane of the same open file, whose level 0 has the same size.

        It is closed with this one; its own `close` does nothing.

        Args:
            index: into the header's planes.

        Raises:
            SlideError: there is no such plane, or it can't be read.
        """
        if index == self.header.plane:
            return self
        planes = self.header.planes
        if not 0 <= index < len(planes):
            count = f"{len(planes)} focal planes" if planes else "one focal plane"
            raise SlideError(f"holds {count}, and no number {index + 1}", NO_PLANE)
        raise SlideError(
            f"its focal plane {index + 1}, {planes[index].name}, can't be read", NO_PLANE
        )

    @abstractmethod
    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """Reads pixels of one level.

        Args:
            level: index into the header's levels.
            region: in pixels of that level, shrunk, wholly within it.
            shrink: 1, or one of the level's `shrinks`; a pixel then stands for a square of as many
                pixels a side, and those that fill no square at the ends are left out.

        Returns:
            (height, width, 3) RGB, transparent pixels laid on the background; not always writable.

        Raises:
            ReadError: the region can't be read; others may still be.
        """

    @abstractmethod
    def close(self) -> None:
        """Gives back the file; reading afterwards is an error."""


def levels_of(sizes: tuple[Size, ...]) -> tuple[Level, ...]:
    """Levels of the given sizes, finest first."""
    return tuple(Level(size, _downsample(sizes[0], size)) for size in sizes)


def _downsample(finest: Size, size: Size) -> float:
    """The whole factor that gives this size, rounded either way; else the mean of both ratios.

    2219 pixels halved are 1109: the factor is 2, not 2.0009, which would blur the level.
    """
    mean = (finest.width / size.width + finest.height / size.height) / 2
    for factor in (2 ** round(math.log2(mean)), round(mean)):
        x, y = finest.width / factor - size.width, finest.height / factor - size.height
        if abs(x) < 1 and abs(y) < 1:
            return factor
    return mean


def plain(size: Size, color: Color) -> NDArray[np.uint8]:
    """A canvas (height, width, 3) of one colour.

    Filled by whole rows, which is thirty times as fast as by pixels of three values.
    """
    return np.repeat(np.full((1, size.width, 3), color, np.uint8), size.height, axis=0)


def lay_on(image: Image.Image, background: Color) -> NDArray[np.uint8]:
    """Lays an RGBA image on a background: (H, W, 3)."""
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return np.asarray(image.convert("RGB"))
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image, mask=alpha)
    return np.asarray(canvas)


def show(path: Path | str) -> str:
    """A path for people, on one line and printable whatever the file is called."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(path))


def reason(error: BaseException) -> str:
    """An error of some library as a piece of one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
