"""Focal planes of vendors' TIFF, of which OpenSlide shows one, or mixes them.

OpenSlide opens the NDPI pages of the nominal plane, z = 0, and passes over all others; of Aperio's
pages it makes levels, whatever their focus. Here pages are taken plane by plane, by the tags in
which these vendors state them, and those of the best-focused plane are read first. Of Leica's
OpenSlide shows z = 0, which is told. A file of one plane is left to whoever reads it else.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tifffile import COMPRESSION, TiffFile, TiffPage

from pipeline.errors import SlideError
from pipeline.slides.readers import tiff_tags
from pipeline.slides.readers.base import FocalPlane, Header, Reader, levels_of, reason, show
from pipeline.slides.readers.focus import Sharpest, sharpest
from pipeline.slides.readers.pictures import Pages, shows_smaller
from pipeline.slides.readers.planes import PlanesReader, with_plane
from pipeline.slides.readers.segments import segment_size
from pipeline.slides.readers.tiff import TiffImage, problem_of
from pipeline.slides.readers.tiff_file import open_file, pages_of
from pipeline.slides.readers.vendor import VendorReader

NDPI_LENS, NDPI_FOCUS = 65421, 65424
"""Hamamatsu's tags: magnification of a page, negative for macro and map; its focus in nm."""

CHEAP_PIECE = 64 * 2**20
"""Bytes of one decoded tile or strip up to which planes are compared by it. The page of a large
NDPI without a list of restart markers is one piece: there a coarser level is compared."""


@dataclass(frozen=True, slots=True)
class Planes:
    """The focal planes of a file.

    Attributes:
        full: those that have the finest level; the levels of each, finest first, by its z in µm.
        coarse: the z of those that have coarser levels only, and can't be read.
    """

    full: Mapping[float, Sequence[Pages]]
    coarse: Sequence[float]

    def __len__(self) -> int:
        return len(self.full) + len(self.coarse)

    def told(self, read: Collection[int]) -> list[FocalPlane]:
        """For people, the full ones first.

        Args:
            read: indices of those whose pixels can be had.
        """
        names = [
            *(f"z = {z:g} µm" for z in self.full),
            *(f"z = {z:g} µm (coarser only)" for z in self.coarse),
        ]
        depths = [*self.full, *self.coarse]
        return [
            FocalPlane(name, depth, index in read)
            for index, (name, depth) in enumerate(zip(names, depths, strict=True))
        ]

    @property
    def nominal(self) -> int | None:
        """Index of z = 0 among the names; None where it isn't there."""
        every = [*self.full, *self.coarse]
        return every.index(0.0) if 0.0 in every else None


def open_best_plane(path: Path, vendor: str) -> Reader | None:
    """The best-focused plane of a vendor's TIFF; None for a file of one plane.

    Args:
        path: of the file.
        vendor: as OpenSlide names it.

    Raises:
        UnsupportedError: OpenSlide refuses the file.
        SlideError: its planes can't be told apart or decoded.
    """
    if vendor not in ("hamamatsu", "aperio", "leica"):
        return None
    try:
        file = open_file(path)
    except SlideError:  # OpenSlide says what is wrong
        return None
    reader: Reader | None = None
    try:
        if vendor == "leica":
            return _open_leica(path, file)
        planes = _planes(path, file, vendor)
        if len(planes) < 2:
            return None
        if vendor == "hamamatsu":
            reader = _open_ndpi(path, file, planes)
        else:
            reader = _open_aperio(path, file, planes)
        return reader
    finally:
        if not isinstance(reader, PlanesReader):
            file.close()


def _planes(path: Path, file: TiffFile, vendor: str) -> Planes:
    """The planes of a file; none where its tags can't be read, whatever OpenSlide makes of it."""
    try:
        return _planes_of_ndpi(file) if vendor == "hamamatsu" else _planes_of_aperio(path, file)
    except SlideError:
        raise
    except Exception:  # tifffile promises no type for what a broken file causes
        return Planes({}, ())


