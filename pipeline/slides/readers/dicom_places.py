"""Where a DICOM file says that its frames lie: in its bytes, and on the level.

Frames that are encapsulated lie in items, which a table may lead to; what a table says is believed
as far as the file has it so. Frames of ``TILED_FULL`` are all tiles, row by row, plane by plane,
one path of light after the other (PS3.3, C.7.6.17.3); others have their places told one by one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SlideError
from pipeline.slides.readers.base import show
from pipeline.slides.readers.dicom_header import FULL, Instance

_ITEM, _ITEM_END = 0xE000FFFE, 0xE00DFFFE
_SEQUENCE_END = 0xE0DDFFFE
_UNDEFINED = 0xFFFFFFFF
_LONG_FORM = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)

_PER_FRAME = 0x92305200
"""Tags are read as one little-endian number: the element's in the upper half."""
_PLACE, _LIGHT, _MEASURES = 0x021A0048, 0x02070048, 0x91100028
_X, _Y, _Z = 0x021E0048, 0x021F0048, 0x074A0040
_PATH, _SPACING = 0x01060048, 0x00300028
_WANTED = {_PLACE, _LIGHT, _MEASURES}
_PIXELS = 0x00107FE0

LARGEST_HEADER = 1 << 30
"""Bytes before the pixels above which a file is refused."""

_COPY = "copy it again"


FrameFacts = tuple[int | None, int | None, float | None, str, tuple[float, float] | None]
"""Column and row from 1, z in µm, path of light, mm per pixel (rows first)."""


@dataclass(frozen=True)
class Places:
    """Where frames lie on their level, in their order.

    Attributes:
        x: (N,) left edges in px of the level, from 0.
        y: (N,) upper edges, likewise.
        z: (N,) µm; nan where nothing is said.
        plane: (N,) index of the focal plane in ``TILED_FULL``; -1 where ``z`` says it.
        light: (N,) index of the path of light.
        spacing: (N, 2) mm per pixel, rows first, where each frame says its own; else None.
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    z: NDArray[np.float64]
    plane: NDArray[np.int64]
    light: NDArray[np.int64]
    spacing: NDArray[np.float64] | None = None


def find_frames(instance: Instance) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets and lengths, in bytes, of a file's frames: of the items that each lies in, if any.

    Raises:
        SlideError: the file has not as many, or they lie beyond its end.
    """
    with instance.path.open("rb") as file:
        end = instance.path.stat().st_size
        if instance.pixels.length is None:
            offset, count = _encapsulated(file, instance, end)
        else:
            offset, count = _native(instance)
    if len(offset) != instance.frames or (offset + count > end).any():
        raise _damaged(instance, "its frames are not where it says")
    return offset, count


def find_places(instance: Instance) -> Places:
    """Where a file's frames lie on its level: as their layout has it.

    Where none is stated the places of frames count, or their order if they have none.

    Raises:
        SlideError: it does not say it of each, or what it says is impossible.
    """
    if instance.layout == FULL:
        return _in_order(instance)
    told = _frame_facts(instance)
    if not told and not instance.layout:  # older files say neither
        return _in_order(instance)
    places = _told(instance, told)
    if (places.x < 0).any() or (places.y < 0).any():
        raise _damaged(instance, "frames lie outside of its level")
    return places


def fragments(data: bytes) -> bytes:
    """The content of the items that a frame lies in.

    Raises:
        ValueError: they are no items.
    """
    parts, at = [], 0
    while at + 8 <= len(data):
        tag, length = struct.unpack_from("<II", data, at)
        if tag == _SEQUENCE_END:
            break
        if tag != _ITEM or length == _UNDEFINED or at + 8 + length > len(data):
            raise ValueError("the table of frames leads astray")
        parts.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    if not parts:
        raise ValueError("there is nothing")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _damaged(instance: Instance, why: str) -> SlideError:
    name = show(instance.path.name)
    return SlideError(f"{name} is damaged or truncated: {why}; {_COPY}", "vendor-refused")


