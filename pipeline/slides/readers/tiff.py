"""TIFF of no vendor, pyramidal or flat, read by tifffile piece by piece."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC, TIFF, TiffPage

from configs import Doubt
from data.pixels.depth import Depth, settle_depth
from data.pixels.plain import PRINTING_INKS
from data.pixels.samples import as_rgb, lay_on_white, to_8_bit
from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers import tiff_tags
from pipeline.slides.readers.areas import Area, AreasReader
from pipeline.slides.readers.base import (
    Fact,
    Header,
    Reader,
    UnsupportedError,
    levels_of,
    reason,
    show,
)
from pipeline.slides.readers.colors import believe_markers, told
from pipeline.slides.readers.contents import Contents, contents
from pipeline.slides.readers.grids import (
    Grid,
    shown_by,
    shows_all,
    told_of_gaps,
)
from pipeline.slides.readers.pictures import Pages, Picture, Scene, full_pictures
from pipeline.slides.readers.planes import Plane, best_plane, of_other_plane
from pipeline.slides.readers.segments import (
    SHARED,
    Samples,
    Segments,
    crop,
    segment_size,
    shrunk_jpegs,
)
from pipeline.slides.readers.tiff_file import open_file
from pipeline.slides.readers.tile_jpegs import EOI, ends_in_grey, is_broken
from pipeline.slides.readers.vendor import VendorReader

SAMPLED_SEGMENTS, SAMPLED_PIXELS = 24, 2**16
"""How many tiles or strips of the coarsest level show how deep samples are, and pixels of each."""

LARGEST_SEGMENT = 2**30
"""Bytes of one decoded tile or strip; a larger one makes a file that can't be read in parts."""


class TiffReader(Reader):
    """A TIFF file: its specimen areas, each in its best focal plane and with its pyramid.

    Only the tiles or strips that a region needs are read and decoded.

    Raises:
        SlideError: it is damaged, or what it holds can't be read as one slide.
        UnsupportedError: another reader may know its colours.
    """

    library = "tifffile"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._judge = _Judge(path)
        self._lock = threading.Lock()
        self._file = open_file(path)
        try:
            self._image = self._parse()
        except SlideError:
            self._file.close()
            raise
        except Exception as error:
            self._file.close()
            raise SlideError(f"{show(path)}: truncated or damaged TIFF: {reason(error)}") from error
        self.header = self._image.header

    def shrinks(self, level: int) -> tuple[int, ...]:
        """See `Reader.shrinks`."""
        return self._image.shrinks(level)

    def profile(self) -> bytes | None:
        """See `Reader.profile`."""
        return self._image.profile()

    def of_plane(self, index: int) -> Reader:
        """See `Reader.of_plane`."""
        if index == self.header.plane:
            return self
        other = self._image.of_plane(index)
        # What is told of the file, such as its ending, holds for all planes.
        other.header = of_other_plane(other.header, index, self.header, self._image.header)
        return other

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        return self._image.read(level, region, shrink)

    def close(self) -> None:
        """See `Reader.close`."""
        self._judge.close()
        self._file.close()

    def _parse(self) -> Reader:
        if not self._file.series:
            raise SlideError(
                f"{show(self._path)}: truncated or damaged TIFF: no image is left in it"
            )
        images: dict[Picture, Reader] = {}

        def image_of(picture: Picture) -> Reader:
            if picture not in images:
                images[picture] = self._image_of(picture)
            return images[picture]

        try:
            found = contents(self._file, image_of)
            areas = [
                Area(_plane_of(area, image_of), area.planes[0].name, area.planes[0].corner)
                for area in found.areas
            ]
            image = AreasReader(areas) if len(areas) > 1 else areas[0].reader
        except SlideError as error:
            if error.code and not error.text.startswith(show(self._path)):
                raise SlideError(f"{show(self._path)}: {error.text}", error.code) from error
            raise
        image.header = _with_left_out(image.header, found)
        return image

    def _image_of(self, picture: Picture) -> TiffImage:
        finest = picture.levels[0]
        problem, unsupported = problem_of(finest), tiff_tags.color_problem(finest.keyframe)
        if problem:
            raise SlideError(f"{show(self._path)}: {problem}")
        mixture = tiff_tags.sample_problem(finest.keyframe)
        if mixture:
            raise SlideError(f"{mixture}; export it as RGB", "channels")
        if unsupported:
            raise UnsupportedError(f"{show(self._path)}: {unsupported}")
        stated = tiff_tags.stated_bits(self._file, picture.index)
        # OpenSlide knows the first image only, and tells levels by their sizes.
        is_first = finest.pages[0] is not None and finest.pages[0].index == 0
        judge = self._judge if is_first or len(self._file.series) == 1 else None
        levels, lacking = _whole(picture.levels)
        header = Header(
            format="ome-tiff" if self._file.is_ome else "tiff",
            levels=levels_of(tuple(level.size for level in levels)),
            mpp=picture.mpp,
            doubts=lacking,
        )
        return TiffImage(self._path, levels, header, stated, judge, self._lock)


