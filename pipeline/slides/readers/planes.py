"""Focal planes: several pictures of one place, of which the best-focused is read and told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from configs import Doubt
from pipeline.slides.readers.base import Fact, Header, Reader
from pipeline.slides.readers.focus import sharpest


@dataclass(frozen=True, slots=True)
class Plane:
    """One focal plane.

    Attributes:
        reader: its pixels.
        name: for people, such as "z = 2 µm".
    """

    reader: Reader
    name: str


def best_plane(planes: Sequence[Plane], level: int = 0, first: int = 0) -> Reader:
    """The reader of the best-focused plane, whose header says so; the others are closed.

    Args:
        planes: of one place, with equal levels.
        level: the level whose pixels are compared.
        first: index of the plane that the file puts first, taken where none is sharper.
    """
    names = [plane.name for plane in planes]
    if len(planes) == 1:
        return planes[0].reader
    found = sharpest([plane.reader for plane in planes], level, first)
    for index, plane in enumerate(planes):
        if index != found.index:
            plane.reader.close()
    reader = planes[found.index].reader
    reader.header = with_plane(reader.header, names, found.index, measured=found.measured)
    return reader


def with_plane(header: Header, names: Sequence[str], index: int, *, measured: bool) -> Header:
    """A header that tells which of several planes is read, and which are not looked at."""
    others = [name for other, name in enumerate(names) if other != index]
    fact = Fact(
        name="focal plane",
        value=f"{names[index]}, one of {len(names)}",
        source="data" if measured else "file",
    )
    why = "the best-focused one by its pixels" if measured else "the one that the file puts first"
    doubt = Doubt(
        code="focal-planes",
        text=f"the file holds {len(names)} focal planes; {names[index]} is read, {why}; "
        f"not looked at: {listed(others)}",
    )
    return replace(header, facts=(*header.facts, fact), doubts=(*header.doubts, doubt))


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names in one line, of many the first."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
