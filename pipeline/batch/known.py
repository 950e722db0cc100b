"""What is known of the results in an output folder, without reading each of them again.

Whether a result is current, and what lists of slides need of its report, is read once and kept in
one hidden file, ``.results.jsonl``. What it says of a result counts only where the file system says
of ``report.json`` and ``fingerprint.json`` what it said then, and where its line fits the checksum
before it; else both are read again. So the file may be lost, damaged, of another version or written
by others at any time: that costs time, nothing else. Each writer replaces it whole, without a lock:
of two that write at once the last one's stays, and what it lacks is read again.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import GenericAlias
from typing import Any, NamedTuple, get_type_hints

from pydantic import TypeAdapter

from pipeline.batch.discovery import SlideJob
from pipeline.batch.fingerprint import (
    FINGERPRINT,
    FileStamp,
    Fingerprint,
    is_of_slide,
    load_fingerprint,
    stamp_files,
)
from pipeline.batch.output import REPORT, load_report
from pipeline.reports.report import SlideReport, encodable
from pipeline.reports.slide_summary import Common, SlideSummary
from pipeline.reports.writers import make_whole
from pipeline.slides.containers import name_packages
from pipeline.slides.readers.base import show

FILE = ".results.jsonl"
"""Below the output folder."""

_FORM = 2
"""Of the file's lines; what `SlideSummary` has, and this version, are told beside it."""

_MOST_LINE = 1 << 20
"""Bytes of a line; one that is longer is damaged."""

_BROKEN = (ValueError, LookupError, TypeError, RecursionError)
"""What reading a damaged line raises."""

_log = logging.getLogger(__name__)


class _Made(NamedTuple):
    """What many results have in common."""

    recipe: str
    reader: str
    common: Common


class _Result(NamedTuple):
    """What is known of a result.

    Attributes:
        stamp: what the file system says of its files; see `_stamp`.
        made: what it has in common with others.
        mpp: that a table gave for its slide.
        files: of its slide, in one line; see `_line_of`.
        summary: what lists need of its report.
    """

    stamp: str
    made: _Made
    mpp: float | None
    files: str
    summary: SlideSummary


_FIELDS = get_type_hints(SlideSummary)
_FIGURES = GenericAlias(tuple, tuple(_FIELDS.values())[1:])
"""Type of all that a summary has behind what is common."""

_COUNTS = list(_FIELDS).index("counts") - 1

_MADE = TypeAdapter(dict[int, _Made])
"""What results have in common, as a line of the file, by its number there."""

_SEAL = 8
"""Hexadecimal digits of the checksum (CRC-32) that a line begins with."""

_KINDS: Any = GenericAlias(tuple, (str, str, int, float | None, str, _FIGURES))
_LINE: TypeAdapter[tuple[Any, ...]] = TypeAdapter(_KINDS)
"""A result as a line of the file: name, stamp, number of what it has in common, and the rest."""


