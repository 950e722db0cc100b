"""What a reader that isn't ours says of a slide, held against what can be true."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Base64Bytes, BaseModel, ValidationError

from pipeline.errors import ReadError, SlideError, kind_and_text
from pipeline.geometry import Rect, Size
from pipeline.slides.plugins import PluginError
from pipeline.slides.readers.base import Header, Reader, show

LONGEST_SIDE = 2**21
"""Of level 0, in px: a glass slide of 76 mm at 0.036 µm a pixel."""

Shrinks = tuple[tuple[int, ...], ...]
"""What `Reader.shrinks` gives for each level."""


class _Said(BaseModel):
    header: Header
    shrinks: Shrinks
    profile: Base64Bytes | None


@dataclass(frozen=True)
class Described:
    """What a reader says of its slide; goes as text from one process to another.

    Attributes:
        header: of the slide.
        shrinks: for each level.
        profile: of its colours; None where there is none.
    """

    header: Header
    shrinks: Shrinks
    profile: bytes | None = None

    @staticmethod
    def read(text: str) -> Described:
        """What a text says.

        Raises:
            PluginError: it can't be true.
        """
        try:
            said = _Said.model_validate(json.loads(text))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])).removeprefix("header.")
            raise PluginError(f"its header is none: {where}: {first['msg']}") from error
        except (ValueError, RecursionError) as error:
            raise PluginError("its header is none") from error
        _check(said.header)
        header = _of_one_plane(said.header)
        _check_shrinks(header, said.shrinks)
        return Described(header, said.shrinks, said.profile)

    @staticmethod
    def text_of(reader: Reader) -> str:
        """The text of an open reader's.

        Raises:
            PluginError: it has no header, or one that can't be written.
        """
        header = getattr(reader, "header", None)
        if not isinstance(header, Header):
            raise PluginError(f"its reader's header is a {type(header).__name__}, not a Header")
        try:
            shrinks = [list(reader.shrinks(level)) for level in range(len(header.levels))]
            profile = reader.profile()
            said = {
                "header": dataclasses.asdict(header),
                "shrinks": shrinks,
                "profile": profile if profile is None else base64.b64encode(profile).decode(),
            }
            return json.dumps(said, default=_plain)
        except Exception as error:  # of code that isn't ours
            raise PluginError(f"its header is none: {kind_and_text(error)}") from error


def check_pixels(pixels: object, region: Rect) -> NDArray[np.uint8]:
    """What a reader gave for a region.

    Raises:
        PluginError: it is not what the region asks for.
    """
    if not isinstance(pixels, np.ndarray):
        raise PluginError(f"its read() gives {type(pixels).__name__}, not an array")
    if pixels.dtype != np.uint8 or pixels.shape != (region.height, region.width, 3):
        raise PluginError(
            f"its read() gives {pixels.dtype} of {pixels.shape}, "
            f"not uint8 of {(region.height, region.width, 3)}"
        )
    return pixels


class CheckedReader(Reader):
    """A reader that isn't ours, in this process: each answer is looked at, each error is one line.

    What it raises while it reads means that the region is unread; what it gives that can't be true
    fails the slide.

    Args:
        reader: of another package.
        path: of the slide.
        library: names the reader.

    Raises:
        PluginError: its header can't be true.
    """

    def __init__(self, reader: Reader, path: Path, library: str) -> None:
        said = Described.read(Described.text_of(reader))
        self.library = library
        self.header = said.header
        self._shrinks = said.shrinks
        self._profile = said.profile
        self._reader = reader
        self._path = path

    def shrinks(self, level: int) -> tuple[int, ...]:
        """See `Reader.shrinks`."""
        return self._shrinks[level]

    def profile(self) -> bytes | None:
        """See `Reader.profile`."""
        return self._profile

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        pixels = read_by(self._reader, level, region, shrink)
        try:
            return check_pixels(pixels, region)
        except PluginError as error:
            text = f"{show(self._path)}: its reader, {self.library}: {error}"
            raise SlideError(text, "reader-failed") from error

    def close(self) -> None:
        """See `Reader.close`."""
        close_by(self._reader)


def read_by(reader: Reader, level: int, region: Rect, shrink: int) -> object:
    """What another package's reader gives for a region; whatever it raises is a `ReadError`."""
    try:
        return reader.read(level, region, shrink)
    except SlideError:
        raise
    except Exception as error:
        raise ReadError(kind_and_text(error)) from error


def close_by(reader: Reader) -> None:
    """Closes another package's reader; what it raises then changes no result."""
    try:
        reader.close()
    except Exception:
        return


def _check(header: Header) -> None:
    """Holds a header against what a slide can be; the mpp is for `settle_mpp` to judge.

    Raises:
        PluginError: it can't be true.
    """
    if not header.format.strip() or not header.format.isprintable():
        raise PluginError(f"its header's format is {header.format!r}")
    if not header.levels:
        raise PluginError("its header has no levels")
    downsamples = [level.downsample for level in header.levels]
    if downsamples[0] != 1 or not all(a <= b for a, b in pairwise(downsamples)):
        raise PluginError(f"its levels are {downsamples} times smaller; 1 comes first, then more")
    finest = header.levels[0].size
    for number, level in enumerate(header.levels):
        sides = (level.size.width, level.size.height)
        if not all(0 < side <= LONGEST_SIDE for side in sides):
            raise PluginError(f"its level {number} has {sides[0]} x {sides[1]} px")
        shrunk = (finest.width / level.downsample, finest.height / level.downsample)
        if not all(abs(a - b) <= max(1, 0.02 * b) for a, b in zip(shrunk, sides, strict=True)):
            raise PluginError(
                f"its level {number} of {sides[0]} x {sides[1]} px is not level 0 of "
                f"{finest.width} x {finest.height} px, {level.downsample:g} times smaller"
            )
    if header.objective is not None and not 0 < header.objective < math.inf:
        raise PluginError(f"its objective is {header.objective:g}x")
    if header.bounds and header.bounds != header.bounds.intersection(_all_of(finest)):
        raise PluginError("its bounds lie outside of level 0")
    if not all(0 <= value <= 255 for value in header.background):
        raise PluginError(f"its background is {header.background}")


def _of_one_plane(header: Header) -> Header:
    """The header of a slide of whose focal planes one is read: the questions name no other.

    Raises:
        PluginError: it is none of them.
    """
    if header.plane is not None and not 0 <= header.plane < len(header.planes):
        raise PluginError(f"its plane is {header.plane}, of {len(header.planes)}")
    planes = tuple(
        dataclasses.replace(plane, readable=index == header.plane)
        for index, plane in enumerate(header.planes)
    )
    return dataclasses.replace(header, planes=planes)


def _check_shrinks(header: Header, shrinks: Shrinks) -> None:
    if len(shrinks) != len(header.levels):
        raise PluginError(f"its shrinks() is of {len(shrinks)} levels, not {len(header.levels)}")
    for level, factors in zip(header.levels, shrinks, strict=True):
        least = min(level.size.width, level.size.height)
        if not all(isinstance(one, int) and 1 < one <= least for one in factors):
            raise PluginError(f"its shrinks() gives {list(factors)}")


def _all_of(size: Size) -> Rect:
    return Rect(0, 0, size.width, size.height)


def _plain(value: object) -> Any:
    """What JSON doesn't know: our models, and numbers of numpy."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} among its values")