class TiffImage(Reader):
    """One image of an open TIFF, at all its sizes; whoever opened the file closes it.

    Args:
        path: of the file.
        levels: finest first.
        header: with as many levels; told what is odd about the samples.
        stated: bits a sample that are used, where the file says so.
        judge: of pieces that are in doubt; None where nobody else reads this image.
        lock: of the file, which all of its images share.
    """

    library = "tifffile"

    def __init__(
        self,
        path: Path,
        levels: Sequence[Pages],
        header: Header,
        stated: int | None,
        judge: _Judge | None,
        lock: threading.Lock,
    ) -> None:
        self._path = path
        self._profile = tiff_tags.profile_of(levels[0].keyframe)
        self._levels = [_TiffLevel(level, lock, judge) for level in levels]
        depth, opaque = self._levels[-1].depth(stated)
        for level in self._levels:
            level.white, level.opaque = depth.white, opaque
        for fine, coarse in pairwise(self._levels):
            fine.coarser = coarse
        facts, doubts = _told_of_gaps(levels[0], self._levels[0].coarser)
        self.header = replace(
            header,
            facts=(*header.facts, *_depth_facts(depth), *facts),
            doubts=(*header.doubts, *self._levels[0].doubts(), *depth.doubts, *doubts),
        )

    def shrinks(self, level: int) -> tuple[int, ...]:
        """See `Reader.shrinks`."""
        return self._levels[level].shrinks

    def profile(self) -> bytes | None:
        """See `Reader.profile`; that of the finest level."""
        return self._profile

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        try:
            return self._levels[level].read(region, shrink)
        except ReadError:  # of the judge, who names the file
            raise
        except Exception as error:  # each of the many codecs has errors of its own
            message = f"{show(self._path)}: level {level}: {reason(error)}"
            raise ReadError(message) from error

    def close(self) -> None:
        """See `Reader.close`."""