def _open_ndpi(path: Path, file: TiffFile, planes: Planes) -> Reader:
    """The nominal plane by OpenSlide, unless another one is sharper; the others beside it."""
    vendor = VendorReader(path)
    nominal = planes.nominal or 0
    found = Sharpest(nominal, measured=False)
    images: list[TiffImage] = []
    if nominal < len(planes.full):
        with contextlib.suppress(SlideError):  # not decodable here
            images, level = _decodable(path, planes, vendor.header)
            found = sharpest(images, level, nominal)
    if found.index != nominal:
        vendor.close()
        return _of_images(images, file, planes, found)
    readers: list[Reader | None] = [*images, *[None] * (len(planes) - len(images))]
    for index, reader in enumerate(readers):
        if reader and reader.header.levels[0] != vendor.header.levels[0]:
            readers[index] = None  # nothing that OpenSlide shows
    readers[nominal] = vendor
    told = planes.told([index for index, reader in enumerate(readers) if reader])
    header = with_plane(vendor.header, told, nominal, measured=found.measured)
    if images:
        return PlanesReader(readers, header, file.close)
    vendor.header = header
    return vendor


def _open_aperio(path: Path, file: TiffFile, planes: Planes) -> Reader:
    """A plane by its pages: OpenSlide takes those of all planes for levels of one."""
    stated = _aperio_numbers(next(iter(planes.full.values()))[0].keyframe.description)
    mpp = stated.get("MPP")
    header = Header(
        format="aperio",
        levels=(),
        mpp=None if mpp is None else (mpp, mpp),
        objective=stated.get("AppMag"),
    )
    images, level = _decodable(path, planes, header)
    nominal = planes.nominal or 0
    found = sharpest(images, level, nominal if nominal < len(images) else 0)
    return _of_images(images, file, planes, found)


def _open_leica(path: Path, file: TiffFile) -> Reader | None:
    """The plane that OpenSlide shows, and what the file says of others; None for one plane."""
    try:
        description = file.pages.first.description
    except Exception:  # tifffile promises no type for what a broken file causes
        return None
    stated = re.findall(r"<(?:\w+:)?dimension\b[^>]*\bz\s*=\s*[\"'](\d{1,4})[\"']", description)
    planes = sorted({int(z) for z in stated})
    if len(planes) < 2:
        return None
    reader = VendorReader(path)
    named = [FocalPlane(f"plane z = {z}", readable=z == planes[0]) for z in planes]
    reader.header = with_plane(reader.header, named, 0, measured=False)
    return reader


def _of_images(
    images: Sequence[TiffImage], file: TiffFile, planes: Planes, found: Sharpest
) -> PlanesReader:
    measured = found.measured and len(planes.full) > 1
    told = planes.told(range(len(images)))
    header = with_plane(images[found.index].header, told, found.index, measured=measured)
    readers = [*images, *[None] * len(planes.coarse)]
    return PlanesReader(readers, header, file.close)


def _planes_of_ndpi(file: TiffFile) -> Planes:
    pages: dict[float, list[TiffPage]] = defaultdict(list)
    for page in pages_of(file):
        whole = page.aspage()
        if (whole.tags.valueof(NDPI_LENS) or 0) > 0:
            pages[(whole.tags.valueof(NDPI_FOCUS) or 0) / 1000].append(whole)
    return _common(pages)


def _planes_of_aperio(path: Path, file: TiffFile) -> Planes:
    pages: dict[float, list[TiffPage]] = defaultdict(list)
    for page in pages_of(file):
        whole = page.aspage()
        if whole.is_tiled and whole.description.startswith("Aperio"):
            offset = _aperio_numbers(whole.description).get("OffsetZ", 0.0)
            pages[offset].append(whole)
    for each in pages.values():
        sizes = Counter((page.imagewidth, page.imagelength) for page in each)
        size, count = max(sizes.items(), key=lambda item: math.prod(item[0]))
        if count > 1:
            raise SlideError(
                f"{show(path)}: holds {count} images of its full size, {size[0]} x "
                f"{size[1]} px, and doesn't say what they are; export each as a file of its own",
                "several-areas",
            )
    return _common(pages)