def _native(instance: Instance) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames that follow each other, uncompressed."""
    size = frame_bytes(instance)
    if instance.frames * size > (instance.pixels.length or 0):
        raise _damaged(instance, f"it claims {instance.frames} frames, and holds fewer")
    offset = instance.pixels.start + size * np.arange(instance.frames, dtype=np.int64)
    return offset, np.full(instance.frames, size, np.int64)


def frame_bytes(instance: Instance) -> int:
    """Bytes of an uncompressed frame."""
    area = instance.tile.width * instance.tile.height
    if instance.photometric == "YBR_FULL_422":
        return area * 2
    return area * instance.samples * max(1, instance.bits[0] // 8)


def _encapsulated(
    file: BinaryIO, instance: Instance, end: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    file.seek(instance.pixels.start)
    tag, length = struct.unpack("<II", file.read(8).ljust(8, b"\0"))
    begin = instance.pixels.start + 8 + length
    if tag != _ITEM or begin > end or length % 4:
        raise _damaged(instance, "its frames are not where it says")
    basic = np.frombuffer(file.read(length), "<u4").astype(np.int64)
    extended = np.frombuffer(instance.pixels.offsets, "<u8").astype(np.int64)
    if len(extended):
        return _by_table(file, instance, begin, extended, end)
    if len(basic) and end - begin < 2**32:  # else offsets of 32 bits can't tell, and start anew
        return _by_table(file, instance, begin, basic, end)
    return _by_items(file, instance, begin, end)


def _by_table(
    file: BinaryIO, instance: Instance, begin: int, starts: NDArray[np.int64], end: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each frame reaches to the next one; the last to the end of the pixels."""
    if len(starts) != instance.frames or starts[0] != 0 or (np.diff(starts) <= 0).any():
        raise _damaged(instance, "its table of frames is none")
    offset = begin + starts
    if offset[-1] + 8 > end:
        raise _damaged(instance, "its frames are not where it says")
    last = int(offset[-1])
    for at, size in _items(file, last, end):
        last = at + size
    if last == offset[-1]:
        raise _damaged(instance, "its last frame is cut off")
    stop = np.append(offset[1:], last)
    return offset, stop - offset


