"""What a TIFF's tags and its OME-XML say of the pixels: scale, white, alpha, colours."""

from __future__ import annotations

from typing import Literal
from xml.etree import ElementTree

from tifffile import (
    COMPRESSION,
    EXTRASAMPLE,
    PHOTOMETRIC,
    RESUNIT,
    TIFF,
    TiffFile,
    TiffPage,
)

RGB_CODECS = frozenset(TIFF.IMAGE_COMPRESSIONS) - {COMPRESSION.APERIO_JP2000_YCBC}
"""Compressions whose decoders give RGB or grey, whatever the colours are stored as."""

JPEG_CODECS = frozenset({COMPRESSION.OJPEG, COMPRESSION.JPEG, 33007, COMPRESSION.JPEG_LOSSY})
"""Compressions whose segments may share tables."""

_PLAIN_COLORS = (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB)

_MICROMETRES = {"m": 1e6, "cm": 1e4, "mm": 1e3, "\u00b5m": 1.0, "\u03bcm": 1.0, "nm": 1e-3}


def color_problem(page: TiffPage) -> str | None:
    """Why the colours or the compression of a page can't be read, or None."""
    known = page.compression == COMPRESSION.NONE or page.compression in TIFF.DECOMPRESSORS
    if not known:
        return f"its compression ({int(page.compression)}) is not known"
    if page.photometric not in _PLAIN_COLORS and page.compression not in RGB_CODECS:
        return f"its colours are stored in a way that is not read ({page.photometric!r})"
    return None


def alpha_kind(page: TiffPage) -> Literal["associated", "unassociated"] | None:
    """Whether the first extra sample is opacity, and whether it is multiplied in already."""
    first = page.extrasamples[0] if page.extrasamples else EXTRASAMPLE.UNSPECIFIED
    if first == EXTRASAMPLE.ASSOCALPHA:
        return "associated"
    return "unassociated" if first == EXTRASAMPLE.UNASSALPHA else None


def white_level(file: TiffFile, index: int) -> int:
    """The sample value of white: cameras of 12 or 14 bits fill a part of 16 bits."""
    stored = int(file.series[index].keyframe.bitspersample)
    significant = _ome_pixels(file, index).get("SignificantBits", "")
    bits = int(significant) if significant.isdecimal() else stored
    return (1 << min(max(bits, 1), stored)) - 1


def mpp(file: TiffFile, index: int) -> tuple[float, float] | None:
    """µm per pixel in x and y from OME-XML or the resolution tags; None where not stated."""
    if file.is_ome:
        return _ome_mpp(_ome_pixels(file, index))
    return _resolution_mpp(file.series[index].keyframe)


def _resolution_mpp(page: TiffPage) -> tuple[float, float] | None:
    if page.tags.valueof("XResolution") is None or page.tags.valueof("YResolution") is None:
        return None
    if page.resolutionunit not in (RESUNIT.INCH, RESUNIT.CENTIMETER):
        return None
    x, y = page.get_resolution(RESUNIT.MICROMETER)
    return (1 / x, 1 / y) if x and y else None


def _ome_mpp(pixels: dict[str, str]) -> tuple[float, float] | None:
    try:
        x, y = (
            float(pixels[f"PhysicalSize{axis}"])
            * _MICROMETRES[pixels.get(f"PhysicalSize{axis}Unit", "µm")]
            for axis in "XY"
        )
    except (KeyError, ValueError):
        return None
    return x, y


def stage_corner(file: TiffFile, index: int, page: TiffPage) -> tuple[float, float] | None:
    """Where the stage had an image's top left corner, in µm in x and y; None where not stated.

    OME-XML says so of a plane or of an image, other files in tags. Numbers without a unit of length
    say nothing.
    """
    if file.is_ome:
        return _ome_corner(file, index)
    x, y = (_length(page, f"{axis}Position") for axis in "XY")
    return None if x is None or y is None else (x, y)


def _length(page: TiffPage, tag: str) -> float | None:
    """A rational number of inches or centimetres, in µm."""
    value, unit = page.tags.valueof(tag), page.resolutionunit
    if value is None or unit not in (RESUNIT.INCH, RESUNIT.CENTIMETER):
        return None
    above, below = value
    per = 25400.0 if unit == RESUNIT.INCH else 10000.0
    return above / below * per if below else None


def _ome_corner(file: TiffFile, index: int) -> tuple[float, float] | None:
    image = _ome_image(file, index)
    if image is None:
        return None
    plane, label = image.find("{*}Pixels/{*}Plane"), image.find("{*}StageLabel")
    for element, names in ((plane, ("PositionX", "PositionY")), (label, ("X", "Y"))):
        if element is not None:
            stated = element.attrib
            try:
                x, y = (float(stated[n]) * _MICROMETRES[stated[f"{n}Unit"]] for n in names)
            except (KeyError, ValueError):
                continue
            return x, y
    return None


def _ome_pixels(file: TiffFile, index: int) -> dict[str, str]:
    """Attributes of the OME-XML's Pixels element of a series; empty where there is none."""
    image = _ome_image(file, index)
    pixels = None if image is None else image.find("{*}Pixels")
    return {} if pixels is None else pixels.attrib


def _ome_image(file: TiffFile, index: int) -> ElementTree.Element | None:
    """The OME-XML's Image element of a series."""
    try:
        root = ElementTree.fromstring(file.ome_metadata or "")
    except ElementTree.ParseError:
        return None
    images = [image for image in root.findall("{*}Image") if image.find("{*}Pixels") is not None]
    return images[index] if index < len(images) else None
