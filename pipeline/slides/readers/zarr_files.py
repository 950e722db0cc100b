"""The files of a Zarr: a folder of them, or one ZIP (.ozx), by keys with forward slashes.

A Zarr is a tree of small files: JSON that says what an array is, and its chunks. Keys never come
from a file as they are: what metadata names is checked first (`is_safe`).
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import threading
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import SlideError
from pipeline.slides.readers.base import show

FOLDER_ENDING = ".zarr"
"""Of a folder that is a slide, if it holds a picture."""

ZIP_ENDING = ".ozx"
"""Of a ZIP that holds one (NGFF's RFC 9)."""

METADATA = ("zarr.json", ".zattrs", ".zgroup")
"""Files that make a folder a Zarr group, of format 3 and 2."""

MOST_METADATA = 4 << 20
"""Bytes of a file of metadata; one that is longer is damaged."""


class ZarrFiles(ABC):
    """Bytes by key; several threads may read at once.

    Attributes:
        path: of the folder or the ZIP.
    """

    path: Path

    @abstractmethod
    def size(self, key: str) -> int | None:
        """Bytes of a file; None where there is none.

        Raises:
            OSError: there is something else, such as a folder, or it may not be looked at.
        """

    @abstractmethod
    def part(self, key: str, start: int, count: int) -> bytes:
        """Bytes of a file; fewer where it ends.

        Raises:
            OSError: it can't be read.
        """

    @abstractmethod
    def below(self, folder: str, depth: int) -> Iterator[str]:
        """What lies in a folder, at most so many folders deep, by keys relative to it.

        What is no folder is named whatever it is: a link to nothing is a file that can't be read.

        Raises:
            OSError: a folder can't be listed.
        """

    @abstractmethod
    def close(self) -> None:
        """Gives back what is open; a second time does nothing."""

    def read(self, key: str, most: int) -> bytes | None:
        """All of a file; None where there is none.

        Raises:
            OSError: it can't be read, or is longer than ``most`` bytes.
        """
        size = self.size(key)
        if size is None:
            return None
        if size > most:
            raise OSError(0, f"has {size} bytes, more than {most}")
        return self.part(key, 0, size)


class FolderFiles(ZarrFiles):
    """The files of a folder, each opened when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._root = os.fspath(path)
        self._is_closed = False

    def size(self, key: str) -> int | None:
        """See `ZarrFiles.size`."""
        try:
            status = os.stat(f"{self._root}/{key}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise OSError(0, "is no file")
        return status.st_size

    def part(self, key: str, start: int, count: int) -> bytes:
        """See `ZarrFiles.part`."""
        if self._is_closed:
            raise ValueError(f"{show(self.path)} is closed")
        with open(f"{self._root}/{key}", "rb", buffering=0) as file:
            file.seek(start)
            return file.read(count)

    def below(self, folder: str, depth: int) -> Iterator[str]:
        """See `ZarrFiles.below`."""
        yield from _walk(f"{self._root}/{folder}", "", depth)

    def close(self) -> None:
        """See `ZarrFiles.close`."""
        self._is_closed = True


class ZipFiles(ZarrFiles):
    """The files in a ZIP, stored as they are, or deflated.

    Raises:
        SlideError: it is no ZIP, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._zip = zipfile.ZipFile(path)
        except OSError as error:
            raise SlideError(f"can't be read: {error.strerror}") from error
        except NotImplementedError as error:
            raise SlideError(
                f"is a ZIP archive that can't be read ({error}); pack it anew"
            ) from error
        except (zipfile.BadZipFile, ValueError, struct.error) as error:
            raise SlideError(f"is no whole ZIP archive ({error}); copy it again") from error
        self._infos = {info.filename: info for info in self._zip.infolist()}

    def size(self, key: str) -> int | None:
        """See `ZarrFiles.size`."""
        info = self._infos.get(key)
        return None if info is None else info.file_size

    def part(self, key: str, start: int, count: int) -> bytes:
        """See `ZarrFiles.part`."""
        with self._lock:
            try:
                with self._zip.open(self._infos[key]) as file:
                    file.seek(start)
                    return file.read(count)
            except OSError:
                raise
            except Exception as error:  # damaged, encrypted, packed by a method that isn't known
                raise OSError(0, str(error) or type(error).__name__) from error

    def below(self, folder: str, depth: int) -> Iterator[str]:
        """See `ZarrFiles.below`."""
        start = f"{folder}/"
        for name in self._infos:
            if name.startswith(start) and not name.endswith("/"):
                key = name[len(start) :]
                if key.count("/") <= depth:
                    yield key

    def close(self) -> None:
        """See `ZarrFiles.close`."""
        with self._lock:
            self._zip.close()


class FolderState(NamedTuple):
    """What the file system says of a folder that is a slide.

    Attributes:
        size: bytes of all files.
        mtime_ns: when the last of them was changed.
        names: SHA-256 of the names and sizes of all files, sorted.
    """

    size: int
    mtime_ns: int
    names: str


def files_of(folder: Path) -> list[Path]:
    """All files of a folder that is a slide, sorted; links to folders are not entered."""
    return sorted(
        Path(place, name) for place, _, names in os.walk(folder, onerror=_raise) for name in names
    )


def folder_state(folder: Path) -> FolderState:
    """Looks at every file of a folder, and into none.

    Raises:
        OSError: one may not be looked at.
    """
    size = newest = 0
    lines = []
    root = len(os.fspath(folder)) + 1
    waiting = [os.fspath(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                    continue
                status = entry.stat()
                size += status.st_size
                newest = max(newest, status.st_mtime_ns)
                lines.append(f"{entry.path[root:]}\0{status.st_size}\n")
    digest = hashlib.sha256()
    for line in sorted(lines):
        digest.update(os.fsencode(line))
    return FolderState(size, newest, digest.hexdigest())


def is_safe(key: str) -> bool:
    """Whether a path that metadata names stays below its folder, on every system."""
    parts = key.split("/")
    return all(
        part not in ("", ".", "..") and part.isprintable() and not set(part) & set('\\:*?"<>|')
        for part in parts
    )


def _walk(folder: str, key: str, depth: int) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir():
                yield key + entry.name
            elif entry.is_symlink():  # which may lead to the whole disk, or back
                raise OSError(0, f"{show(key + entry.name)} is a link to a folder")
            elif depth:
                yield from _walk(entry.path, f"{key}{entry.name}/", depth - 1)


def _raise(error: OSError) -> None:
    raise error
