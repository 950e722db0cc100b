"""What a TIFF's tags and its OME-XML say of the pixels: scale, white, alpha, colours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from tifffile import (
    COMPRESSION,
    EXTRASAMPLE,
    PHOTOMETRIC,
    RESUNIT,
    TIFF,
    TiffFile,
    TiffPage,
)

from configs import Doubt
from data.pixels.samples import to_8_bit

RGB_CODECS = frozenset(TIFF.IMAGE_COMPRESSIONS) - {COMPRESSION.APERIO_JP2000_YCBC}
"""Compressions whose decoders give RGB or grey, whatever the colours are stored as."""

JPEG_CODECS = frozenset({COMPRESSION.OJPEG, COMPRESSION.JPEG, 33007, COMPRESSION.JPEG_LOSSY})
"""Compressions whose segments may share tables."""

_ICC_PROFILE = 34675
"""InterColorProfile; ICC.1, annex B.4."""

_LARGEST_VALUES = (281, 341)
"""MaxSampleValue and SMaxSampleValue."""

_GREY = (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK)
_PLAIN_COLORS = (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB)

_MICROMETRES = {"m": 1e6, "cm": 1e4, "mm": 1e3, "\u00b5m": 1.0, "\u03bcm": 1.0, "nm": 1e-3}


def color_problem(page: TiffPage) -> str | None:
    """Why the colours or the compression of a page can't be read, or None."""
    known = page.compression == COMPRESSION.NONE or page.compression in TIFF.DECOMPRESSORS
    if not known:
        return f"its compression ({int(page.compression)}) is not known"
    if page.photometric == PHOTOMETRIC.PALETTE and page.samplesperpixel == 1:
        return None if page.colormap is not None else "its palette is missing"
    if page.photometric not in _PLAIN_COLORS and page.compression not in RGB_CODECS:
        return f"its colours are stored as {_name(page.photometric)}; export it as RGB"
    return None


def _name(photometric: int) -> str:
    try:
        return PHOTOMETRIC(photometric).name
    except ValueError:
        return f"kind {photometric}"


def alpha_kind(page: TiffPage) -> Literal["associated", "unassociated"] | None:
    """Whether the first extra sample is opacity, and whether it is multiplied in already."""
    first = page.extrasamples[0] if page.extrasamples else EXTRASAMPLE.UNSPECIFIED
    if first == EXTRASAMPLE.ASSOCALPHA:
        return "associated"
    return "unassociated" if first == EXTRASAMPLE.UNASSALPHA else None


def stored_bits(page: TiffPage) -> int:
    """Bits a sample that the file keeps; all samples have as many."""
    return int(page.bitspersample)


def stated_bits(file: TiffFile, index: int) -> int | None:
    """Bits a sample that are used, where OME-XML says so, or a tag the largest value."""
    significant = _ome_pixels(file, index).get("SignificantBits", "")
    if significant.isdecimal() and int(significant) > 0:
        return int(significant)
    for tag in _LARGEST_VALUES:
        values = file.series[index].keyframe.tags.valueof(tag)
        try:
            largest = int(np.max(values)) if values is not None else 0
        except (TypeError, ValueError, OverflowError):
            continue
        if largest > 0:
            return largest.bit_length()
    return None


def color_count(page: TiffPage) -> int:
    """How many of the samples are colours: 3, or 1 for grey; others lie behind them."""
    return 3 if page.samplesperpixel >= 3 else 1


def sample_problem(page: TiffPage) -> str | None:
    """Why a page's samples are no picture, or None: they are grey or RGB, with alpha or without."""
    count, grey = page.samplesperpixel, page.photometric in _GREY
    if count == 2 and alpha_kind(page) is None:
        return "holds 2 channels, which are neither grey nor colours"
    if count > 4 or (count == 4 and grey):
        return f"holds {count} channels, which are no colours that a person would see"
    return None


def sample_doubts(page: TiffPage, channels: int) -> Iterator[Doubt]:
    """What is odd about a picture's samples.

    Args:
        page: of the picture.
        channels: its pages, one for each channel.
    """
    count = channels * page.samplesperpixel
    if count in (1, 2) and page.photometric != PHOTOMETRIC.PALETTE:
        yield Doubt(code="grey", text="is grey; the model was trained on colours")
    if count == 3 and page.photometric in _GREY:
        text = "nothing says what its three channels are: read as red, green and blue"
        yield Doubt(code="channels-as-rgb", text=text)
    if count == 4 and alpha_kind(page) is None:
        text = "nothing says what its fourth sample is, perhaps opacity: left out"
        yield Doubt(code="extra-sample", text=text)
    orientation = page.tags.valueof("Orientation", 1)
    if orientation in range(2, 9):
        text = f"its tag Orientation ({int(orientation)}) wants it turned: read as it is stored"
        yield Doubt(code="orientation-unused", text=text)


