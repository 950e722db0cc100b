"""What a store lists of its files, as a tree in which slides are looked for.

A store is listed once; each look into a file is another request. So only those files are looked
into that may be DICOM by their name: called ``.dcm``, ``.dicom`` or ``.ima``, without an ending, or
with one of digits alone, as the end of a UID is.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from configs import ConfigError
from configs.doubts import with_code
from pipeline.batch.series import DicomFiles, Series, sort_dicom
from pipeline.cloud.problems import explain
from pipeline.cloud.store import RemoteFile, Stores, patiently, run
from pipeline.cloud.urls import Url

T = TypeVar("T")

_HEAD = 16 << 10
"""Bytes of a file that may be DICOM that are asked for first; mostly they are enough."""

_AT_ONCE = 32
_LARGEST_INDEX = 1 << 20
"""Bytes of an index of a slide, such as a .vms file, that is read while slides are looked for."""

_DICOM_ENDINGS = (".dcm", ".dicom", ".ima", "")


class Listing:
    """What lies below a URL; see `pipeline.batch.trees.Tree`.

    Args:
        url: a folder or a file.
        stores: of the run.

    Attributes:
        url: the same.
        root: as a path.
        is_file: whether it is a file.
        odd: URLs of files that no folder on a disk could hold by their names.

    Raises:
        ConfigError: it is not there, or can't be listed.
    """

    def __init__(self, url: Url, stores: Stores) -> None:
        self.url = url
        self._store, self._settings = stores.of(url), stores.settings
        self._files: dict[Path, RemoteFile] = {}
        self._folders: dict[Path, tuple[set[Path], set[Path]]] = {}
        self._heads: dict[Path, bytes] = {}
        self._listed: set[str] = set()
        self.odd: list[str] = []
        self.root = self._store.path_of(url)
        file = self._ask(lambda: self._store.look(url))
        self.is_file = file is not None
        if file:
            self._add([file])
        else:
            self._list_all(url)
            if not self._files and not self.odd:
                raise ConfigError(f"{url}: nothing is there")

    def entries(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """See `Tree`."""
        if self.is_file:  # of which the folder was not listed
            self._list_all(self.url.parent)
        files, folders = self._folders.get(folder, (set(), set()))
        return sorted(_visible(files)), sorted(_visible(folders))

    def below(self, folder: Path) -> list[Path]:
        """See `Tree`."""
        if self.is_file and folder.parent == self.root.parent:
            self._list_all(self.url.parent.below(folder.name))
        files, folders = self._folders.get(folder, (set(), set()))
        return sorted([*files, *(path for inner in folders for path in self.below(inner))])

    def place(self, path: Path) -> str:
        """See `Tree`."""
        return path.as_posix()

    def open(self, path: Path) -> BinaryIO:
        """See `Tree`; of files that can't be what is looked for nothing is read."""
        file = self.file(path)
        if _is_index(path) and file.size <= _LARGEST_INDEX:
            return io.BytesIO(self._read(file, 0, file.size))
        if not _may_be_dicom(path):
            return io.BytesIO()
        if path not in self._heads:
            self._fetch_heads([path])
        if path not in self._heads:
            raise PermissionError(f"{file.shown}: can't be read")
        return io.BufferedReader(_Growing(self, file, self._heads[path]))

    def sort_dicom(self, files: Iterable[Path]) -> DicomFiles:
        """See `Tree`."""
        maybe = [path for path in files if _may_be_dicom(path)]
        self._fetch_heads([path for path in maybe if path not in self._heads])
        return sort_dicom(maybe, self.open)

    def damaged(self, series: Series) -> Path | None:
        """See `Tree`: it shows when the series has been fetched."""
        return None

    def exists(self, path: Path) -> bool:
        """See `Tree`."""
        if self.is_file and path not in self._files:
            self._list_all(self.url.parent)
        return path in self._files

    def shown(self, path: Path) -> str:
        """The URL of a file, or of a folder."""
        known = self._files.get(path)
        return known.shown if known else path.as_posix().replace(":/", "://", 1)

    def file(self, path: Path) -> RemoteFile:
        """What is known of a file."""
        return self._files[path]

    def read(self, file: RemoteFile, start: int, end: int) -> bytes:
        """A piece of a file.

        Raises:
            ConfigError: it can't be read.
        """
        return self._ask(lambda: self._store.read(file, start, end))

    _read = read

    def _list_all(self, url: Url) -> None:
        if url.text not in self._listed and not url.is_web:  # which lists nothing
            self._listed.add(url.text)
            # A bucket of a million objects takes a thousand requests.
            unhurried = self._settings.unhurried
            ask = patiently(lambda: self._store.list(url), unhurried, url.signed)
            self._add(self._ask(lambda: ask, at_once=True))

    def _add(self, files: Iterable[RemoteFile]) -> None:
        for file in files:
            parts = file.shown.partition("://")[2].split("/")
            if any(part in ("", ".", "..") or "\0" in part for part in parts):
                self.odd.append(file.shown)
                continue
            self._files[file.path] = file
            self._inside(file.path.parent)[0].add(file.path)
            for folder in file.path.parents:
                known = self._inside(folder.parent)[1]
                if folder in known or folder == folder.parent:
                    break
                known.add(folder)

    def _inside(self, folder: Path) -> tuple[set[Path], set[Path]]:
        return self._folders.setdefault(folder, (set(), set()))

    def _fetch_heads(self, paths: Sequence[Path]) -> None:
        """Reads the beginnings of files, many at once; those that are refused stay unknown."""
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(path: Path) -> None:
            file = self._files[path]

            def ask() -> Coroutine[Any, Any, bytes]:
                return self._store.read(file, 0, min(file.size, _HEAD))

            try:
                async with room:
                    head = await patiently(ask, self._settings, file.signed) if file.size else b""
            except Exception as error:
                if explain(error).passing:
                    raise
            else:
                self._heads[path] = head

        async def all_of_them() -> None:
            await asyncio.gather(*map(one, paths))

        if paths:
            self._ask(all_of_them, at_once=True)

    def _ask(self, ask: Callable[[], Coroutine[Any, Any, T]], at_once: bool = False) -> T:
        """What the store answers.

        Raises:
            ConfigError: why it doesn't.
        """
        try:
            once = ask() if at_once else patiently(ask, self._settings, self.url.signed)
            answer: T = run(once)
        except Exception as error:
            problem = explain(error, self.url.signed)
            raise ConfigError(with_code(f"{self.url}: {problem.text}", problem.code)) from None
        return answer


class _Growing(io.RawIOBase):
    """A file of which more is fetched as it is read on, twice as much each time."""

    def __init__(self, listing: Listing, file: RemoteFile, head: bytes) -> None:
        self._listing, self._file, self._data, self._at = listing, file, head, 0
        self.name = file.shown  # pydicom asks for it

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self._at, self._file.size)[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._file.size)
        if end > len(self._data):
            known = len(self._data)
            more = min(max(end, 2 * known), self._file.size)
            self._data += self._listing.read(self._file, known, more)
        piece = self._data[self._at : end]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def _visible(paths: Iterable[Path]) -> Iterator[Path]:
    return (path for path in paths if not path.name.startswith("."))


def _may_be_dicom(path: Path) -> bool:
    ending = path.suffix.lower()
    return ending in _DICOM_ENDINGS or ending[1:].isdecimal()


def _is_index(path: Path) -> bool:
    return path.suffix.lower() in (".vms", ".vmu")
