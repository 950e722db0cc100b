"""DICOM slides whose header misstates their colours: frames are decoded here as they say.

OpenSlide believes the header. Of JPEG it takes RGB for what it is called, which frames in YCbCr
under the name of RGB are not. Of JPEG 2000 it takes what OpenJPEG gives, which for frames that
are stored in YCbCr without a transform of the codestream's own is YCbCr. Frames say how it is by
markers, or their pixels show it. All other DICOM stays with OpenSlide.
"""

from __future__ import annotations

import contextlib
import logging
import struct
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from os import SEEK_END
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from configs import Doubt
from data.pixels.jpeg import Space, jpeg_head
from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers.base import Reader, reason, says_dicom, show
from pipeline.slides.readers.colors import NAMES, decode_jpeg, other, told
from pipeline.slides.readers.segments import SHARED, Samples, crop
from pipeline.slides.readers.vendor import VendorReader

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # OpenSlide says what is wrong

_JPEG = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
_JPEG_2000 = frozenset({"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"})

_TAGS = (
    "SeriesInstanceUID",
    "TotalPixelMatrixColumns",
    "TotalPixelMatrixRows",
    "TotalPixelMatrixFocalPlanes",
    "NumberOfOpticalPaths",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "BitsAllocated",
    "PhotometricInterpretation",
    "DimensionOrganizationType",
    "ImageType",
)
_START = 2**16
"""Bytes within which a file names its series."""

FULL, SPARSE = "TILED_FULL", "TILED_SPARSE"
"""Layouts of frames: all tiles in order, as where nothing is said, or each with its place."""

_PER_FRAME = b"\x00\x52\x30\x92"
"""The tag of what is said of each frame."""

_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"

SAMPLED = 9
"""Frames of a level that show how it stores its colours, where nothing says so."""

_LUMINOUS, _NEUTRAL, _BRIGHT = 180, 32, 160
"""Of glass: in YCbCr luma is above the first, and chroma within the second of 128; in RGB all three
are above the third."""


@dataclass(frozen=True)
class Instance:
    """One file of a DICOM slide: a level, but for labels and overviews.

    Attributes:
        path: the file.
        size: of the level.
        tile: of a frame.
        syntax: UID of the transfer syntax.
        photometric: how the header says that colours are stored.
        frames: how many.
        in_order: whether frames are the tiles, row by row, and nothing else.
        pixels: offset of the element with the pixels.
    """

    path: Path
    size: Size
    tile: Size
    syntax: str
    photometric: str
    frames: int
    in_order: bool
    pixels: int

    @property
    def stated(self) -> Space:
        """How the header says that colours are stored."""
        return "ycbcr" if self.photometric.startswith("YBR") else "rgb"


def open_dicom(path: Path) -> Reader:
    """Opens a DICOM slide by OpenSlide, or here where its colours would come out wrong.

    Raises:
        UnsupportedError: OpenSlide does not open it.
        SlideError: colours would come out wrong, and can't be read here either; or OpenSlide would
            crash.
    """
    try:
        instances = _instances(path)
    except SlideError as error:
        raise SlideError(f"{show(path)}: {error.text}") from error
    vendor = VendorReader(path)
    levels: list[DicomLevel | None] = []
    try:
        for facts in vendor.header.levels:
            alike = [one for one in instances if one.size == facts.size]
            levels.append(_corrected(alike))
    except SlideError as error:
        vendor.close()
        raise SlideError(f"{show(path)}: {error.text}", error.code) from error
    return DicomReader(vendor, levels) if any(levels) else vendor


class DicomReader(Reader):
    """A DICOM slide some of whose levels have other colours than its header says.

    Args:
        vendor: the same slide, open.
        levels: what to decode here; None for a level that stays with OpenSlide.
    """

    library = "imagecodecs"

    def __init__(self, vendor: VendorReader, levels: list[DicomLevel | None]) -> None:
        doubts = dict.fromkeys(level.doubt for level in levels if level)
        self.header = replace(vendor.header, doubts=(*vendor.header.doubts, *doubts))
        self._vendor = vendor
        self._levels = levels

    def profile(self) -> bytes | None:
        """See `Reader.profile`."""
        return self._vendor.profile()

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        frames = self._levels[level]
        return frames.read(region) if frames else self._vendor.read(level, region)

    def close(self) -> None:
        """See `Reader.close`."""
        self._vendor.close()
        for level in self._levels:
            if level:
                level.close()
        self._levels = [None for _ in self._levels]