class KnownResults:
    """What is known of the results in one output folder.

    Shards and other runs write to the folder, too: each look asks the file system whether the
    files of a result are as they were.
    """

    def __init__(self, out: Path) -> None:
        self._out = os.fspath(out)
        self._results: dict[str, _Result] | None = None
        self._made: dict[_Made, _Made] = {}
        self._looked_at: set[str] = set()
        self._changed = False
        self._read_as: tuple[int, int, int] | None = None

    def is_current(self, job: SlideJob, recipe: str) -> bool:
        """Whether the result of a slide is there, of this very slide, by this very recipe."""
        return self.current(job, recipe) is not None

    def current(self, job: SlideJob, recipe: str) -> SlideSummary | None:
        """What the report of a slide says, if it is of this very slide, by this very recipe."""
        known = self._find(job.name)
        if known is None or known.made.recipe != recipe or known.mpp != job.mpp:
            return None
        if _is_as_it_was(job, known):
            return known.summary
        folder = Path(self._out, job.name)
        fingerprint = load_fingerprint(folder)  # tells whether only times are others
        alike = fingerprint is not None and is_of_slide(job, folder, fingerprint)
        return known.summary if alike else None

    def summary(self, name: str) -> SlideSummary | None:
        """What lists need of the report of a slide; None where there is none of this version."""
        known = self._find(name)
        if known is not None:
            return known.summary
        report = load_report(Path(self._out, name))
        return SlideSummary.of(report) if report else None

    def recipe(self, name: str) -> str | None:
        """The recipe of a result; None where there is no result, or that is not known.

        Of a result of which nothing is known yet only the fingerprint is read, which is small.
        """
        folder = f"{self._out}/{name}"
        stamp = _stamp(folder)
        if stamp is None:
            return None
        known = self._load().get(name)
        if known is not None and known.stamp == stamp:
            return known.made.recipe
        fingerprint = load_fingerprint(Path(folder))
        return fingerprint.recipe if fingerprint else None

    def besides(self, names: Collection[str]) -> list[str]:
        """Results that are there and known, but for some, by their names."""
        return [
            name
            for name, known in self._load().items()
            if name not in names and _stamp(f"{self._out}/{name}") == known.stamp
        ]

    def put(self, name: str, folder: Path, report: SlideReport, fingerprint: Fingerprint) -> None:
        """Takes what has just been written.

        Args:
            name: of the result.
            folder: where it lies as yet, before it is moved to its place.
            report: as it was written there.
            fingerprint: likewise.
        """
        if stamp := _stamp(os.fspath(folder)):
            self._add(name, stamp, report, fingerprint)

    def save(self) -> None:
        """Keeps what is known, for the next run; not being able to is told in the log alone."""
        if not self._changed or self._results is None:
            return
        results = self._results
        if _status(self._path) != self._read_as:  # others have written meanwhile
            more = _read(self._path, self._made)
            results = {name: known for name, known in more if name not in results} | results
        kept = {name: known for name, known in results.items() if self._still_holds(name, known)}
        try:
            make_whole(self._path, lambda partial: _write(partial, kept))
        except OSError as error:
            _log.info("what is known of the results can't be kept: %s", error)
            return
        self._results, self._changed = kept, False
        self._read_as = _status(self._path)

    @property
    def _path(self) -> Path:
        return Path(self._out, FILE)

    def _load(self) -> dict[str, _Result]:
        """What the file tells, read when it is first asked for."""
        if self._results is None:
            self._read_as = _status(self._path)  # first: of a file that changes now an old one
            self._results = dict(_read(self._path, self._made))
        return self._results

    def _find(self, name: str) -> _Result | None:
        """What is known of a result; None where it can't be read."""
        results = self._load()
        self._looked_at.add(name)
        folder = f"{self._out}/{name}"
        stamp = _stamp(folder)
        known = results.get(name)
        if known is not None and known.stamp == stamp:
            return known
        if known is not None:
            del results[name]
            self._changed = True
        if stamp is None:
            return None
        # The stamp comes first: of files that change now it would be an old one.
        report, fingerprint = load_report(Path(folder)), load_fingerprint(Path(folder))
        if report is None or fingerprint is None:
            return None
        return self._add(name, stamp, report, fingerprint)

    def _add(self, name: str, stamp: str, report: SlideReport, fingerprint: Fingerprint) -> _Result:
        summary = SlideSummary.of(report)
        made = _Made(fingerprint.recipe, fingerprint.reader, summary.common)
        made = self._made.setdefault(made, made)
        summary = summary._replace(common=made.common)
        known = _Result(stamp, made, fingerprint.mpp, _line_of(fingerprint.files), summary)
        self._load()[name] = known
        self._looked_at.add(name)
        self._changed = True
        return known

    def _still_holds(self, name: str, known: _Result) -> bool:
        """Of results that nobody has looked at here: they may be gone."""
        return name in self._looked_at or _stamp(f"{self._out}/{name}") == known.stamp


def _is_as_it_was(job: SlideJob, known: _Result) -> bool:
    """Whether sizes and times of a slide's files, and who reads it, are the same."""
    if job.gone:
        return not job.sha256  # else its fingerprint is asked
    if job.remote and not job.remote.is_versioned:
        return False
    if known.made.reader != name_packages(job.path):
        return False
    try:
        return known.files == _line_of_slide(job)
    except OSError:
        return False


def _line_of_slide(job: SlideJob) -> str:
    """`_line_of` of its files as they are now; of one file without any detour.

    Raises:
        OSError: one of them is gone or may not be looked at.
    """
    if job.companions or job.remote:
        return _line_of(stamp_files(job))
    status = os.stat(job.path)
    if stat.S_ISDIR(status.st_mode):
        return _line_of(stamp_files(job))
    return f"{encodable(job.path.name)}:{status.st_size:x}:{status.st_mtime_ns:x}"


