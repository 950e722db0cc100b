"""Slides of the scanners' vendors, read by OpenSlide."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import ImageCms

from configs import Doubt
from pipeline.errors import ReadError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers.areas import area_facts, joined
from pipeline.slides.readers.base import (
    WHITE,
    Color,
    Header,
    Reader,
    UnsupportedError,
    lay_on,
    levels_of,
    reason,
    show,
)
from pipeline.slides.readers.planes import numbered, with_plane

GENERIC = "generic-tiff"
"""What OpenSlide calls a tiled TIFF of no vendor."""


_ICC_SIZE = "openslide.icc-size"

MOST_PLANES = 1000
"""A count of focal planes as large is nonsense."""

_MIRAX = "mirax.HIERARCHICAL."
_PLANE_COUNTS = ("ventana.Z-layers", "zeiss.Information.Image.SizeZ", "hamamatsu.NoLayers")


class VendorReader(Reader):
    """A file that OpenSlide opens.

    An OpenSlide handle that met one unreadable tile fails for ever after. Each read therefore
    has a handle of its own, taken from a pool, and a handle that failed is thrown away: neither
    a later read nor another thread's is spoilt.

    Attributes:
        downsamples: of each level, as OpenSlide has them: the mean of both sides' ratios.
    """

    library = "openslide"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._idle = [_open(path)]
        self._closed = False
        self.downsamples = self._idle[0].level_downsamples
        self.header = _header(self._idle[0])
        self._has_profile = _ICC_SIZE in self._idle[0].properties

    def profile(self) -> bytes | None:
        """See `Reader.profile`."""
        if not self._has_profile:
            return None
        try:
            with self._handle() as handle:
                profile = handle.color_profile
        except (openslide.OpenSlideError, ImageCms.PyCMSError, OSError) as error:
            raise ReadError(reason(error)) from error
        return profile.tobytes() if profile else None

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`.

        OpenSlide takes origins in whole level-0 pixels. On a level whose downsample is no whole
        number it shifts the pixels by up to half a level-0 pixel, and smooths them a little.
        """
        downsample = self.downsamples[level]
        origin = round(region.x * downsample), round(region.y * downsample)
        try:
            with self._handle() as handle:
                image = handle.read_region(origin, level, (region.width, region.height))
        except openslide.OpenSlideError as error:
            raise ReadError(f"{show(self._path)}: level {level}: {reason(error)}") from error
        return lay_on(image, self.header.background)

    def close(self) -> None:
        """See `Reader.close`."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for handle in idle:
            handle.close()

    @contextmanager
    def _handle(self) -> Iterator[openslide.OpenSlide]:
        with self._lock:
            if self._closed:
                raise ValueError(f"{show(self._path)} is closed")
            handle = self._idle.pop() if self._idle else None
        handle = handle or _open(self._path)
        try:
            yield handle
        except openslide.OpenSlideError:
            handle.close()
            raise
        with self._lock:
            if not self._closed:
                self._idle.append(handle)
                return
        handle.close()


def detect_vendor(path: Path) -> str | None:
    """The vendor whose format OpenSlide recognises, or None."""
    try:
        vendor: str | None = openslide.OpenSlide.detect_format(path)
    except openslide.OpenSlideError:
        return None
    return vendor


def _open(path: Path) -> openslide.OpenSlide:
    try:
        return openslide.OpenSlide(path)
    except (openslide.OpenSlideError, OSError) as error:
        raise UnsupportedError(f"{show(path)}: can't be opened: {reason(error)}") from error


def _header(handle: openslide.OpenSlide) -> Header:
    properties = handle.properties
    sizes = tuple(Size(*dimensions) for dimensions in handle.level_dimensions)
    header = Header(
        format=properties[openslide.PROPERTY_NAME_VENDOR],
        levels=levels_of(sizes),
        mpp=_mpp(properties),
        objective=_number(properties, openslide.PROPERTY_NAME_OBJECTIVE_POWER),
        background=_background(properties),
        bounds=_bounds(properties, sizes[0]),
        doubts=tuple(_doubts_of_bounds(properties, sizes[0])),
    )
    return _with_planes(_with_areas(header, properties), properties)


def _with_areas(header: Header, properties: Mapping[str, str]) -> Header:
    """Tells of several areas, which OpenSlide lays out as the file states it."""
    places: list[Rect] = []
    while (stated := [_number(properties, name) for name in _region(len(places))]) and (
        None not in stated
    ):
        places.append(Rect(*(int(value) for value in stated if value is not None)))
    if len(places) < 2:
        return header
    names = [""] * len(places)
    return replace(
        header,
        facts=(*header.facts, *area_facts(names, places)),
        doubts=(*header.doubts, joined(names, places, stated=True)),
    )


def _region(number: int) -> list[str]:
    sides = ("x", "y", "width", "height")
    return [f"openslide.region[{number}].{side}" for side in sides]


def _with_planes(header: Header, properties: Mapping[str, str]) -> Header:
    """Tells of focal planes of which OpenSlide shows the first."""
    count = _plane_count(properties)
    if count < 2:
        return header
    return with_plane(header, numbered(count, readable=0), 0, measured=False)


def _plane_count(properties: Mapping[str, str]) -> int:
    """How many focal planes a vendor's own properties name."""
    stated = [_number(properties, name) for name in _PLANE_COUNTS]
    number = 0
    while name := properties.get(f"{_MIRAX}HIER_{number}_NAME"):
        if "focus" in name.lower():
            stated.append(_number(properties, f"{_MIRAX}HIER_{number}_COUNT"))
        number += 1
    return int(max((count for count in stated if count and count < MOST_PLANES), default=1))


def _mpp(properties: Mapping[str, str]) -> tuple[float, float] | None:
    x = _number(properties, openslide.PROPERTY_NAME_MPP_X)
    y = _number(properties, openslide.PROPERTY_NAME_MPP_Y)
    if x is None or y is None:
        return None
    return x, y


def _background(properties: Mapping[str, str]) -> Color:
    digits = properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "")
    try:
        red, green, blue = bytes.fromhex(digits)
    except ValueError:
        return WHITE
    return red, green, blue


def _bounds(properties: Mapping[str, str], size: Size) -> Rect | None:
    stated = _stated_bounds(properties)
    return stated and stated.intersection(Rect(0, 0, size.width, size.height))


def _stated_bounds(properties: Mapping[str, str]) -> Rect | None:
    names = ("X", "Y", "WIDTH", "HEIGHT")
    values = [
        _number(properties, getattr(openslide, f"PROPERTY_NAME_BOUNDS_{name}")) for name in names
    ]
    if None in values:
        return None
    return Rect(*(int(value) for value in values if value is not None))


def _doubts_of_bounds(properties: Mapping[str, str], size: Size) -> Iterator[Doubt]:
    """Tells of a scanned area that reaches beyond the slide, or lies outside of it."""
    stated, bounds = _stated_bounds(properties), _bounds(properties, size)
    if stated and stated != bounds:
        whole = f"{size.width} x {size.height} px"
        done = "what lies on it is screened" if bounds else "all of it is screened"
        text = (
            f"its scanned area, {stated.width} x {stated.height} px at ({stated.x}, {stated.y}), "
            f"reaches beyond the slide of {whole}: {done}"
        )
        yield Doubt(code="bounds-beyond", text=text)


def _number(properties: Mapping[str, str], name: str) -> float | None:
    try:
        number = float(properties[name])
    except (KeyError, ValueError):
        return None
    return number if math.isfinite(number) else None
