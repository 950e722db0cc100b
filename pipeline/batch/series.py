"""DICOM: which files of a folder are one slide, and what that slide is called.

A slide is a series: a file for each level of its pyramid, for its label and its overview, all with
one SeriesInstanceUID, in one folder. Which of them comes first says nothing about the slide, and
there may be none yet of those that come tomorrow. So the results of a series of several files are
called ``series-UID``: by what a picture archive calls it, and by nothing that may name a patient.
The whole of a slide in one file is called as that file, like any other.

Files are known by their content. Picture archives write them without an ending, or what looks
like one is the last number of a UID.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from pipeline.slides.readers.base import DICOM_MARK_END, says_dicom
from pipeline.slides.readers.dicom_header import SOP_CLASS, WHOLE_SLIDE, read_series, read_until

DIRECTORY = "1.2.840.10008.1.3.10"
"""Of the index of a medium, which is called DICOMDIR; it is passed over."""

BROKEN_OFF = "broken off; without it the slide lacks a part: copy it again"
"""What is told of a series' file of which a part is missing."""

_PIXELS = (0x7FE00001, 0x7FE00008, 0x7FE00009, 0x7FE00010)
"""Pixels, or what stands right in front of them."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID = 64

_log = logging.getLogger(__name__)

Found = TypeVar("Found")


@dataclass(frozen=True)
class Series:
    """One slide in DICOM.

    Attributes:
        uid: its SeriesInstanceUID, as it stands in the files.
        files: all of one folder, sorted by name; any of them opens the slide.
    """

    uid: str
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """What its results are called: the same whichever of several files are found first."""
        if len(self.files) == 1:
            return self.files[0].name
        sane = _UID.fullmatch(self.uid) and len(self.uid) <= _LONGEST_UID
        # Else it might lead to another folder; two that differ must not become one.
        return f"series-{self.uid if sane else hashlib.sha256(self.uid.encode()).hexdigest()[:16]}"

    @property
    def damaged(self) -> Path | None:
        """The first of several files whose header breaks off, if any.

        OpenSlide passes over such a file, and the slide would lack a level, perhaps its finest.
        """
        if len(self.files) == 1:
            return None  # which is opened, so that what is wrong with it shows
        return next((path for path in self.files if not _reaches_pixels(path)), None)


@dataclass(frozen=True)
class DicomFiles:
    """What the DICOM files of a folder are.

    Attributes:
        series: the slide that each file belongs to, by file.
        indices: files that are only the index of a medium.
    """

    series: Mapping[Path, Series]
    indices: frozenset[Path]


Opener = Callable[[Path], BinaryIO]
"""Opens a file for reading; raises OSError where it can't."""


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def sort_dicom(files: Iterable[Path], opener: Opener = _open) -> DicomFiles:
    """Sorts files of one folder, any files, by series.

    Files that are no DICOM, not to be read, of other kinds than whole slide images, or links to
    others of them are left out: what may be a slide among them shows when it is opened.

    Args:
        files: of one folder.
        opener: opens them.
    """
    by_uid: dict[str, list[Path]] = {}
    indices, met = set(), set()
    for path in sorted(files, key=lambda path: (path.is_symlink(), path.name)):
        if (place := os.path.realpath(path)) in met:
            continue  # a link to another one
        met.add(place)
        sop_class, uid = _identify(path, opener) if is_dicom(path, opener) else ("", "")
        if sop_class == DIRECTORY:
            indices.add(path)
        elif sop_class == WHOLE_SLIDE and uid:
            by_uid.setdefault(uid, []).append(path)
    series = [Series(uid, tuple(sorted(paths))) for uid, paths in by_uid.items()]
    return DicomFiles({path: one for one in series for path in one.files}, frozenset(indices))


def is_dicom(path: Path, opener: Opener = _open) -> bool:
    """Whether a file says that it is DICOM; not where it can't be read."""
    try:
        with opener(path) as file:
            return says_dicom(file.read(DICOM_MARK_END))
    except OSError:
        return False


def _identify(path: Path, opener: Opener) -> tuple[str, str]:
    """SOP class and SeriesInstanceUID of a DICOM file; empty where it doesn't tell."""
    return _read(path, read_series, opener) or ("", "")


def _reaches_pixels(path: Path) -> bool:
    """Whether a file's header is whole: it goes on to where the pixels begin."""
    reached = False

    def stop(tag: int, *_: object) -> bool:
        nonlocal reached
        reached = tag in _PIXELS
        return tag >= min(_PIXELS)

    found = _read(path, lambda file: read_until(file, [SOP_CLASS], stop))
    return found is not None and reached


def _read(path: Path, read: Callable[[BinaryIO], Found], opener: Opener = _open) -> Found | None:
    """What is read of a DICOM file; None where it can't be."""
    try:
        with opener(path) as file:
            return read(file)
    except Exception as problem:  # of a damaged file pydicom raises whatever comes
        _log.info("%s: its DICOM header can't be read: %r", path, problem)
        return None
