"""Where the slide of a report is now, and whether it is still the one that was screened."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs import ConfigError
from pipeline.batch.discovery import SlideJob
from pipeline.batch.fingerprint import FileStamp, Fingerprint, hash_content, stamp_files
from pipeline.reports.report import on_disk
from pipeline.review.results import ReportFolder
from pipeline.slides.readers.base import show
from pipeline.slides.readers.ngff_metadata import is_picture_folder
from pipeline.slides.readers.zarr_files import METADATA

Trouble = Literal["gone", "changed", "unchecked"]


@dataclass(frozen=True)
class FoundSlide:
    """Where a slide is, or why it can't be shown.

    Attributes:
        path: its main file; None where it can't be shown.
        code: "" where all is well; "gone", "changed"; "unchecked" of a slide that is shown though
            nobody can say that it is the same, as its result has no fingerprint.
        reason: the same in one line.
        sha256: of its files, as screened; empty where that is not known.
    """

    path: Path | None
    code: Trouble | Literal[""]
    reason: str
    sha256: str = ""


class SlideFinder:
    """Finds slides by the path in the report, or by name below another folder.

    A slide counts as the one that was screened where all its files have the size and time that
    its fingerprint names; where only a time differs, as after copying, the content is read and
    compared, once. Below the folder nothing is taken that a link leads out of it.

    Args:
        folder: where slides are that have moved; None for nowhere.

    Raises:
        ConfigError: there is no such folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"--slides {show(folder)}: no such folder")
        self._folder = folder
        self._lock = threading.Lock()
        self._names: dict[str, list[Path]] | None = None
        self._hashes: dict[tuple[Path, tuple[FileStamp, ...]], str] = {}

    def find(self, result: ReportFolder) -> FoundSlide:
        """Where the slide of a result is; looks at the disk each time."""
        known = result.fingerprint
        changed: Path | None = None
        for path in self._candidates(result):
            if not _is_slide(path):
                continue
            if known is None:
                return _unchecked(path)
            if self._is_same(path, known):
                return FoundSlide(path, "", "", known.sha256)
            changed = changed or path
        if changed is not None:
            return FoundSlide(
                None,
                "changed",
                f"{show(changed)}: is no longer the slide that was screened (its content differs); "
                "screen it again, or name the folder of the right one with --slides",
            )
        where = f" and below {show(self._folder)}" if self._folder else ""
        todo = "" if self._folder else "; name the folder that it is in now with --slides"
        text = f"{show(result.report.slide.path)}: the slide is not there{where}{todo}"
        return FoundSlide(None, "gone", text)

    def _candidates(self, result: ReportFolder) -> Iterator[Path]:
        told = result.report.slide.path
        named = Path(on_disk(told))
        yield named
        if not named.is_absolute() and result.fingerprint is not None:
            # It counts from where screen was called: often beside the folder of reports.
            depth = len(Path(result.name).parts)
            beside_reports = result.folder.resolve().parents[depth]
            yield beside_reports / on_disk(told, beside_reports)
        if self._folder is None:
            return
        tail = Path(result.name).parts
        # Of several of one name those come first that lie as the result does.
        beside = sorted(
            self._index().get(named.name, ()), key=lambda path: (-_alike(path.parts, tail), path)
        )
        yield from beside

    def _index(self) -> dict[str, list[Path]]:
        with self._lock:
            if self._names is None:
                self._names = {}
                assert self._folder is not None
                for path in _files(self._folder):
                    self._names.setdefault(path.name, []).append(path)
            return self._names

    def _is_same(self, path: Path, known: Fingerprint) -> bool:
        job = SlideJob(path, "", known.companions(path))
        try:
            files = stamp_files(job)
            # The main file may be called otherwise where it was reached by another name.
            if [one.size for one in files] != [one.size for one in known.files]:
                return False
            if path.is_dir() and files[0].version != known.files[0].version:
                return False
            if [one.mtime_ns for one in files] == [one.mtime_ns for one in known.files]:
                return True
            return self._hash(job, files) == known.sha256
        except (OSError, ValueError):
            return False

    def _hash(self, job: SlideJob, files: Sequence[FileStamp]) -> str:
        key = (job.path, tuple(files))
        with self._lock:
            found = self._hashes.get(key)
        if found is None:
            found = hash_content(job)
            with self._lock:
                self._hashes[key] = found
        return found


def _is_slide(path: Path) -> bool:
    """Whether there is a file, or a folder that is a slide."""
    try:
        return path.is_file() or is_picture_folder(path)
    except (OSError, ValueError):  # such as a name with a zero byte, or one that is too long
        return False


def _unchecked(path: Path) -> FoundSlide:
    return FoundSlide(
        path,
        "unchecked",
        f"{show(path)}: its result has no fingerprint, so nobody can say that it is the slide that "
        "was screened",
    )


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, and Zarrs, but those to which a link leads out of it."""
    root = Path(os.path.realpath(folder))
    for place, folders, names in os.walk(folder):
        if any(name in names for name in METADATA):  # of chunks, which may be a million
            folders.clear()
            names = [""]
        for name in sorted(names):
            path = Path(place, name)
            if not path.is_symlink() or Path(os.path.realpath(path)).is_relative_to(root):
                yield path


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    """How many parts of two paths are the same, from the end."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count
