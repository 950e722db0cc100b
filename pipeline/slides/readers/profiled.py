"""Pixels by their slide's colour profile: as the scanner's maker would have them seen.

A scanner may embed an ICC profile that says which colours its numbers stand for. Whoever shows
slides on a calibrated screen applies it; models are trained on the numbers as they are, ours too.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from configs import Doubt, StrictModel
from pipeline.errors import ReadError
from pipeline.geometry import Rect
from pipeline.slides.readers.base import Fact, Reader
from pipeline.slides.readers.planes import of_other_plane

_MOST_SAID = 60
"""Characters of a profile's name that are told."""


class ColorSettings(StrictModel):
    """How a slide's colours are taken.

    Attributes:
        icc: whether the ICC profile that a slide embeds is applied. The shipped models learned
            from pixels as they are stored.
    """

    icc: bool = False


class ProfileError(Exception):
    """A colour profile can't be applied; why, without the file's name."""


class Profile:
    """An embedded ICC profile, which leads to sRGB.

    Perceptual intent, as viewers of slides take it, with the relative colorimetric one where the
    profile has no table for that: ICC.1:2022, section 6.2.

    Args:
        data: as it is embedded.

    Attributes:
        name: as the profile calls itself.

    Raises:
        ProfileError: it is damaged, or not of RGB pixels.
    """

    def __init__(self, data: bytes) -> None:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(data))
            space = source.profile.xcolor_space.strip()
            if space != "RGB":
                raise ProfileError(f"it is of {space}, not of RGB")
            self.name = _printable(source.profile.profile_description or "without a name")
            self._transform: Any = ImageCms.buildTransform(
                source, ImageCms.createProfile("sRGB"), "RGB", "RGB", ImageCms.Intent.PERCEPTUAL
            )
        except (OSError, ImageCms.PyCMSError, ValueError, TypeError) as error:
            raise ProfileError("it is damaged") from error

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The colours of pixels (H, W, 3), in sRGB; any number of threads at once."""
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return np.asarray(self._transform.apply(image))


def by_profile(reader: Reader) -> Reader:
    """The reader of the pixels by their profile; where none can be applied it says so."""
    try:
        data = reader.profile()
        if data is None:
            text = "has no colour profile to apply (color.icc): its colours are taken as stored"
            return _told(reader, doubt=Doubt(code="icc-missing", text=text))
        profile = Profile(data)
    except (ReadError, ProfileError) as error:
        text = f"its colour profile can't be applied: {error}; its colours are taken as stored"
        return _told(reader, doubt=Doubt(code="icc-unusable", text=text))
    return _told(reader, profile, fact=f"{profile.name}, applied (color.icc)")


def with_profile_told(reader: Reader) -> Reader:
    """The reader of the pixels as they are stored, which says that there is a profile."""
    try:
        data = reader.profile()
        name = Profile(data).name if data is not None else None
    except (ReadError, ProfileError):
        name = "one that can't be read"
    return reader if name is None else _told(reader, fact=f"{name}, not applied (color.icc)")


def _told(
    reader: Reader, profile: Profile | None = None, fact: str = "", doubt: Doubt | None = None
) -> Reader:
    facts = (Fact(name="colour profile", value=fact, source="file"),) if fact else ()
    told = ProfiledReader(reader, profile)
    told.header = replace(
        reader.header,
        facts=(*reader.header.facts, *facts),
        doubts=(*reader.header.doubts, *((doubt,) if doubt else ())),
    )
    return told


class ProfiledReader(Reader):
    """A reader whose pixels are another one's by the slide's colour profile, on any focal plane.

    What was never scanned keeps the header's background: nobody photographed it.

    Args:
        reader: gives the pixels as they are stored.
        profile: of these; None where they stay so.
    """

    def __init__(self, reader: Reader, profile: Profile | None) -> None:
        self.library = reader.library
        self.files = reader.files
        self.header = reader.header
        self._reader = reader
        self._profile = profile

    def shrinks(self, level: int) -> tuple[int, ...]:
        """See `Reader.shrinks`."""
        return self._reader.shrinks(level)

    def of_plane(self, index: int) -> Reader:
        """See `Reader.of_plane`."""
        if index == self.header.plane:
            return self
        other = ProfiledReader(self._reader.of_plane(index), self._profile)
        # What was found out of the profile holds for all planes.
        other.header = of_other_plane(other.header, index, self.header, self._reader.header)
        return other

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        pixels = self._reader.read(level, region, shrink)
        return self._profile.apply(pixels) if self._profile else pixels

    def close(self) -> None:
        """See `Reader.close`."""
        self._reader.close()


def _printable(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _MOST_SAID else f"{line[:_MOST_SAID]}…"
