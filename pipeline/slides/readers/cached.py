"""A cache on disk of a slide's decoded blocks, for slides that are slow to decode or far away.

It keeps what the file holds, not what was made of it at some scale: whoever reads through it gets
the pixels that they would have got without.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.arrays import BROKEN
from pipeline.errors import ReadError
from pipeline.geometry import Rect
from pipeline.slides.readers.base import Reader
from pipeline.slides.readers.companions import LocalFiles, companions
from pipeline.slides.readers.zarr_files import folder_state

BLOCK = 512
"""Side of a block in pixels of its level: 786 kB on the disk."""


DECODING = 3
"""Raised when readers come to decode some file to other pixels: older blocks are made anew."""


class CachedReader(Reader):
    """A reader that keeps what another one decoded; any number of processes may share a folder.

    A block appears whole or not at all, and none is believed that has not its size. A full disk
    costs time, and nothing else.

    Args:
        reader: of the slide.
        path: the slide's file; after a change of it, or of one beside it that holds some of the
            slide, its blocks are made anew.
        folder: for the blocks of all slides.
    """

    library = "cache"

    def __init__(self, reader: Reader, path: Path, folder: Path) -> None:
        self.header = reader.header
        self.files = reader.files
        self._reader = reader
        self._path, self._cache = path, folder
        self._folder = folder / f"{path.name}-{_identity(path, reader)}"

    def shrinks(self, level: int) -> tuple[int, ...]:
        """See `Reader.shrinks`."""
        return self._reader.shrinks(level)

    def profile(self) -> bytes | None:
        """See `Reader.profile`."""
        return self._reader.profile()

    def of_plane(self, index: int) -> Reader:
        """See `Reader.of_plane`."""
        if index == self.header.plane:
            return self
        return CachedReader(self._reader.of_plane(index), self._path, self._cache)

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        canvas = np.empty((region.height, region.width, 3), np.uint8)
        size = self.header.levels[level].size
        whole = Rect(0, 0, size.width // shrink, size.height // shrink)
        try:
            for row in range(region.y // BLOCK, -(-region.bottom // BLOCK)):
                for column in range(region.x // BLOCK, -(-region.right // BLOCK)):
                    square = Rect(column * BLOCK, row * BLOCK, BLOCK, BLOCK)
                    block = square.intersection(whole)
                    common = block and block.intersection(region)
                    if block and common:
                        pixels = self._block(level, block, shrink)
                        canvas[_slices(common, region)] = pixels[_slices(common, block)]
        except ReadError:  # what is damaged may lie beside the region
            return self._reader.read(level, region, shrink)
        return canvas

    def close(self) -> None:
        """See `Reader.close`."""
        self._reader.close()

    def _block(self, level: int, block: Rect, shrink: int) -> NDArray[np.uint8]:
        path = self._folder / f"{level}-{shrink}-{block.x}-{block.y}.npy"
        shape = (block.height, block.width, 3)
        with contextlib.suppress(*BROKEN):  # not there, or damaged
            kept: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
            if kept.shape == shape and kept.dtype == np.uint8:
                return kept
        pixels = self._reader.read(level, block, shrink)
        with contextlib.suppress(OSError):  # a full disk
            _save(path, pixels)
        return pixels


def _identity(path: Path, reader: Reader) -> str:
    """What tells a slide's plane from all others, and from what its files were before a change."""
    files = {path, *reader.files, *companions(path, LocalFiles())}
    state = sorted(f"{file.resolve()}|{_state(file)}" for file in files)
    sizes = [str(level.size) for level in reader.header.levels]
    text = "|".join([str(path.resolve()), *state, *sizes, reader.library, str(DECODING)])
    if reader.header.plane is not None:
        text += f"|{reader.header.plane}"
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def _state(path: Path) -> str:
    """What changes with the content of a file or a folder; empty for what isn't there."""
    try:
        if path.is_dir():
            return "|".join(map(str, folder_state(path)))
        facts = path.stat()
    except OSError:  # whoever reads it says so
        return ""
    return f"{facts.st_size}|{facts.st_mtime_ns}"


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes a block under another name first: nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, pixels)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def _slices(part: Rect, whole: Rect) -> tuple[slice, slice]:
    """Rows and columns of a part in an array of the whole."""
    x, y = part.x - whole.x, part.y - whole.y
    return slice(y, y + part.height), slice(x, x + part.width)