def _stamp(folder: str) -> str | None:
    """What the file system says of a result; None where a file of it is missing.

    Inode, size and time: a result that another one takes the place of has other inodes, even where
    a coarse clock gives both the same time.
    """
    try:
        report, made = os.stat(f"{folder}/{REPORT}"), os.stat(f"{folder}/{FINGERPRINT}")
    except OSError:
        return None
    return (
        f"{report.st_ino:x}.{report.st_size:x}.{report.st_mtime_ns:x}."
        f"{made.st_ino:x}.{made.st_size:x}.{made.st_mtime_ns:x}"
    )


def _status(path: Path) -> tuple[int, int, int] | None:
    """What tells a file from its successor; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _line_of(files: Iterable[FileStamp]) -> str:
    """The stamps of a slide's files as one string: of many slides much smaller."""
    return "\0".join(
        f"{one.name}:{one.size:x}:{one.mtime_ns:x}" + (f":{one.version}" if one.version else "")
        for one in files
    )


def _head() -> list[object]:
    """The first line of a file that counts: of this form, and of this version of CytoLibra."""
    try:
        version = metadata.version("cytolibra")
    except metadata.PackageNotFoundError:
        version = ""
    return ["cytolibra results", _FORM, version, list(_FIELDS)]


def _write(path: Path, results: Mapping[str, _Result]) -> None:
    numbers: dict[int, int] = {}
    with path.open("w", encoding="ascii", newline="\n") as stream:
        stream.write(_sealed(_head()))
        for name, known in results.items():
            made = known.made  # the same object wherever it is equal
            if id(made) not in numbers:
                numbers[id(made)] = len(numbers)
                stream.write(_sealed(_MADE.dump_python({numbers[id(made)]: made}, mode="json")))
            number, figures = numbers[id(made)], known.summary[1:]
            line = (_coded(name), known.stamp, number, known.mpp, known.files, figures)
            stream.write(_sealed(line))


def _sealed(content: object) -> str:
    text = json.dumps(content)
    return f"{zlib.crc32(text.encode()):0{_SEAL}x} {text}\n"


def _unsealed(line: bytes) -> bytes:
    """What a line says.

    Raises:
        ValueError: it is not what was written.
    """
    text = line[_SEAL + 1 : -1]
    if not line.endswith(b"\n") or line[: _SEAL + 1] != b"%0*x " % (_SEAL, zlib.crc32(text)):
        raise ValueError("a line doesn't fit its checksum")
    return text


def _read(path: Path, shared: dict[_Made, _Made]) -> Iterator[tuple[str, _Result]]:
    """The results that a file tells of, but for lines that are damaged.

    Args:
        path: the file.
        shared: what results have in common, each held once.
    """
    made: dict[int, _Made] = {}
    damaged: list[Exception] = []
    try:
        with path.open("rb") as stream:
            if json.loads(_unsealed(stream.readline(_MOST_LINE))) != _head():
                return
            while line := stream.readline(_MOST_LINE):
                try:
                    text = _unsealed(line)
                    if text.startswith(b"{"):
                        ((number, one),) = _MADE.validate_json(text).items()
                        made[number] = shared.setdefault(one, one)
                        continue
                    name, *rest = _LINE.validate_json(text, strict=True)
                    yield _decoded(name), _result(made, *rest)
                except _BROKEN as error:
                    damaged.append(error)
    except FileNotFoundError:
        return
    except (OSError, *_BROKEN) as error:
        damaged.append(error)
    if damaged:
        told = show(path), len(damaged), damaged[0]
        _log.info("%s: is damaged in %d place(s), and made anew: %s", *told)


def _coded(name: str) -> str:
    """A name as JSON can hold it: those of files may have bytes that are no text."""
    return name.encode("utf-8", "surrogatepass").decode("latin-1")


def _decoded(name: str) -> str:
    return name.encode("latin-1").decode("utf-8", "surrogatepass")


def _result(
    made: Mapping[int, _Made], stamp: str, number: int, mpp: float | None, files: str, figures: Any
) -> _Result:
    of = made[number]
    if len(figures[_COUNTS]) != len(of.common.names):
        raise ValueError("counts of other classes")
    return _Result(stamp, of, mpp, files, SlideSummary(of.common, *figures))
