"""The tiles or strips that a TIFF stores its pixels in: which, where, and decoded once each."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC, PLANARCONFIG, TiffFrame, TiffPage

from pipeline.geometry import Rect, Size
from pipeline.slides.readers import tiff_tags

Page = TiffPage | TiffFrame
"""A page with all its tags, or one that shares the tags of another."""

Samples = NDArray[Any]
"""(height, width, samples) array as stored: grey or RGB, with alpha or without."""

CACHE_BYTES = 128 * 2**20
"""Decoded tiles or strips kept, of all open slides together. Two threads that read tiles of 1536
model pixels at half of the slide's scale need 80 MB, so that what neighbouring tiles share is
decoded once."""

SHRINKS = (2, 4)
"""By how much a JPEG can be decoded smaller than it is, for the work of fewer pixels."""

SHRUNK_LEVELS = 2.0
"""Levels of 255 by which a tile decoded smaller may differ, in the mean, from the means over the
squares of its pixels. Sound ones differ by half a level; colours that the tags misstate, by ten."""

_AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
SHRINK_FLAGS = {
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | _AS_STORED,  # "grayscale" is the bit of the size alone
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | _AS_STORED,
}
"""OpenCV's for each of `SHRINKS`: libjpeg at half or a quarter of the size. Pillow gives the same
pixels, but takes half as long again over tiles of 240 px, with Python's lock held."""

_ZEROS = bytes(16)


