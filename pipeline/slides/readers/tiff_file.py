"""TIFF files: opened whatever their offsets look like, and asked whether all of them is there."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tifffile import TiffFile

from pipeline.errors import SlideError
from pipeline.slides.readers.base import reason, show
from pipeline.slides.readers.segments import Page

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters is raised as SlideError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of TIFF and BigTIFF in both byte orders."""

_BIG = 43
"""Version of BigTIFF, whose first offset stands at byte 8."""

_NOTICED = 100
"""Directories up to which tifffile notices that they go round in a circle."""

NDPI_FORMAT = 65420
"""Tag by which Hamamatsu's files are known."""


def open_file(path: Path) -> TiffFile:
    """Opens a TIFF.

    tifffile goes by the ending for whether offsets have 64 bits in what calls itself a TIFF of 32,
    as Hamamatsu writes it; here the content says so, as it does to OpenSlide.

    Raises:
        SlideError: it is damaged.
    """
    try:
        file = TiffFile(path, is_ndpi=_has_long_offsets(path))
    except Exception as error:  # tifffile promises no type for what a broken file causes
        raise SlideError(f"{show(path)}: truncated or damaged TIFF: {reason(error)}") from error
    if _goes_round(file):
        file.close()
        raise SlideError(f"{show(path)}: damaged: its directories lead back to an earlier one")
    with suppress(Exception):  # what is broken shows when it is read
        len(file.pages)  # tifffile notices a small circle when it counts; else it goes round it
    return file


def pages_of(file: TiffFile) -> Iterator[Page]:
    """The directories of a file's main chain; one that leads back to an earlier one ends it."""
    for index in range(len(file.pages)):
        yield file.pages[index]


def _goes_round(file: TiffFile) -> bool:
    """Whether the chain of directories is a circle too long for tifffile to notice it."""
    form, handle, seen = file.tiff, file.filehandle, set[int]()
    handle.seek(8 if form.version == _BIG else 4)
    (offset,) = struct.unpack(form.offsetformat, handle.read(form.offsetsize))
    try:
        while offset and offset not in seen:
            seen.add(offset)
            handle.seek(offset)
            (count,) = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))
            handle.seek(offset + form.tagnosize + count * form.tagsize)
            (offset,) = struct.unpack(form.offsetformat, handle.read(form.offsetsize))
    except (struct.error, OSError, OverflowError, ValueError):  # it leads out of the file
        return False
    return bool(offset) and len(seen) >= _NOTICED


def _has_long_offsets(path: Path) -> bool:
    """Whether Hamamatsu's tags stand where an offset of 64 bits leads to."""
    with path.open("rb") as file:
        head = file.read(12)
        if len(head) < 12 or head[:4] != MAGIC[0]:
            return False
        (offset,) = struct.unpack("<Q", head[4:])
        if offset >= path.stat().st_size:
            return False
        file.seek(offset)
        (count,) = struct.unpack("<H", file.read(2).ljust(2, b"\0"))
        entries = file.read(12 * count)
    tags = (entries[at : at + 2] for at in range(0, len(entries), 12))
    return struct.pack("<H", NDPI_FORMAT) in tags


def find_truncation(path: Path) -> str | None:
    """Says whether a TIFF's tiles or directories lie beyond its end; None where all is there."""
    size = path.stat().st_size
    try:
        end = _last_byte(path)
    except Exception:  # whoever opens it says what is wrong
        return None
    return f"it ends at byte {size:,}, but names byte {end:,}" if end > size else None


def find_disorder(path: Path) -> str | None:
    """Says why a TIFF's directories can't be followed; None where they can."""
    try:
        _last_byte(path)
    except SlideError as error:
        return error.text.removeprefix(f"{show(path)}: ")
    except Exception as error:  # tifffile promises no type for what a broken file causes
        return f"its directories can't be followed: {reason(error)}"
    return None


def _last_byte(path: Path) -> int:
    """First byte behind all that a TIFF names.

    Raises:
        SlideError: it is damaged, or has no directory.
    """
    with open_file(path) as file:
        ends = [_end(page) for page in _all_pages(file)]
        if not ends:
            raise SlideError(f"{show(path)}: no directory of it can be read")
        return max(_next_directory(file), *ends)


def _all_pages(file: TiffFile) -> Iterator[Page]:
    for page in pages_of(file):
        yield page
        yield from page.pages or ()


def _next_directory(file: TiffFile) -> int:
    """Where the next directory, which could not be read, has its first entry; 0 for none."""
    form, handle = file.tiff, file.filehandle
    handle.seek(file.pages.next_page_offset or 0)
    (offset,) = struct.unpack(form.offsetformat, handle.read(form.offsetsize))
    return int(offset + form.tagnosize) if offset else 0


def _end(page: Page) -> int:
    """First byte behind a page's pixels."""
    return max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=False)), default=0)