def _common(pages: Mapping[float, Sequence[TiffPage]]) -> Planes:
    """The planes of some pages; full ones have the levels that all of these have."""
    by_size = {
        z: {(page.imagewidth, page.imagelength): _as_level(page) for page in reversed(each)}
        for z, each in sorted(pages.items())
    }
    if len(by_size) < 2:
        return Planes({}, tuple(by_size))
    finest = max((size for sizes in by_size.values() for size in sizes), key=math.prod)
    full = {z: sizes for z, sizes in by_size.items() if finest in sizes}
    shared = set.intersection(*(set(sizes) for sizes in full.values()))
    levels = {
        z: [
            sizes[size]
            for size in sorted(shared, reverse=True)
            if size == finest or shows_smaller(sizes[size], sizes[finest])
        ]
        for z, sizes in full.items()
    }
    return Planes(levels, [z for z in by_size if z not in full])


def _as_level(page: TiffPage) -> Pages:
    return Pages(page.axes, tuple(page.shape), page, (page,))


def _decodable(path: Path, planes: Planes, header: Header) -> tuple[list[TiffImage], int]:
    """The planes' pixels, and the level on which they are compared.

    Raises:
        SlideError: they can't be decoded here.
    """
    try:
        problem, level = _problem(planes), _cheap_level(planes)
        images = [] if problem or level is None else _images(path, planes, header)
    except Exception as error:  # of tags that make no sense
        problem, level, images = reason(error), None, []
    if not images or level is None:
        why = problem or "their pages are one large piece each"
        raise SlideError(
            f"{show(path)}: holds {len(planes)} focal planes that can't be told apart: {why}; "
            "export the one that is in focus",
            "planes-unreadable",
        )
    return images, level


def _images(path: Path, planes: Planes, header: Header) -> list[TiffImage]:
    lock = threading.Lock()
    return [
        TiffImage(
            path,
            levels,
            replace(header, levels=levels_of(tuple(level.size for level in levels))),
            stated=None,
            judge=None,
            lock=lock,
        )
        for levels in planes.full.values()
    ]


def _problem(planes: Planes) -> str | None:
    """Why the levels of some plane can't be decoded here, or None."""
    for levels in planes.full.values():
        for level in levels:
            if level.keyframe.dtype != np.uint8:
                return f"its pixels are of type {level.keyframe.dtype}"
            problem = (
                problem_of(level)
                or _colors_problem(level.keyframe)
                or _restarts_problem(level.keyframe)
            )
            if problem:
                return problem
    return None


def _colors_problem(page: TiffPage) -> str | None:
    """Why the colours of a page can't be decoded here, or None.

    Aperio's YCbCr in JPEG 2000 may call itself RGB, and tifffile leaves it as it is.
    """
    if page.compression == COMPRESSION.APERIO_JP2000_YCBC:
        return "its colours are stored in a way that is not read (YCbCr in JPEG 2000)"
    return tiff_tags.color_problem(page)


def _restarts_problem(page: TiffPage) -> str | None:
    """Why an NDPI page can't be decoded from one restart marker to the next, or None.

    tifffile takes the parts between markers for tiles: they have to divide the rows.
    """
    if page.jpegheader is None:
        return None
    width, height = segment_size(page)
    parts = -(-page.imagewidth // width) * -(-page.imagelength // height)
    return None if len(page.dataoffsets) == parts else "its restart markers don't divide its rows"


def _cheap_level(planes: Planes) -> int | None:
    """The finest level whose pieces are quickly decoded; None where there is none."""
    levels = next(iter(planes.full.values()))
    for number, level in enumerate(levels):
        width, height = segment_size(level.keyframe)
        if width * height * 3 <= CHEAP_PIECE:
            return number
    return None


def _aperio_numbers(description: str) -> dict[str, float]:
    """What Aperio states behind bars, such as ``|MPP = 0.25|OffsetZ = -2``, as far as numbers."""
    pairs = re.findall(r"\|\s*([^|=]+?)\s*=\s*([-+\d.eE]+)\s*(?=\||$)", description)
    numbers = {}
    for name, value in pairs:
        with contextlib.suppress(ValueError):
            numbers[name] = float(value)
    return {name: number for name, number in numbers.items() if math.isfinite(number)}