def _by_items(
    file: BinaryIO, instance: Instance, begin: int, end: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Without a table each frame has to lie in one item."""
    found = np.array([(at - 8, size + 8) for at, size in _items(file, begin, end)], np.int64)
    if len(found) != instance.frames:
        why = f"it claims {instance.frames} frames, and holds {len(found)} pieces without a table"
        raise _damaged(instance, why)
    return found[:, 0], found[:, 1]


def _items(file: BinaryIO, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Offset and length of the content of each item from ``at`` on; those that lie in the file."""
    while at + 8 <= end:
        file.seek(at)
        tag, length = struct.unpack("<II", file.read(8).ljust(8, b"\0"))
        if tag != _ITEM or at + 8 + length > end:
            return
        yield at + 8, length
        at += 8 + length


def _in_order(instance: Instance) -> Places:
    columns, rows = instance.grid
    tiles = columns * rows
    whole = tiles * instance.planes * len(instance.light)
    first = instance.part.offset if instance.part else 0
    if first + instance.frames > whole or (instance.part is None and instance.frames != whole):
        of = f"{instance.size.width} x {instance.size.height} px"
        raise _damaged(instance, f"its level of {of} needs {whole} frames, not {instance.frames}")
    index = first + np.arange(instance.frames, dtype=np.int64)
    tile, plane = index % tiles, index // tiles % instance.planes
    depth = np.nan if instance.depth is None else instance.depth
    z = np.full(len(index), depth, np.float64)
    if instance.planes > 1:
        step = np.nan if instance.step is None else instance.step
        z = np.nan_to_num(z) + plane * step
    return Places(
        tile % columns * instance.tile.width,
        tile // columns * instance.tile.height,
        z,
        plane,
        index // tiles // instance.planes,
    )


def _frame_facts(instance: Instance) -> list[FrameFacts]:
    """What is said of the frames that have a place.

    Raises:
        SlideError: it can't be read.
    """
    with instance.path.open("rb") as file:
        if instance.pixels.start > LARGEST_HEADER:
            raise _damaged(instance, "its header is larger than any")
        data = file.read(instance.pixels.start)
    walk = _Walk(data, explicit=instance.syntax != "1.2.840.10008.1.2")
    try:
        rows = [walk.frame(*item) for item in walk.per_frame()]
    except (ValueError, struct.error, IndexError) as error:
        raise _damaged(instance, "what it says of each frame can't be read") from error
    return [row for row in rows if row[0] is not None and row[1] is not None]


def _told(instance: Instance, told: Sequence[FrameFacts]) -> Places:
    """By the items of each frame."""
    if len(told) != instance.frames:
        layout = instance.layout or "no DimensionOrganizationType"
        raise SlideError(
            f"{show(instance.path.name)} does not say where its frames lie ({layout}); "
            "export it anew",
            "vendor-refused",
        )
    names = {one.identifier: index for index, one in enumerate(instance.light)}
    light = [names.get(row[3], -1 if row[3] else 0) for row in told]
    if min(light) < 0:
        raise _damaged(instance, "frames name an optical path that it does not describe")
    depth = np.nan if instance.depth is None else instance.depth
    count = len(told)
    spacing = [row[4] for row in told if row[4] is not None]
    return Places(
        np.array([row[0] for row in told], np.int64) - 1,
        np.array([row[1] for row in told], np.int64) - 1,
        np.array([depth if row[2] is None else row[2] for row in told], np.float64),
        np.full(count, -1, np.int64),
        np.array(light, np.int64),
        np.array(spacing, np.float64) if len(spacing) == count else None,
    )


class _Walk:
    """Walks through the elements of a header.

    Args:
        data: of the file, from its beginning to its pixels.
        explicit: whether elements name their representation.
    """

    def __init__(self, data: bytes, explicit: bool) -> None:
        self._data = data
        self._explicit = explicit

    def per_frame(self) -> Iterator[tuple[int, int]]:
        """Start and end of each frame's item; of an undefined length an end that is too far."""
        at = 132
        # The file's own elements are explicit whatever follows; the first says how long they are.
        _, at, size = self._element(at, explicit=True)
        at += int.from_bytes(self._data[at : at + size], "little") + size
        while at + 8 <= len(self._data):
            tag, start, length = self._element(at)
            if tag == _PER_FRAME:
                yield from self._items(start, length)
                return
            if tag == _PIXELS:
                return
            at = self._behind(start, length)

    def frame(self, start: int, end: int) -> FrameFacts:
        """What an item says of its frame."""
        x, y, z, path, spacing = None, None, None, "", None
        for tag, at, length in self._elements(start, end):
            if tag not in _WANTED:
                continue
            item = next(self._items(at, length), None)
            if item is None:
                continue
            for inner, place, size in self._elements(*item):
                value = self._data[place : place + size]
                if inner == _X:
                    (x,) = struct.unpack("<i", value)
                elif inner == _Y:
                    (y,) = struct.unpack("<i", value)
                elif inner == _Z and value.strip(b" \0"):
                    z = float(value.strip(b" \0"))
                elif inner == _PATH:
                    path = value.decode("latin-1").strip(" \0")
                elif inner == _SPACING:
                    down, _, across = value.strip(b" \0").partition(b"\\")
                    spacing = float(down), float(across)
        return x, y, z, path, spacing

    def _element(self, at: int, explicit: bool | None = None) -> tuple[int, int, int]:
        """Tag, start and length of the element at an offset."""
        data = self._data
        tag, length = struct.unpack_from("<II", data, at)
        if tag in (_ITEM, _ITEM_END, _SEQUENCE_END) or not (
            self._explicit if explicit is None else explicit
        ):
            return tag, at + 8, length
        if data[at + 4 : at + 6] in _LONG_FORM:
            (length,) = struct.unpack_from("<I", data, at + 8)
            return tag, at + 12, length
        return tag, at + 8, length >> 16

    def _elements(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        at = start
        while at + 8 <= end:
            tag, begin, length = self._element(at)
            if tag in (_ITEM_END, _SEQUENCE_END):
                return
            yield tag, begin, length
            at = self._behind(begin, length)

    def _items(self, start: int, length: int) -> Iterator[tuple[int, int]]:
        """Start and end of each item of a sequence."""
        end = len(self._data) if length == _UNDEFINED else start + length
        if end > len(self._data):
            raise ValueError("a sequence reaches beyond the header")
        at = start
        while at + 8 <= end:
            tag, begin, size = self._element(at)
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM:
                raise ValueError("a sequence holds what is no item")
            yield begin, end if size == _UNDEFINED else begin + size
            at = self._behind_item(begin, size)

    def _behind(self, start: int, length: int) -> int:
        """Where the next element begins."""
        if length != _UNDEFINED:
            return start + length
        at = start
        while True:  # through the items of a sequence, to its end
            tag, begin, size = self._element(at)
            if tag == _SEQUENCE_END:
                return begin
            if tag != _ITEM:
                raise ValueError("a sequence holds what is no item")
            at = self._behind_item(begin, size)

    def _behind_item(self, start: int, size: int) -> int:
        if size != _UNDEFINED:
            return start + size
        at = start
        while True:
            tag, begin, length = self._element(at)
            if tag == _ITEM_END:
                return begin
            at = self._behind(begin, length)
