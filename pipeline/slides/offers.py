"""Readers that installed packages offer: entry points in the group ``cytolibra.readers``.

An entry point is called like the ending that it opens, without its dot; so which endings there are
is known without an import, and a package is imported when a file has its ending. An ending that we
read stays ours: an installed package never changes what a slide of a known format shows. Where
several packages offer one ending they are asked in the order of their names, and the first that
says that the file is of its format opens it, or refuses it; the packages of our own extras
(`pipeline.slides.scanners`) come first.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from pipeline.errors import SlideError
from pipeline.slides.checked import CheckedReader
from pipeline.slides.isolated import InProcess, IsolatedReader, Worker
from pipeline.slides.plugins import PluginError, load_plugin, open_by
from pipeline.slides.readers.base import Reader, show
from pipeline.slides.scanners import SCANNERS, version_of

GROUP = "cytolibra.readers"


@dataclass(frozen=True, order=True)
class Offer:
    """That a package opens files of an ending.

    Attributes:
        package: name of the distribution.
        version: of it.
        ending: in lower case, with its dot.
        value: ``module:Name`` of the plug-in.
    """

    package: str
    version: str
    ending: str
    value: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


@functools.cache
def installed_offers() -> tuple[Offer, ...]:
    """All offers of installed packages, in the order in which they are asked; imports nothing."""
    return (*_own_offers(), *_others_offers())


def _own_offers() -> Iterator[Offer]:
    """Those of extras of ours whose package is installed."""
    for scanner in SCANNERS:
        version = version_of(scanner.package)
        if version is not None:
            for ending in scanner.endings:
                yield Offer(scanner.package, version, ending, scanner.value)


def _others_offers() -> list[Offer]:
    """Those that packages declare, by their names."""
    return sorted(
        Offer(
            package=one.dist.name if one.dist else "?",
            version=one.dist.version if one.dist else "?",
            ending=f".{one.name.lower()}",
            value=f"{one.module}:{one.attr}" if one.attr else one.value,
        )
        for one in entry_points(group=GROUP)
    )


def endings_offered() -> frozenset[str]:
    """The endings of all offers; those with a second dot are none that a file could have."""
    return frozenset(one.ending for one in installed_offers() if one.ending.count(".") == 1)


def offers_of(ending: str) -> tuple[Offer, ...]:
    """The offers of an ending, in lower case with its dot."""
    return tuple(one for one in installed_offers() if one.ending == ending)


def open_offered(path: Path) -> Reader:
    """Opens a file by the first package that opens files of its ending and says that it can.

    Raises:
        SlideError: none says so, or that one refuses the file, fails, or gives nonsense; one line
            that begins with the file.
    """
    offers = offers_of(path.suffix.lower())
    for offer in offers:
        try:
            reader = _open(offer, path)
        except PluginError as error:
            text = f"{show(path)}: its reader, of {offer}, can't open it: {error}"
            raise error.of(text) from error
        except SlideError as error:
            raise SlideError(_begin_with(path, error.text), error.code) from error
        if reader is not None:
            return reader
    asked = ", ".join(map(str, offers))
    raise SlideError(
        f"{show(path)}: is no {path.suffix} slide to {asked}; copy it again, or rename the file "
        "if it is of another format"
    )


def tell_offers(ours: frozenset[str]) -> str:
    """What packages offer, on one line.

    Args:
        ours: endings that we read.
    """
    told = []
    for one in installed_offers():
        use = ""
        if one.ending in ours:
            use = " (not used: CytoLibra reads these itself)"
        elif one.ending not in endings_offered():
            use = " (not used: an ending has one dot)"
        told.append(f"{one.ending} by {one}{use}")
    return ", ".join(told) or "none installed"


def _open(offer: Offer, path: Path) -> Reader | None:
    """The slide's reader; None where the plug-in says that the file is none of its format."""
    if offer.value not in _IN_PROCESS:
        try:
            worker = Worker(offer.value, path)
        except InProcess:
            _IN_PROCESS.add(offer.value)
        else:
            if worker.is_opened:
                library = f"{worker.name} ({offer})"
                return IsolatedReader(worker, offer.value, path, library)
            worker.end()
            return None
    plugin = load_plugin(offer.value)
    reader = open_by(plugin, path)
    return reader and CheckedReader(reader, path, f"{plugin.name} ({offer})")


_IN_PROCESS = {scanner.value for scanner in SCANNERS if not scanner.isolated}
"""Plug-ins that are known to want no process of their own."""


def _begin_with(path: Path, text: str) -> str:
    """A refusal of another package's, on one line that begins with the file."""
    line = " ".join(text.split()).removeprefix(f"{show(path.absolute())}: ")
    return line if line.startswith(show(path)) else f"{show(path)}: {line}"