class _TiffLevel:
    """One level of a TIFF: its pages (one, or one a channel) and their segments.

    Attributes:
        size: in pixels.
        white: the value of white; that of all stored bits until it is set.
        opaque: likewise of full opacity.
        coarser: the next level, which tells whether tiles that aren't stored were lost.
    """

    def __init__(self, series: Pages, lock: threading.Lock, judge: _Judge | None) -> None:
        self.coarser: _TiffLevel | None = None
        self.size = series.size
        self._page: TiffPage = series.keyframe
        self._segments = [
            Segments(page, self._page, SHARED, lock) for page in series.pages if page is not None
        ]
        self._misstated = [believe_markers(segments) for segments in self._segments]
        alone = len(self._segments) == 1
        self._shrunk = shrunk_jpegs(self._segments[0]) if alone else {}
        self._palette = tiff_tags.palette(self._page)
        self._bits = tiff_tags.stored_bits(self._page)
        self.white = self.opaque = (1 << self._bits) - 1
        self._lock = lock
        self._judge = judge

    @property
    def shrinks(self) -> tuple[int, ...]:
        """See `Reader.shrinks`."""
        return tuple(self._shrunk)

    @property
    def lossy(self) -> Size | None:
        """See `pipeline.slides.readers.grids.Coarser`."""
        if self._page.compression not in TIFF.IMAGE_COMPRESSIONS:
            return None
        return Size(*segment_size(self._page))

    def read(self, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """Reads (height, width, 3) RGB, transparent pixels laid on white."""
        if shrink > 1:  # 8 bits of RGB
            return np.asarray(self._collect(self._shrunk[shrink], region)[0], np.uint8)
        samples = self._read_samples(region)
        if self._palette is not None:
            return np.asarray(self._palette[samples[..., 0]])
        return _to_rgb(samples, self._page, self.white, self.opaque)

    def depth(self, stated: int | None) -> tuple[Depth, int]:
        """How deep its colours are, by what the file says of them and what some tiles show.

        Args:
            stated: bits that are used, where the file says so.

        Returns:
            The depth, and the value of full opacity: of all stored bits where any is above white.
        """
        bits = self._bits
        if bits <= 8 or self._palette is not None:
            return Depth(bits, bits), self.opaque
        parts = [part for part in map(self._look_at, self._spread()) if part is not None]
        sample = np.concatenate(parts) if parts else np.zeros((0, 3), self._page.dtype)
        colors = _color_count(sample, self._page)
        inverted = self._page.photometric == PHOTOMETRIC.MINISWHITE
        depth = settle_depth(sample[:, :colors], bits, stated, inverted=inverted)
        highest = int(sample[:, colors:].max(initial=0))
        return depth, depth.white if highest <= depth.white else self.opaque

    def doubts(self) -> Iterator[Doubt]:
        """What is odd about how its samples are stored."""
        yield from tiff_tags.sample_doubts(self._page, len(self._segments))
        for stated in self._misstated:
            if stated:
                yield told(stated, "the TIFF")

    def _spread(self) -> list[Rect]:
        """The places of a few segments, evenly spread over those that are not empty."""
        segments = self._segments[0]
        counts = np.asarray(segments.page.databytecounts)
        stored = np.flatnonzero(counts[: len(counts) // self._page.shaped[0]])
        chosen = np.linspace(0, len(stored) - 1, min(len(stored), SAMPLED_SEGMENTS))
        return [segments.place(int(stored[round(at)]))[1] for at in chosen.tolist()]

    def _look_at(self, region: Rect) -> Samples | None:
        """Some pixels (N, samples) of a region; None where it can't be read."""
        try:
            samples = self._read_samples(region)
        except Exception:  # each codec has errors of its own; reading the place will tell
            return None
        step = math.ceil(region.area / SAMPLED_PIXELS)
        return samples.reshape(-1, samples.shape[2])[::step]

    def _read_samples(self, region: Rect) -> Samples:
        """Samples (height, width, samples) as stored, of all pages."""
        planes = [self._read_page(segments, region) for segments in self._segments]
        return np.concatenate(planes, axis=2) if len(planes) > 1 else planes[0]

    def _read_page(self, segments: Segments, region: Rect) -> Samples:
        """Samples (height, width, samples of the page) of one page."""
        if self._page.is_memmappable:
            with self._lock:
                stored = segments.page.asarray(out="memmap", squeeze=False)
            pixels = stored[:, 0, region.y : region.bottom, region.x : region.right]
        else:
            pixels = self._collect(segments, region)
        separate, height, width, contiguous = pixels.shape
        return np.moveaxis(pixels, 0, 2).reshape(height, width, separate * contiguous)

    def _collect(self, segments: Segments, region: Rect) -> Samples:
        """Pastes together (separate samples, height, width, contiguous samples)."""
        separate, _, _, _, contiguous = self._page.shaped
        shape = (separate, region.height, region.width, contiguous)
        canvas = np.full(shape, self._unscanned, self._page.dtype)
        for index in segments.touching(region):
            pixels = segments.get(index, partial(self._decode, segments))
            if pixels is None:  # a sparse file leaves out what was never scanned
                continue
            plane, here = segments.place(index)
            common = here.intersection(region)
            if common:
                crop(canvas[plane], common, region)[:] = crop(pixels, common, here)
        return canvas

    @property
    def _unscanned(self) -> int:
        """The sample of white, which stands for what was never scanned."""
        if self._palette is not None:
            return int(self._palette.astype(int).sum(axis=1).argmax())
        return 0 if self._page.photometric == PHOTOMETRIC.MINISWHITE else self.white

    def _decode(self, segments: Segments, index: int) -> Samples | None:
        """A segment's pixels, unless they are damaged and the decoder keeps it to itself.

        Raises:
            Exception: of any type; it is damaged, or was lost.
        """
        pixels, doubtful = segments.decode_warily(index)
        if pixels is None:
            self._check_blank(index)
            return None
        if not doubtful:
            return pixels
        _, place = self._segments[0].place(index)
        judge = self._judge if self._bits == 8 else None  # OpenSlide reads no more
        judged = judge is not None and judge.check(self.size, place)
        if not judged and (
            is_broken(_as_jpeg(segments, index)) or self._ends_in_grey(segments, index, pixels)
        ):
            at = segments.page.dataoffsets[index]
            raise ValueError(f"the tile at byte {at} is damaged; copy the slide again")
        return pixels

    def _check_blank(self, index: int) -> None:
        """Looks whether a segment that isn't stored was never scanned, or was lost.

        Raises:
            ValueError: it was lost.
        """
        _, place = self._segments[0].place(index)
        where = f"the tile at {place.x}, {place.y}"
        if any(segments.stores_beside(index) for segments in self._segments):
            raise ValueError(f"{where} lacks some of its channels; copy the slide again")
        if shown := shown_by(self.coarser, place, self.size):
            raise ValueError(
                f"{where} is not stored, while the image of {shown} shows something there; copy "
                "the slide again"
            )

    def _ends_in_grey(self, segments: Segments, index: int, pixels: Samples) -> bool:
        """Whether the last of what it shows is the grey that stands for data that ended early."""
        _, shown = segments.place(index)
        side = max(1, 8 * segments.shape[0] // self._segments[0].shape[0])  # a block of JPEG
        return ends_in_grey(pixels, shown, side, grey=1 << (self._bits - 1))


class _Judge:
    """OpenSlide's opinion of segments that are in doubt; none of files that it does not open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._vendor: VendorReader | None = None

    def check(self, size: Size, place: Rect) -> bool:
        """Asks for pixels of the level of a size.

        Returns:
            Whether there is an opinion of it.

        Raises:
            ReadError: they are damaged.
        """
        with self._lock:
            try:
                self._vendor = self._vendor or VendorReader(self._path)
            except UnsupportedError:
                return False
        levels = [n for n, facts in enumerate(self._vendor.header.levels) if facts.size == size]
        for level in levels:
            self._vendor.read(level, place)
        return bool(levels)

    def close(self) -> None:
        """Gives back the file."""
        with self._lock:
            if self._vendor:
                self._vendor.close()


def _as_jpeg(segments: Segments, index: int) -> bytes:
    """A segment as a whole JPEG, with the tables or the head that it shares with others."""
    data = segments.stored(index) or b""
    if head := segments.keyframe.jpegheader:  # of NDPI, cut after restart markers
        return head + data + (b"" if data.rstrip(b"\0").endswith(EOI) else EOI)
    tables = segments.page.jpegtables
    return data[:2] + tables[2:-2] + data[2:] if tables else data


def open_plain(path: Path) -> Reader:
    """Opens a TIFF of no vendor; by OpenSlide if it alone knows the colours.

    OpenSlide then has to show the same: the one image that the file holds, in its size.

    Raises:
        SlideError: see `TiffReader`.
    """
    try:
        return TiffReader(path)
    except UnsupportedError as refusal:
        size, inks = _only_image(path)
        try:
            vendor = VendorReader(path)
        except UnsupportedError:
            raise refusal from None
        if vendor.header.levels[0].size == size:
            vendor.header = replace(vendor.header, doubts=(*vendor.header.doubts, *inks))
            return vendor
        vendor.close()
        raise


def _only_image(path: Path) -> tuple[Size | None, tuple[Doubt, ...]]:
    """The size of the only image that is no smaller version of another, and whether it is in inks.

    No size for several images.
    """
    with open_file(path) as file:
        pictures = full_pictures(file)
        if len(pictures) != 1:
            return None, ()
        photometric = pictures[0].levels[0].keyframe.photometric
    inks = (PRINTING_INKS,) if photometric == PHOTOMETRIC.SEPARATED else ()
    return pictures[0].size, inks


def _plane_of(area: Scene, image_of: Callable[[Picture], Reader]) -> Reader:
    """The best-focused of an area's planes; those of which pages are missing can't be read."""
    if all(_lacks_pages(picture) for picture in area.planes):
        return image_of(area.planes[0])  # which is refused
    known = all(picture.z_um is not None for picture in area.planes)
    planes = []
    for number, picture in enumerate(area.planes, 1):
        depth = picture.z_um if known else None
        name = f"plane {number}" if depth is None else f"plane {number} at z = {depth:g} µm"
        if _lacks_pages(picture):
            planes.append(Plane(None, f"{name} (its pages are missing)", depth))
        else:
            planes.append(Plane(image_of(picture), name, depth))
    return best_plane(planes)


def _lacks_pages(picture: Picture) -> bool:
    return None in picture.levels[0].pages


def _with_left_out(header: Header, found: Contents) -> Header:
    """A header that says which images of the file are no part of the slide."""
    facts = tuple(
        Fact(name="image left out", value=f"{picture}: {why}", source="file")
        for picture, why in found.left_out
    )
    doubts = tuple(
        Doubt(
            code="picture-left-out",
            text=f"the file holds another large image ({picture}), which was left out: {why}",
        )
        for picture, why in found.told
    )
    return replace(header, facts=(*header.facts, *facts), doubts=(*header.doubts, *doubts))


def _whole(levels: Sequence[Pages]) -> tuple[list[Pages], tuple[Doubt, ...]]:
    """Levels without coarser ones that lack tiles where the finest has some, which are told."""
    kept, doubts = [levels[0]], []
    for level in levels[1:]:
        if _shows_all(level, levels[0]):
            kept.append(level)
            continue
        size = f"{level.size.width} x {level.size.height} px"
        text = f"its image of {size} is left out: it lacks tiles that the finest level has"
        doubts.append(Doubt(code="level-left-out", text=text))
    return kept, tuple(doubts)


def _shows_all(level: Pages, finest: Pages) -> bool:
    own = _grids(level)
    if all(grid.stored.all() for grid in own):
        return True
    fine = _grids(finest)
    return len(own) != len(fine) or all(map(shows_all, own, fine))


def _grids(level: Pages) -> list[Grid]:
    """Where a level has tiles or strips, one for each of its pages and sample planes.

    Empty where its tables don't fit its size; whoever reads it says so.
    """
    width, height = segment_size(level.keyframe)
    rows, columns = -(-level.size.height // height), -(-level.size.width // width)
    grids = []
    for page in level.pages:
        stored = np.asarray(page.databytecounts if page is not None else ()) > 0
        if len(stored) != level.keyframe.shaped[0] * rows * columns:
            return []
        for plane in stored.reshape(-1, rows, columns):
            grids.append(Grid(plane, Size(width, height), level.size))
    return grids


def _told_of_gaps(
    finest: Pages, coarser: _TiffLevel | None
) -> tuple[tuple[Fact, ...], tuple[Doubt, ...]]:
    """What is told of places where the finest level has no tile, or not one of each channel."""
    grids = _grids(finest)
    if not grids:
        return (), ()
    whole = replace(grids[0], stored=np.logical_and.reduce([grid.stored for grid in grids]))
    return told_of_gaps(whole, coarser)


def problem_of(series: Pages) -> str | None:
    """Why an image can't be read as a slide, or None."""
    page = series.keyframe
    if not series.is_picture:
        return f"holds a stack of images (axes {series.axes}), not one slide"
    if None in series.pages:
        return "lacks some of its pages"
    if page.dtype not in (np.uint8, np.uint16):
        return f"pixels of type {page.dtype} are no slide's; export it with 8 or 16 bits a sample"
    if _segment_bytes(page) > LARGEST_SEGMENT and not page.is_memmappable:
        return "is one piece too large to hold in memory; convert it to a tiled TIFF"
    return None


def _depth_facts(depth: Depth) -> Iterator[Fact]:
    """The depth, where it isn't what all slides have."""
    if depth.stored != 8:
        yield Fact(name="bit depth", value=str(depth), source=depth.source)


def _segment_bytes(page: TiffPage) -> int:
    width, height = segment_size(page)
    return width * height * page.shaped[4] * (page.dtype or np.dtype(np.uint8)).itemsize


def _to_rgb(samples: Samples, page: TiffPage, white: int, opaque: int) -> NDArray[np.uint8]:
    """(H, W, 3) of grey or RGB samples, any alpha among them laid on white."""
    colors = _color_count(samples, page)
    pixels = to_8_bit(samples[..., :colors], white)
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        pixels = 255 - pixels
    kind = tiff_tags.alpha_kind(page)
    if kind and samples.shape[-1] > colors:
        alpha = to_8_bit(samples[..., colors : colors + 1], opaque)
        pixels = lay_on_white(pixels, alpha, kind == "associated")
    return as_rgb(pixels)


def _color_count(samples: Samples, page: TiffPage) -> int:
    """How many of the samples, of one page or a page for each, are colours."""
    return tiff_tags.color_count(page) if samples.shape[-1] < 3 else 3
