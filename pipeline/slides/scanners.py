"""Scanners' own formats that are read where a package of their extra is installed.

KFB and TMAP are read by readers of ours, and the package, which is pure Python, is the judge: where
it shows other pixels, one of both is wrong, and the slide is refused. What fastslide reads, a
native library, it reads in a process of its own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipeline.errors import ReadError, SlideError, kind_and_text
from pipeline.slides.plugins import ReaderPlugin
from pipeline.slides.readers.base import Header, Reader, show
from pipeline.slides.readers.kfb import open_kfb
from pipeline.slides.readers.placed import PlacedReader
from pipeline.slides.readers.tmap import open_tmap

SAME = 1.0
"""Levels of 255 by which two decoders may differ in a tile, in the mean."""


@dataclass(frozen=True)
class Scanner:
    """A format that an extra reads.

    Attributes:
        endings: of its files, in lower case.
        extra: of cytolibra.
        package: of the extra, which reads it.
        value: ``module:Name`` of the plug-in.
        isolated: whether that runs in a process of its own.
    """

    endings: tuple[str, ...]
    extra: str
    package: str
    value: str
    isolated: bool


SCANNERS = (
    Scanner((".kfb",), "kfb", "kfbslide", "pipeline.slides.scanners:Kfb", False),
    Scanner((".tmap",), "tmap", "tmapslide", "pipeline.slides.scanners:Tmap", False),
    Scanner(
        (".isyntax", ".i2syntax", ".vsi", ".qptiff"),
        "fastslide",
        "fastslide",
        "pipeline.slides.fast:Fast",
        True,
    ),
)


def extra_of(ending: str) -> str | None:
    """The extra that reads files of an ending, in lower case with its dot; None where none does."""
    return next((one.extra for one in SCANNERS if ending in one.endings), None)


def version_of(package: str) -> str | None:
    """The version of a package that is installed; None where it isn't."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


class _Judged(ReaderPlugin):
    """A reader of ours that a package has to agree with."""

    isolate = False
    package: ClassVar[str]

    def open(self, path: Path) -> Reader:
        """See `ReaderPlugin.open`."""
        reader = self._open_ours(path)
        try:
            reader.header = self._agree(reader, path)
        except BaseException:
            reader.close()
            raise
        return reader

    @abstractmethod
    def _open_ours(self, path: Path) -> PlacedReader:
        """The slide by our own reader."""

    @abstractmethod
    def _slide(self) -> Callable[[str], Any]:
        """What of the package opens a file, as OpenSlide does."""

    def _agree(self, reader: PlacedReader, path: Path) -> Header:
        """Our header, after the package has opened the file and shown some tiles.

        Raises:
            SlideError: it can't, or shows something else.
        """
        try:
            with self._slide()(str(path)) as slide:
                problem = _difference(reader, slide)
                return self._header(reader.header, slide, problem)
        except SlideError as error:
            raise SlideError(f"{show(path)}: {error.text}", error.code) from error
        except Exception as error:  # of code that isn't ours
            text = f"{show(path)}: {self.package} can't read it: {kind_and_text(error)}"
            raise SlideError(text, "reader-failed") from error

    def _header(self, header: Header, slide: Any, problem: str | None) -> Header:
        if problem:
            raise SlideError(
                f"{self.package} reads it otherwise than CytoLibra: {problem}; it is read by "
                "neither; please report it, if you can with the file",
                "reader-failed",
            )
        return header


class Kfb(_Judged):
    """KFB, of KFBIO."""

    name = "kfb"
    package = "kfbslide"

    def _open_ours(self, path: Path) -> PlacedReader:
        return open_kfb(path)

    def _slide(self) -> Callable[[str], Any]:
        from kfbslide import OpenSlide

        return OpenSlide  # type: ignore[no-any-return]


class Tmap(_Judged):
    """TMAP, of UNIC."""

    name = "tmap"
    package = "tmapslide"

    def _open_ours(self, path: Path) -> PlacedReader:
        return open_tmap(path)

    def _slide(self) -> Callable[[str], Any]:
        from tmapslide import OpenSlide

        return OpenSlide  # type: ignore[no-any-return]

    def _header(self, header: Header, slide: Any, problem: str | None) -> Header:
        """Likewise; a scale that the package disbelieves is told as that, and never replaced."""
        header = super()._header(header, slide, problem)
        if slide.properties.get("tmap.mpp_source") == "header":
            return header
        return replace(header, mpp_denied=f"can't be of an objective {header.objective:g}x")


def _difference(reader: PlacedReader, slide: Any) -> str | None:
    """What another reader says or shows otherwise, of levels that both have; None for nothing."""
    levels, compared = reader.header.levels, 0
    sizes = [tuple(size) for size in slide.level_dimensions]
    for level in levels:
        if (level.size.width, level.size.height) not in sizes:
            return f"it knows no level of {level.size.width} x {level.size.height} px"
    for number, place in reader.telling():
        theirs = sizes.index((levels[number].size.width, levels[number].size.height))
        try:
            ours = reader.read(number, place)
        except ReadError:
            continue  # will be told as unread where it lies
        factor = slide.level_downsamples[theirs]
        at = round(place.x * factor), round(place.y * factor)
        shown = slide.read_region(at, theirs, (place.width, place.height)).convert("RGB")
        off = np.asarray(shown, np.int16) - ours
        compared += 1
        if np.abs(off).mean() > SAME:
            return f"the tile at {place.x}, {place.y} of level {number} looks otherwise"
    return None if compared else "none of the tiles that were compared can be read"
