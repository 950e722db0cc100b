"""Which format a file has, and what it draws."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from configs import ConfigError
from data.annotations import (
    asap,
    coco,
    cric,
    crops,
    cvat,
    geojson,
    imagescope,
    labelme,
    ndpa,
    riva,
    sipakmed,
    table,
    via,
    voc,
    yolo,
)
from data.annotations.drawing import Drawing
from data.annotations.files import Content, find_files, load


class Format(Protocol):
    """What a module for a format has; ``read`` may raise whatever a wrong file makes it raise."""

    @property
    def SUFFIXES(self) -> tuple[str, ...]:  # noqa: N802 - a module's constant
        """Endings of its files, in lower case."""
        ...

    def matches(self, path: Path, content: Content) -> bool:
        """Whether a file is of this format."""
        ...

    def read(self, path: Path, content: Content) -> Iterator[Drawing]:
        """What a file of this format draws, an image each."""
        ...


FORMATS: dict[str, Format] = {
    "coco": coco,
    "geojson": geojson,
    "asap": asap,
    "imagescope": imagescope,
    "ndpa": ndpa,
    "labelme": labelme,
    "via": via,
    "cvat": cvat,
    "voc": voc,
    "cric": cric,
    "riva": riva,
    "sipakmed": sipakmed,
    "csv": table,
    "yolo": yolo,
    "crops": crops,
}
"""By name, in the order in which a file is tried."""

NAMED_ONLY = frozenset({"crops"})
"""Formats that are never told by a file's content."""

AUTO = "auto"

ONE_IMAGE = frozenset(
    {"geojson", "asap", "imagescope", "ndpa", "labelme", "voc", "yolo", "sipakmed"}
)
"""Formats of one file an image."""


@dataclass(frozen=True)
class Source:
    """What one file draws.

    Attributes:
        path: the file.
        format: its name in `FORMATS`.
        drawings: one an image.
    """

    path: Path
    format: str
    drawings: tuple[Drawing, ...]


def read_sources(
    arguments: Sequence[Path], format: str, yolo_rows: str = AUTO
) -> tuple[list[Source], list[Path]]:
    """Reads files, folders and globs.

    Args:
        arguments: where annotations are.
        format: a name in `FORMATS`, or "auto": each file is told by its content.
        yolo_rows: what YOLO's longer lines are; see `yolo.reader_of`.

    Returns:
        What was read, and the files in folders and globs that are no annotations.

    Raises:
        ConfigError: an argument means no file, or a file that was named itself, or none at all,
            is of the format; or a file is damaged.
    """
    chosen = (
        {name: reader for name, reader in FORMATS.items() if name not in NAMED_ONLY}
        if format == AUTO
        else {format: FORMATS[format]}
    )
    suffixes = {suffix for reader in chosen.values() for suffix in reader.SUFFIXES}
    sources, others, labels = [], [], {}
    for path, named in find_files(arguments, suffixes):
        if path.name in yolo.CLASS_FILES and not named:
            continue
        content = load(path)
        name = next((n for n, reader in chosen.items() if reader.matches(path, content)), None)
        if name == "yolo":  # what its lines mean, all of them tell together
            labels[path] = content
            sources.append(Source(path, name, ()))
        elif name:
            sources.append(Source(path, name, read_drawings(path, name, content)))
        elif named:
            raise ConfigError(f"{path}: {_wrong_kind(format)}{_seen(content)}")
        else:
            others.append(path)
    if not sources:
        raise ConfigError(f"{', '.join(map(str, arguments))}: {_wrong_kind(format)}")
    if labels:
        read = yolo.reader_of(list(labels.items()), yolo_rows)
        sources = [
            replace(one, drawings=read_drawings(one.path, one.format, labels[one.path], read))
            if one.path in labels
            else one
            for one in sources
        ]
    return sources, others


def read_drawings(
    path: Path,
    format: str,
    content: Content,
    read: Callable[[Path, Content], Iterator[Drawing]] | None = None,
) -> tuple[Drawing, ...]:
    """What a file of a known format draws.

    Args:
        path: the file.
        format: its name in `FORMATS`.
        content: what it holds.
        read: reads it; by default the format's ``read``.

    Raises:
        ConfigError: it isn't as that format has it.
    """
    try:
        return tuple((read or FORMATS[format].read)(path, content))
    except _FAULTS as error:
        raise ConfigError(f"{path}: not as {format} has it: {_in_words(error)}") from error


_FAULTS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError,
           csv.Error)  # fmt: skip
"""What a wrong file may make a reader raise."""


def _in_words(error: Exception) -> str:
    """What is wrong, for people: Python's own words for a wrong type mean nothing to them."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, ValueError | csv.Error):
        return " ".join(str(error).split())  # what it quotes may have lines of its own
    return "something in it is of another kind, or elsewhere, than in this format"


def _seen(content: Content) -> str:
    """What a text of no known format begins with: a table whose header is missing, most often."""
    first = next(iter(content.splitlines()), "") if isinstance(content, str) else ""
    return f"; its first line is {first[:200]!r}" if first.strip() else ""


def _wrong_kind(format: str) -> str:
    if format == AUTO:
        return f"no annotations of a format that is known: {', '.join(FORMATS)}"
    return f"no annotations of the format {format}"