class SegmentCache:
    """Decoded segments, of which the longest unused go first; threads may share it.

    What several threads want at the same time is decoded by one of them.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._lock = threading.Lock()
        self._kept: dict[Hashable, Future[Samples | None]] = {}

    def get(self, key: Hashable, decode: Callable[[], Samples | None]) -> Samples | None:
        """The segment of that key, decoded now if it is not at hand; failures are not kept."""
        with self._lock:
            future = self._kept.pop(key, None)
            missing = future is None
            future = future or Future()
            self._kept[key] = future  # the last one is the latest used
        if missing:
            self._fill(key, future, decode)
        return future.result()

    def _fill(
        self, key: Hashable, future: Future[Samples | None], decode: Callable[[], Samples | None]
    ) -> None:
        try:
            pixels = decode()
        except BaseException as error:
            with self._lock:
                self._kept.pop(key, None)
            future.set_exception(error)
            return
        with self._lock:
            future.set_result(pixels)
            self._bytes += _bytes(future)
            self._drop(but=key)

    def _drop(self, but: Hashable) -> None:
        """Drops what was used longest ago, except what is new or still being decoded."""
        dropped = []
        for key, future in self._kept.items():
            if self._bytes <= self._limit:
                break
            if key != but and future.done():
                dropped.append(key)
                self._bytes -= _bytes(future)
        for key in dropped:
            del self._kept[key]


SHARED = SegmentCache(CACHE_BYTES)
"""Of this process: a slide that is opened while another is read adds nothing to its memory."""


class Segments:
    """The tiles or strips of one page.

    Args:
        page: whose pixels they are.
        keyframe: the page whose tags say how they are stored.
        cache: keeps what was decoded.
        lock: guards the file's position.
    """

    def __init__(
        self, page: Page, keyframe: TiffPage, cache: SegmentCache, lock: threading.Lock
    ) -> None:
        self.page = page
        self.keyframe = keyframe
        self._cache = cache
        self._lock = lock
        self._is_jpeg = keyframe.compression in tiff_tags.JPEG_CODECS
        self._width, self._height = segment_size(keyframe)
        self._image = Size(keyframe.imagewidth, keyframe.imagelength)
        self._columns = math.ceil(self._image.width / self._width)
        self._rows = math.ceil(self._image.height / self._height)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a whole segment."""
        return self._height, self._width

    def touching(self, region: Rect) -> Iterator[int]:
        """Indices of the segments which a region touches, in all sample planes."""
        for plane in range(self.keyframe.shaped[0]):
            for row in range(region.y // self._height, math.ceil(region.bottom / self._height)):
                for column in range(region.x // self._width, math.ceil(region.right / self._width)):
                    yield (plane * self._rows + row) * self._columns + column

    def place(self, index: int) -> tuple[int, Rect]:
        """A segment's sample plane, and the part of the image which it shows."""
        row, column = divmod(index, self._columns)
        plane, row = divmod(row, self._rows)
        x, y = column * self._width, row * self._height
        width = min(self._width, self._image.width - x)
        return plane, Rect(x, y, width, min(self._height, self._image.height - y))

    def stores_beside(self, index: int) -> bool:
        """Whether any sample plane has a segment at the place of this one."""
        places = self._rows * self._columns
        return any(self.page.databytecounts[index % places :: places])

    def get(self, index: int, decode: Callable[[int], Samples | None]) -> Samples | None:
        """Pixels of a segment, from the cache or by ``decode``; None where nothing is stored."""
        return self._cache.get((self, index), lambda: decode(index))

    def decode(self, index: int) -> Samples | None:
        """Pixels (height, width, samples) of a segment, decoded anew; None for an empty one.

        Raises:
            Exception: of any type; each of the many codecs has errors of its own.
        """
        return self.decode_bytes(index, self.stored(index))

    def decode_warily(self, index: int) -> tuple[Samples | None, bool]:
        """Likewise, and whether they may be damaged although the decoder raised nothing."""
        data = self.stored(index)
        pixels = self.decode_bytes(index, data)
        if data is None or pixels is None or not self._is_jpeg:
            return pixels, False
        return pixels, may_be_damaged(data, pixels)

    def decode_bytes(self, index: int, data: bytes | None) -> Samples | None:
        """Likewise, of bytes that were read before."""
        tables = {}
        if self._is_jpeg:
            tables = {"jpegtables": self.page.jpegtables, "jpegheader": self.keyframe.jpegheader}
        pixels, _, _ = self.page.decode(data, index, **tables)
        return None if pixels is None else pixels[0]

    def stored(self, index: int) -> bytes | None:
        """The compressed bytes of a segment; None for an empty one.

        Raises:
            EOFError: the file ends within them.
        """
        offset, count = self.page.dataoffsets[index], self.page.databytecounts[index]
        if not count:
            return None
        with self._lock:
            file = self.page.parent.filehandle
            file.seek(offset)
            data: bytes = file.read(count)
        if len(data) < count:
            raise EOFError("the file ends within a tile")
        return data


class ShrunkJpegs(Segments):
    """The same tiles at a fraction of their size, as libjpeg decodes them from fewer frequencies.

    A pixel is nearly the mean over a square of pixels. Those of a last odd row or column, which
    would show some of what lies beyond the image, are left out.

    Args:
        whole: the tiles as they are.
        shrink: one of `SHRINKS`.
    """

    def __init__(self, whole: Segments, shrink: int) -> None:
        super().__init__(whole.page, whole.keyframe, whole._cache, whole._lock)
        self._shrink = shrink
        self._width, self._height = self._width // shrink, self._height // shrink
        self._image = Size(self._image.width // shrink, self._image.height // shrink)
        self._head = _jpeg_head(whole.page.jpegtables, whole.keyframe.photometric)

    def decode(self, index: int) -> Samples | None:
        """See `Segments.decode`."""
        return self.decode_warily(index)[0]

    def decode_warily(self, index: int) -> tuple[Samples | None, bool]:
        """See `Segments.decode_warily`; looked at first, for OpenCV would tell the terminal."""
        data = self.stored(index)
        if data is not None and _looks_broken(data):
            whole = super().decode_bytes(index, data)
            return None if whole is None else shrink_by_means(whole, self._shrink), True
        pixels = self.decode_bytes(index, data)
        return pixels, pixels is not None and _ends_in_grey(pixels)

    def decode_bytes(self, index: int, data: bytes | None) -> Samples | None:
        """See `Segments.decode_bytes`."""
        if data is None:
            return None
        pixels = cv2.imdecode(
            np.frombuffer(self._head + data[2:], np.uint8), SHRINK_FLAGS[self._shrink]
        )
        if pixels is None or pixels.shape != (self._height, self._width, 3):
            shape = None if pixels is None else pixels.shape
            raise ValueError(f"decoded as {shape}, not {(self._height, self._width, 3)}")
        return pixels

    def agrees(self, index: int, whole: Samples) -> bool:
        """Whether a tile looks as it does when it is decoded as a whole."""
        try:
            shrunk = self.decode(index)
        except Exception:  # each codec has errors of its own
            return False
        if shrunk is None:
            return False
        means = mean_over_squares(whole, self._shrink)
        return bool(np.abs(means - shrunk.astype(np.float32)).mean() < SHRUNK_LEVELS)


def shrunk_jpegs(segments: Segments) -> dict[int, ShrunkJpegs]:
    """What can be decoded smaller than it is, by how much; nothing but for tiles of RGB JPEG.

    The tile that says most is the judge of whether decoding it smaller shows the same.
    """
    page, counts = segments.keyframe, np.asarray(segments.page.databytecounts)
    suited = (
        page.is_tiled
        and page.compression in tiff_tags.JPEG_CODECS
        and page.photometric in (PHOTOMETRIC.YCBCR, PHOTOMETRIC.RGB)
        and page.samplesperpixel == 3
        and page.planarconfig == PLANARCONFIG.CONTIG
        and page.dtype == np.uint8
        and counts.any()
    )
    if not suited:
        return {}
    fullest = int(counts.argmax())
    try:
        whole = segments.decode(fullest)
    except Exception:  # each codec has errors of its own
        return {}
    if whole is None:
        return {}
    made = {
        shrink: ShrunkJpegs(segments, shrink)
        for shrink in SHRINKS
        if not any(side % shrink for side in segments.shape)
    }
    return {shrink: jpegs for shrink, jpegs in made.items() if jpegs.agrees(fullest, whole)}


def mean_over_squares(pixels: Samples, side: int) -> NDArray[np.float32]:
    """Means over squares of ``side`` pixels; what fills no square at the ends is left out."""
    height, width, samples = pixels.shape
    height, width = height // side, width // side
    squares = pixels[: height * side, : width * side].reshape(height, side, width, side, samples)
    means: NDArray[np.float32] = squares.mean((1, 3), dtype=np.float32)
    return means


def shrink_by_means(pixels: Samples, side: int) -> NDArray[np.uint8]:
    """Pixels of 8 bits at a fraction of their size, each the mean over a square."""
    shrunk: NDArray[np.uint8] = np.rint(mean_over_squares(pixels, side)).astype(np.uint8)
    return shrunk


def _jpeg_head(tables: bytes | None, photometric: int) -> bytes:
    """What comes before a tile's own segments: shared tables, and how its colours are stored.

    TIFF says that in a tag, JPEG in Adobe's marker, without which three samples are YCbCr.
    """
    transform = 0 if photometric == PHOTOMETRIC.RGB else 1
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64" + bytes([0, 0, 0, 0, transform])
    return b"\xff\xd8" + adobe + (tables[2:-2] if tables else b"")


def segment_size(page: TiffPage) -> tuple[int, int]:
    """Width and height of a page's tiles or strips."""
    if page.is_tiled:
        return page.tilewidth, page.tilelength
    return page.imagewidth, page.rowsperstrip


def crop(pixels: Samples, part: Rect, whole: Rect) -> Samples:
    """View of a part of pixels that cover ``whole``."""
    x, y = part.x - whole.x, part.y - whole.y
    return pixels[y : y + part.height, x : x + part.width]


def may_be_damaged(data: bytes, pixels: Samples) -> bool:
    """Whether a JPEG may be broken although it was decoded without an error.

    imagecodecs ignores libjpeg's warnings, of which OpenSlide makes errors. What they leave behind
    is looked for instead: a missing end, foreign markers, long zeros, and the grey that stands for
    data that ended too early. Damage of a sector of a disk is found like this as surely as by
    OpenSlide; of changes to single bytes OpenSlide finds a quarter, and this a quarter of those.
    """
    return _looks_broken(data) or _ends_in_grey(pixels)


def _looks_broken(data: bytes) -> bool:
    """What of `may_be_damaged` can be told without decoding."""
    data = data.rstrip(b"\0")  # some writers fill up to whole words
    if not data.endswith(b"\xff\xd9") or _ZEROS in data:
        return True
    scan = np.frombuffer(data, np.uint8)[data.find(b"\xff\xda") + 2 : -2]
    after = scan[1:][scan[:-1] == 0xFF]
    stray = (after != 0) & ((after < 0xD0) | (after > 0xD7))  # stuffing and restarts are sound
    return bool(stray.any())


def _ends_in_grey(pixels: Samples) -> bool:
    """The rest of `may_be_damaged`."""
    return bool((pixels[-1, -1] == 128).all())


def _bytes(future: Future[Samples | None]) -> int:
    pixels = future.result()
    return 0 if pixels is None else pixels.nbytes