def palette(page: TiffPage) -> NDArray[np.uint8] | None:
    """Colours (K, 3) that samples are numbers of; None for pictures without.

    As libtiff has it: a palette without values above 255 is one of 8 bits.
    """
    if page.photometric != PHOTOMETRIC.PALETTE or page.colormap is None:
        return None
    colors = np.asarray(page.colormap).T
    return to_8_bit(colors, 65535 if colors.max(initial=0) > 255 else 255).astype(np.uint8)


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
    sides = _ome_lengths(pixels, ("PhysicalSizeX", "PhysicalSizeY"), default="µm")
    return (sides[0], sides[1]) if sides else None


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
        place = None if element is None else _ome_lengths(element.attrib, names)
        if place:
            return place[0], place[1]
    return None


def depths(file: TiffFile, index: int, count: int) -> list[float | None]:
    """Where each of an image's focal planes lies, in µm; None where not stated.

    By the position of the stage, where OME-XML states a different one for each plane; else by the
    distance of planes, from the first one on. Numbers without a unit of length say nothing of
    positions; distances are in µm then.
    """
    image = _ome_image(file, index) if file.is_ome else None
    if image is None:
        return [None] * count
    stated = _stated_depths(image)
    found = [stated.get(number) for number in range(count)]
    known = [depth for depth in found if depth is not None]
    if len(set(known)) == count:
        return found
    step = _ome_lengths(_ome_pixels(file, index), ("PhysicalSizeZ",), default="µm")
    if step is None or not math.isfinite(step[0]) or step[0] <= 0:
        return [None] * count
    return [round(number * step[0], 6) for number in range(count)]


def _stated_depths(image: ElementTree.Element) -> dict[int, float]:
    """The stage's position, in µm, of each plane for which it is stated, by the plane's number."""
    found: dict[int, float] = {}
    for plane in image.findall("{*}Pixels/{*}Plane"):
        place = _ome_lengths(plane.attrib, ("PositionZ",))
        number = plane.attrib.get("TheZ", "")
        if place and number.isdecimal() and math.isfinite(place[0]):
            found.setdefault(int(number), round(place[0], 6))
    return found


def _ome_lengths(
    stated: Mapping[str, str], names: tuple[str, ...], default: str = ""
) -> tuple[float, ...] | None:
    """Attributes in µm; None where one is missing, is no number or has no unit of length.

    Args:
        stated: attributes of an element.
        names: of those that are wanted.
        default: the unit of a length that states none.
    """
    try:
        return tuple(
            float(stated[n]) * _MICROMETRES[stated.get(f"{n}Unit", default)] for n in names
        )
    except (KeyError, ValueError):
        return None


def _ome_pixels(file: TiffFile, index: int) -> dict[str, str]:
    """Attributes of the OME-XML's Pixels element of a series; empty where there is none."""
    image = _ome_image(file, index)
    pixels = None if image is None else image.find("{*}Pixels")
    return {} if pixels is None else pixels.attrib


def _ome_image(file: TiffFile, index: int) -> ElementTree.Element | None:
    """The OME-XML's Image element of a series; None where it can't be told which is.

    tifffile makes no series of an Image without data. None is dropped here of which it makes one,
    so that if as many are left as there are series, they are the same.
    """
    try:
        root = ElementTree.fromstring(file.ome_metadata or "")
    except ElementTree.ParseError:
        return None
    images = [image for image in root.findall("{*}Image") if image.find("{*}Pixels") is not None]
    images = [image for image in images if not _lacks_data(file, root.get("UUID"), image)]
    return images[index] if len(images) == len(file.series) else None


def _lacks_data(file: TiffFile, own: str | None, image: ElementTree.Element) -> bool:
    """Whether all that an Image names is a file or a directory that isn't there.

    Args:
        file: whose OME-XML it is in.
        own: the file's UUID, where the OME-XML states it.
        image: of the OME-XML.
    """
    for data in image.findall("{*}Pixels/{*}TiffData"):
        uuid = data.find("{*}UUID")
        if uuid is not None and uuid.text != own:
            name = uuid.get("FileName", "")
            elsewhere = own is not None or name.lower() != file.filename.lower()
            if elsewhere and not (Path(file.filehandle.dirname) / name).exists():
                continue
            if elsewhere:
                return False
        number = data.get("IFD", "0")
        if not number.isdecimal() or int(number) < len(file.pages):
            return False
    return True


def profile_of(page: TiffPage) -> bytes | None:
    """The ICC profile that a page embeds; None where it has none, or none of bytes."""
    value = page.tags.valueof(_ICC_PROFILE)
    return value if isinstance(value, bytes) and value else None