class DicomLevel:
    """One level, decoded here.

    Args:
        instance: its file.
        space: how its colours are stored.
        doubt: what a person should know of that.

    Raises:
        SlideError: its frames can't be told apart.
    """

    def __init__(self, instance: Instance, space: Space, doubt: Doubt) -> None:
        self.doubt = doubt
        self._instance = instance
        self._space = space
        self._lock = threading.Lock()
        self._columns = -(-instance.size.width // instance.tile.width)
        self._file = instance.path.open("rb")
        try:
            self._frames = _frames(self._file, instance)
        except ValueError as error:
            self._file.close()
            raise _refusal(doubt, str(error)) from error

    def read(self, region: Rect) -> NDArray[np.uint8]:
        """Reads (height, width, 3) RGB.

        Raises:
            ReadError: one of the frames is damaged.
        """
        canvas = np.empty((region.height, region.width, 3), np.uint8)
        tile = self._instance.tile
        for row in range(region.y // tile.height, -(-region.bottom // tile.height)):
            for column in range(region.x // tile.width, -(-region.right // tile.width)):
                here = Rect(column * tile.width, row * tile.height, tile.width, tile.height)
                common = here.intersection(region)
                if common:
                    pixels = self._tile(row * self._columns + column)
                    crop(canvas, common, region)[:] = crop(pixels, common, here)
        return canvas

    def close(self) -> None:
        """Gives back the file."""
        with self._lock:
            self._file.close()

    def _tile(self, index: int) -> Samples:
        try:
            pixels = SHARED.get((self, index), lambda: self._decode(index))
        except Exception as error:  # each codec has errors of its own
            if self._file.closed:
                raise
            name = show(self._instance.path)
            raise ReadError(f"{name}: frame {index + 1}: {reason(error)}") from error
        assert pixels is not None
        return pixels

    def _decode(self, index: int) -> Samples:
        with self._lock:
            data = b"".join(_bytes_at(self._file, *place) for place in self._frames[index])
        pixels = _decode(data, self._instance, self._space)
        if pixels.shape != (self._instance.tile.height, self._instance.tile.width, 3):
            raise ValueError(f"decoded as {pixels.shape}")
        return pixels


def _corrected(alike: list[Instance]) -> DicomLevel | None:
    """A level to be decoded here, of the instances that have its size; None for a sound one.

    Raises:
        SlideError: its colours would come out wrong, and it can't be decoded here either.
    """
    for instance in alike:
        found = _settled(instance)
        if found is None:
            continue
        space, doubt = found
        if len(alike) > 1 or not instance.in_order:
            raise _refusal(doubt, "its frames are not one plane of tiles in order")
        return DicomLevel(instance, space, doubt)
    return None


def _settled(instance: Instance) -> tuple[Space, Doubt] | None:
    """How colours are stored where OpenSlide would take them for something else, and what to tell.

    Raises:
        SlideError: it can't be told.
    """
    with instance.path.open("rb") as file:
        data = _first_fragment(file, instance)
        if instance.syntax in _JPEG:
            head = jpeg_head(data)
            space = head.space if head else None
            if space in (None, instance.stated):
                return None
            return other(instance.stated), told(instance.stated, "the DICOM header")
        if instance.stated == "rgb" or _transforms(data) is not False:
            return None
        return _by_pixels(file, instance)


def _by_pixels(file: BinaryIO, instance: Instance) -> tuple[Space, Doubt]:
    """By frames of JPEG 2000 that the header calls YCbCr, but that have no transform to undo.

    Their brightest places, glass, are white: in YCbCr of chroma near 128, in RGB of three high
    values.

    Raises:
        SlideError: they are neither.
    """
    text = (
        f"the DICOM header says {instance.photometric}, but its frames of JPEG 2000 have no such "
        "transform"
    )
    samples = _samples_of(file, instance)
    if samples is None:
        raise _refusal(Doubt(code="colour-misstated", text=text), "its frames are damaged")
    luminous = _brightest(samples, samples[:, 0])
    chroma = np.quantile(luminous[:, 1:], (0.1, 0.9), axis=0)
    space: Space
    if np.median(luminous[:, 0]) >= _LUMINOUS and np.abs(chroma - 128).max() <= _NEUTRAL:
        space = "ycbcr"
    elif np.quantile(_brightest(samples, samples.min(axis=1)), 0.1) >= _BRIGHT:
        space = "rgb"
    else:
        doubt = Doubt(code="colour-misstated", text=text)
        raise _refusal(doubt, "its pixels show neither RGB nor YCbCr clearly")
    text = f"{text}: read as {NAMES[space]}, which its brightest places show"
    return space, Doubt(code="colour-misstated", text=text)


def _samples_of(file: BinaryIO, instance: Instance) -> NDArray[np.uint8] | None:
    """Pixels (N, 3), as they are stored, of some frames; None where none of them can be read."""
    parts = []
    for data in _some(file, instance):
        with contextlib.suppress(Exception):  # each codec has errors of its own
            parts.append(_decode(data, instance, "rgb").reshape(-1, 3))
    return np.concatenate(parts) if parts else None


def _brightest(samples: NDArray[np.uint8], by: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The brightest twentieth of samples (N, 3)."""
    return samples[by >= np.quantile(by, 0.95)]


def _refusal(doubt: Doubt, why: str) -> SlideError:
    text = f"{doubt.text}; it can't be read so: {why}; export the slide anew, or as TIFF"
    return SlideError(text, "colour-contradiction")


def _decode(data: bytes, instance: Instance, space: Space) -> NDArray[np.uint8]:
    """A frame's pixels (H, W, 3), RGB.

    Raises:
        ValueError: it has not the size that it should, of which no room is made.
        Exception: of any type; each codec has errors of its own.
    """
    if instance.syntax in _JPEG:
        head = jpeg_head(data)
        size = head.size if head else None
    else:
        size = _codestream_size(data)
    if size != (instance.tile.width, instance.tile.height):
        raise ValueError(f"it is of {size} px, not {instance.tile}")
    if instance.syntax in _JPEG:
        return decode_jpeg(data, space)
    samples = np.asarray(imagecodecs.jpeg2k_decode(data))
    return _from_ycbcr(samples) if space == "ycbcr" else samples


def _codestream_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a codestream of JPEG 2000; None where it does not say."""
    at = data.find(b"\xff\x4f\xff\x51") + 8  # past both markers, length and capabilities
    if at < 8 or at + 16 > len(data):
        return None
    right, bottom, left, top = struct.unpack(">4I", data[at : at + 16])
    return right - left, bottom - top


def _from_ycbcr(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB of YCbCr of the full range, by JFIF's equations."""
    matrix = np.array([[1, 1, 1], [0, -0.344136, 1.772], [1.402, -0.714136, 0]], np.float32)
    rgb = (samples - np.array([0, 128, 128], np.float32)) @ matrix
    return np.asarray(np.rint(rgb).clip(0, 255), np.uint8)


def _transforms(data: bytes) -> bool | None:
    """Whether a codestream of JPEG 2000 transforms its colours; None where it does not say."""
    at = data.find(b"\xff\x4f\xff\x51") + 2
    while at >= 2 and at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0x90:
        if data[at + 1] == 0x52 and at + 9 <= len(data):  # COD: length, style, progression, layers
            return data[at + 8] != 0
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _instances(path: Path) -> list[Instance]:
    """The files of a slide, which lie in one folder and name one series, that may be affected.

    Raises:
        SlideError: one of them would have OpenSlide crash.
    """
    try:
        series, instance = _read_instance(path)
    except SlideError:
        raise
    except Exception:  # pydicom promises no type; OpenSlide says what is wrong
        return []
    found = [instance]
    for beside in sorted(set(path.parent.iterdir()) - {path}):
        try:
            if _may_name(beside, series):
                its_series, instance = _read_instance(beside, series)
                found.append(instance if its_series == series else None)
        except SlideError:
            raise
        except Exception:  # likewise
            continue
    return [one for one in found if one]


def _may_name(path: Path, series: str) -> bool:
    """Whether a file may belong to a series, told without parsing it: folders hold thousands."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(_START)
    return says_dicom(start) and series.encode() in start


def _read_instance(path: Path, wanted: str = "") -> tuple[str, Instance | None]:
    """The series of a file, and the file; None for one whose colours can't be misstated.

    Args:
        path: the file.
        wanted: the only series whose files are looked at closely; by default the file's own.

    Raises:
        Exception: of any type; it is no file of a slide.
        SlideError: it would have OpenSlide crash.
    """
    with path.open("rb") as file:
        header, pixels = _read_header(file)
        series = str(header.SeriesInstanceUID)
        layout = str(header.get("DimensionOrganizationType") or FULL)
        if series == (wanted or series) and layout == SPARSE and not _is_placed(file, pixels):
            text = f"{path.name} does not say where its frames lie ({SPARSE}); export it anew"
            raise SlideError(text)
        if series == (wanted or series) and not _has_sound_table(file, pixels):
            text = f"{path.name} is damaged or truncated: its frames are not where it says"
            raise SlideError(f"{text}; copy it again")
    syntax = str(header.file_meta.TransferSyntaxUID)
    colored = header.get("SamplesPerPixel") == 3 and header.get("BitsAllocated") == 8
    if not colored or syntax not in _JPEG | _JPEG_2000:
        return series, None
    size = Size(int(header.TotalPixelMatrixColumns), int(header.TotalPixelMatrixRows))
    tile, frames = Size(int(header.Columns), int(header.Rows)), int(header.get("NumberOfFrames", 1))
    tiles = -(-size.width // tile.width) * -(-size.height // tile.height)
    in_order = layout == FULL and frames == tiles
    photometric = str(header.PhotometricInterpretation)
    return series, Instance(path, size, tile, syntax, photometric, frames, in_order, pixels)


def _read_header(file: BinaryIO) -> tuple[Any, int]:
    """What `_TAGS` say in a file, and where its pixels begin.

    Raises:
        Exception: of any type; it is no DICOM, or damaged.
    """
    from pydicom import config, dcmread  # takes a third of a second

    config.settings.reading_validation_mode = config.IGNORE  # its warnings would reach the terminal
    with warnings.catch_warnings(action="ignore"):
        header = dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
    return header, file.tell()


def _is_placed(file: BinaryIO, pixels: int) -> bool:
    """Whether a file has places for each of its frames before its pixels."""
    return _PER_FRAME in _bytes_at(file, 0, pixels)


def _has_sound_table(file: BinaryIO, pixels: int) -> bool:
    """Whether the table of offsets, where there is one, leads forward through the file.

    OpenSlide's libdicom goes wherever it leads, and the process crashes on the way.
    """
    tag, length = struct.unpack("<4sI", _bytes_at(file, pixels + 12, 8).ljust(8, b"\0"))
    if tag != _ITEM or not length:  # not in frames, or without a table
        return True
    begin, end = pixels + 20 + length, file.seek(0, SEEK_END)
    if length % 4 or begin > end:
        return False
    starts = np.frombuffer(_bytes_at(file, pixels + 20, length), "<u4").astype(np.int64)
    in_4_gib = end - begin < 2**32  # else offsets of 32 bits can't tell, and start anew
    forward = starts[0] == 0 and (np.diff(starts) > 0).all() and begin + starts[-1] < end
    return bool(forward) or not in_4_gib


def _first_fragment(file: BinaryIO, instance: Instance) -> bytes:
    """The first frame, or as much of it as lies in one piece; nothing where it is damaged."""
    try:
        places = list(islice(_items(file, instance), 2))
    except ValueError:  # reading will tell
        return b""
    return _bytes_at(file, *places[1]) if len(places) == 2 else b""


def _some(file: BinaryIO, instance: Instance) -> Iterator[bytes]:
    """A few frames from all over a level; the first fragment where they can't be told apart."""
    try:
        frames = _frames(file, instance)
    except ValueError:
        yield _first_fragment(file, instance)
        return
    for index in sorted(set(np.linspace(0, len(frames) - 1, SAMPLED).astype(int).tolist())):
        yield b"".join(_bytes_at(file, *place) for place in frames[index])


def _frames(file: BinaryIO, instance: Instance) -> list[list[tuple[int, int]]]:
    """Offsets and lengths of each frame's fragments.

    Raises:
        ValueError: nothing says which fragments are whose.
    """
    (table, length), *fragments = _items(file, instance)
    if len(fragments) == instance.frames:
        return [[one] for one in fragments]
    starts = np.frombuffer(_bytes_at(file, table, length), "<u4").astype(int)
    if len(starts) != instance.frames or not fragments:
        raise ValueError("nothing says where its frames begin")
    begin = fragments[0][0]
    owner = np.searchsorted(starts, [at - begin for at, _ in fragments], side="right") - 1
    frames: list[list[tuple[int, int]]] = [[] for _ in starts]
    for fragment, frame in zip(fragments, owner.tolist(), strict=True):
        frames[frame].append(fragment)
    return frames


def _items(file: BinaryIO, instance: Instance) -> Iterator[tuple[int, int]]:
    """Offset and length of each item of the pixels: a table of offsets, then fragments.

    Raises:
        ValueError: it isn't a sequence of items.
    """
    at = instance.pixels + 12  # tag, representation, length
    while True:
        tag, length = struct.unpack("<4sI", _bytes_at(file, at, 8).ljust(8, b"\0"))
        if tag == _END:
            return
        if tag != _ITEM:
            raise ValueError("its pixels are damaged")
        yield at + 8, length
        at += 8 + length


def _bytes_at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)
