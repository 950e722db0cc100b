"""Focal planes: several pictures of one place, of which the best-focused is read first, and told.

The others stay open: whoever wants to read them asks the reader for them (`Reader.of_plane`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from configs import Doubt, StrictModel
from configs.doubts import listed
from pipeline.geometry import Rect
from pipeline.slides.readers.base import Fact, FocalPlane, Header, Reader
from pipeline.slides.readers.focus import sharpest

FACT, DOUBT = "focal plane", "focal-planes"
"""What a fact is called that names the plane, and the code of the doubt of those not looked at."""

Told = TypeVar("Told", bound=StrictModel)


@dataclass(frozen=True, slots=True)
class Plane:
    """One focal plane.

    Attributes:
        reader: its pixels; None for one that the file names and that can't be read.
        name: for people, such as "z = 2 µm".
        z_um: where it lies, in µm; None where the file doesn't say.
    """

    reader: Reader | None
    name: str
    z_um: float | None = None


class PlanesReader(Reader):
    """Several focal planes of one open file, read as one of them.

    Args:
        readers: of the planes in the file's order; None for those that can't be read. They are
            closed with this one.
        header: of the slide, with its planes and which of them is read.
        close: what else is closed with it.

    Attributes:
        library: of the plane that is read.
        files: likewise.
    """

    def __init__(
        self,
        readers: Sequence[Reader | None],
        header: Header,
        close: Callable[[], None] | None = None,
    ) -> None:
        assert header.plane is not None
        chosen = readers[header.plane]
        assert chosen is not None
        self.library = chosen.library
        self.files = chosen.files
        self.header = header
        self._readers = readers
        self._chosen = chosen
        self._close = close

    def shrinks(self, level: int) -> tuple[int, ...]:
        """See `Reader.shrinks`."""
        return self._chosen.shrinks(level)

    def profile(self) -> bytes | None:
        """See `Reader.profile`; that of the plane that is read."""
        return self._chosen.profile()

    def of_plane(self, index: int) -> Reader:
        """See `Reader.of_plane`."""
        found = self._readers[index] if 0 <= index < len(self._readers) else None
        if found is None or index == self.header.plane:
            return super().of_plane(index)
        header = of_other_plane(found.header, index, self.header, self._chosen.header)
        return PlaneView(found, self, header)

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        return self._chosen.read(level, region, shrink)

    def close(self) -> None:
        """See `Reader.close`; of all planes."""
        for reader in self._readers:
            if reader:
                reader.close()
        if self._close:
            self._close()


class PlaneView(Reader):
    """One plane of a reader that has several, which stays open until that one is closed.

    Args:
        reader: of the plane's pixels.
        owner: of all planes.
        header: of the slide, in that plane.
    """

    def __init__(self, reader: Reader, owner: Reader, header: Header) -> None:
        self.library = reader.library
        self.files = reader.files
        self.header = header
        self._reader = reader
        self._owner = owner

    def shrinks(self, level: int) -> tuple[int, ...]:
        """See `Reader.shrinks`."""
        return self._reader.shrinks(level)

    def profile(self) -> bytes | None:
        """See `Reader.profile`."""
        return self._reader.profile()

    def of_plane(self, index: int) -> Reader:
        """See `Reader.of_plane`."""
        return self if index == self.header.plane else self._owner.of_plane(index)

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        return self._reader.read(level, region, shrink)

    def close(self) -> None:
        """Does nothing: the file is that of all planes."""


def best_plane(planes: Sequence[Plane], level: int = 0, first: int | None = None) -> Reader:
    """The reader of the best-focused plane, whose header says so; the others stay open with it.

    A plane of another size than the largest can't be read beside it.

    Args:
        planes: of one place, one of them at least readable.
        level: the level whose pixels are compared.
        first: index of the plane that the file puts first, taken where none is sharper; None for
            the first that can be read.
    """
    if len(planes) == 1:
        assert planes[0].reader
        return planes[0].reader
    planes = _of_one_size(planes)
    readable = [index for index, plane in enumerate(planes) if plane.reader]
    place = 0 if first is None or first not in readable else readable.index(first)
    readers = [planes[index].reader for index in readable]
    found = sharpest([reader for reader in readers if reader], level, place)
    named = [FocalPlane(plane.name, plane.z_um, plane.reader is not None) for plane in planes]
    chosen = planes[readable[found.index]].reader
    assert chosen
    measured = found.measured and len(readable) > 1
    header = with_plane(chosen.header, named, readable[found.index], measured=measured)
    return PlanesReader([plane.reader for plane in planes], header)


def with_plane(
    header: Header, planes: Sequence[FocalPlane], index: int, *, measured: bool
) -> Header:
    """A header that tells which of several planes is read, and which are not looked at.

    Args:
        header: of the slide.
        planes: all that the file names; those that nobody can read say so.
        index: of the one that is read.
        measured: whether it is the best-focused one by its pixels.
    """
    others = [plane.name for other, plane in enumerate(planes) if other != index]
    name = planes[index].name
    fact = Fact(
        name=FACT,
        value=f"{name}, one of {len(planes)}",
        source="data" if measured else "file",
    )
    why = "the best-focused one by its pixels" if measured else "the one that the file puts first"
    doubt = Doubt(
        code=DOUBT,
        text=f"the file holds {len(planes)} focal planes; {name} is read, {why}; "
        f"not looked at: {listed(others)}",
    )
    return replace(
        header,
        facts=(*header.facts, fact),
        doubts=(*header.doubts, doubt),
        planes=tuple(planes),
        plane=index,
    )


def of_other_plane(own: Header, index: int, slide: Header, chosen: Header) -> Header:
    """The header of a slide in another plane than the one that its own header tells of.

    What is told of the slide holds for all planes; what is told of a plane holds for that one.

    Args:
        own: of the other plane's pixels.
        index: of that plane.
        slide: of the slide, in the plane that was chosen.
        chosen: of the pixels of the plane that was chosen.
    """
    facts = [one for one in slide.facts if one not in (*chosen.facts, *own.facts)]
    doubts = [one for one in slide.doubts if one not in (*chosen.doubts, *own.doubts)]
    return replace(
        slide,
        levels=own.levels,
        facts=(*own.facts, *facts),
        doubts=(*own.doubts, *doubts),
        plane=index,
    )


def of_several(names: Sequence[str], each: Sequence[Sequence[Told]], field: str) -> list[Told]:
    """What is told of several pictures: once where it is told of all, else with the name of each.

    Args:
        names: of the pictures, for people.
        each: what is told of each.
        field: of a fact or doubt, that the name is put into.
    """
    shared = [item for item in each[0] if all(item in others for others in each)]
    own = [
        item.model_copy(update={field: f"{name}: {getattr(item, field)}"})
        for name, items in zip(names, each, strict=True)
        for item in items
        if item not in shared
    ]
    return [*shared, *own]


def retold(header: Header, fact: Fact, doubt: Doubt | None) -> Header:
    """A header with other words for which planes are read, in place of those that it has.

    Args:
        header: of a slide with several planes.
        fact: which are read.
        doubt: which are not looked at; None where all are.
    """
    facts = [one for one in header.facts if not one.name.endswith(FACT)]
    doubts = [one for one in header.doubts if one.code != DOUBT]
    return replace(
        header,
        facts=(*facts, fact),
        doubts=(*doubts, *((doubt,) if doubt else ())),
    )


def numbered(count: int, readable: int) -> list[FocalPlane]:
    """Planes of which the file says no more than how many there are, and one of which is read.

    Args:
        count: of all.
        readable: index of the only one whose pixels can be had.
    """
    return [FocalPlane(f"plane {n + 1}", readable=n == readable) for n in range(count)]


def _of_one_size(planes: Sequence[Plane]) -> list[Plane]:
    """The planes, those that have not the size of the largest as ones that can't be read."""
    sizes = [plane.reader.header.levels[0].size for plane in planes if plane.reader]
    largest = max(sizes, key=lambda size: size.area)
    kept = []
    for plane in planes:
        size = plane.reader.header.levels[0].size if plane.reader else None
        if plane.reader and size != largest:
            plane.reader.close()
            plane = replace(plane, reader=None, name=f"{plane.name} (of another size)")
        kept.append(plane)
    return kept
