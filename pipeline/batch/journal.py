"""What becomes of each slide, noted as it happens: lines of JSON behind one another.

To write ``run.json`` anew with each slide costs more the more slides there are. While a run goes
on, each change is a line in a file of its own, in the hidden folder ``.journal`` below the output
folder; ``run.json`` is written now and then, and at the end. The first line is the record of the
run without its slides, each other one a slide's name and its record, when it was written, and by
which process of which machine. (Journals of older versions lack the latter, or all but the
machine's name of it.)

A journal is gone once all that it says stands in ``run.json``. One that a killed run left behind
is read by whoever reads records, and taken into the record of the next run. A line that was cut
off, or that says nothing sensible, is left out and told; the others count.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.batch.shared_files import make_alike
from pipeline.reports.writers import HOST, MACHINE
from pipeline.slides.readers.base import show

if TYPE_CHECKING:
    from pipeline.batch.run_record import RunRecord, SlideRecord

FOLDER = ".journal"
"""Below the output folder; there only while a run goes on, or after one was killed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sign:
    """The last that was heard of a slide.

    Attributes:
        at: when, in UTC.
        host: the machine, and its world of processes: `pipeline.reports.writers.HOST`.
        pid: the process.
        machine: the machine since it was started: `pipeline.reports.writers.MACHINE`; empty in
            older journals.
    """

    at: str
    host: str
    pid: int
    machine: str = ""

    @property
    def node(self) -> str:
        """The machine's name alone."""
        return re.sub(r"\.\d+$", "", self.host)


@dataclass(frozen=True)
class Told:
    """What a journal tells.

    Attributes:
        record: of the run, with the slides that are named.
        signs: by slide, the last line's; without those of older versions.
        lost: lines that were cut off or damaged.
    """

    record: RunRecord
    signs: Mapping[str, Sign] = field(default_factory=dict)
    lost: int = 0


class Journal:
    """Writes the journal of one run, made with its first line; each line is flushed.

    Flushed lines outlive the process, however it ends. They are not forced onto the disk: a loss of
    power may cost the count of attempts of the last seconds, never a result.
    """

    def __init__(self, out: Path, stem: str) -> None:
        """Names the file; nothing is written yet.

        Args:
            out: the output folder.
            stem: name of the run's record without its ending, such as "run".
        """
        self._folder, self._stem = out / FOLDER, stem
        self._pid = os.getpid()
        self._since: dict[str, str] = {}
        """When each slide that runs was begun."""
        self._begin()

    @property
    def path(self) -> Path:
        """Its file, which is there once something was written."""
        return self._path

    @property
    def in_work(self) -> frozenset[str]:
        """Names of the slides that run, as was added last."""
        return frozenset(self._since)

    def _begin(self) -> None:
        host = re.sub(r"[^A-Za-z0-9-]", "_", platform.node())[:40]
        self._path = self._folder / f"{self._stem}.{host}-{self._pid}-{time.time_ns()}.jsonl"
        self._began = False
        self._torn = False

    def add(self, record: RunRecord, name: str) -> None:
        """Adds how it goes with the slide ``name``, from now on.

        Raises:
            OSError: it can't be written.
        """
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._remember(record, name, at)
        self._write(record, name, at)

    def renew(self, record: RunRecord, changed: str | None = None) -> None:
        """Begins anew with those slides alone that run: all else stands in the written record.

        Args:
            record: has been written.
            changed: a slide of which nothing was added yet.

        Raises:
            OSError: it can't be written.
        """
        if changed is not None:
            self._remember(record, changed, datetime.now(UTC).isoformat(timespec="milliseconds"))
        old = self._path
        self._begin()
        try:
            for name, at in self._since.items():
                if record.slides[name].status == "running":  # or was cut short
                    self._write(record, name, at)
        finally:
            remove([old])

    def _remember(self, record: RunRecord, name: str, at: str) -> None:
        if record.slides[name].status == "running":
            self._since[name] = at
        else:
            self._since.pop(name, None)

    def _write(self, record: RunRecord, name: str, at: str) -> None:
        lines = [] if self._began else [_line(record.model_copy(update={"slides": {}}))]
        slide = record.slides[name].as_json()
        by = {"host": HOST, "pid": self._pid, "machine": MACHINE}
        lines.append(json.dumps({"name": name, "slide": slide, "at": at, **by}) + "\n")
        make_alike(self._path.parent, self._path.parent.parent)
        # Opened for each line: a few lines a minute, and no handle that a share could lose.
        try:
            with self._path.open("a", encoding="utf-8", newline="\n") as file:
                file.write("\n" * self._torn + "".join(lines))
        except OSError:
            self._torn = self._began  # half a line may be there: the next one begins anew
            if not self._began:
                remove([self._path])
            raise
        self._began, self._torn = True, False

    def end(self) -> None:
        """Removes it: all that it says stands in the record."""
        remove([self._path])


class JournalReader:
    """Reads a journal that grows: each time what has been added since.

    Args:
        path: of the journal.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0
        self.recipe: str | None = None
        """Of its run; None before its first line was read, or where that makes no sense."""

    def read(self) -> Iterator[tuple[str, SlideRecord]]:
        """Names and records of slides, one for each line that has been added.

        Raises:
            OSError: it can't be read, or is gone.
        """
        with self._path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.split(b"\n")[:-1]
        if self._offset == 0 and lines:
            self.recipe = _recipe_of(lines.pop(0))
        self._offset += len(whole)
        for line in filter(None, lines):
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                name, slide, _ = _parse(line)
                yield name, slide


def _recipe_of(head: bytes) -> str | None:
    from pipeline.batch.run_record import RunRecord

    try:
        return RunRecord.model_validate_json(head).recipe
    except ValueError:
        return None


def journals(out: Path, stem: str | None = None) -> list[Path]:
    """The journals in an output folder: of one record's runs, or of all."""
    return sorted((out / FOLDER).glob(f"{stem}.*.jsonl" if stem else "*.jsonl"))


def remove(paths: Sequence[Path]) -> None:
    """Removes journals, and their folder where none is left."""
    for path in paths:
        with suppress(OSError):
            path.unlink()
        with suppress(OSError):  # others are in it
            path.parent.rmdir()


def load_journal(path: Path) -> RunRecord | None:
    """The record that a journal tells, of the slides that it names; None where it has no head.

    What is lost of it is told in the log.
    """
    try:
        told = read_journal(path)
    except (OSError, ValueError):
        _log.warning("%s: a journal without a head, or of another version: left out", show(path))
        return None
    if told.lost:
        _log.warning("%s: %d line(s) cut off or damaged: left out", show(path), told.lost)
    return told.record


def read_journal(path: Path) -> Told:
    """What a journal tells.

    Raises:
        OSError: it can't be read.
        ValueError: it has no head, or one of another version.
    """
    from pipeline.batch.run_record import RunRecord

    *lines, rest = path.read_bytes().split(b"\n")
    if not lines:
        raise ValueError("no head")
    head = RunRecord.model_validate_json(lines[0])
    slides: dict[str, SlideRecord] = {}
    signs: dict[str, Sign] = {}
    lost = int(bool(rest))
    for line in filter(None, lines[1:]):
        try:
            name, slide, sign = _parse(line)
        except (ValueError, KeyError, TypeError, RecursionError):
            lost += 1
            continue
        slides[name] = slide
        signs.pop(name, None)
        if sign:
            signs[name] = sign
    return Told(head.model_copy(update={"slides": slides}), signs, lost)


def _line(record: RunRecord) -> str:
    return json.dumps(record.model_dump(mode="json")) + "\n"


def _parse(line: bytes) -> tuple[str, SlideRecord, Sign | None]:
    from pipeline.batch.run_record import SlideRecord

    entry = json.loads(line)
    if not isinstance(entry["name"], str):
        raise TypeError
    slide = SlideRecord.parse(entry["slide"])
    return entry["name"], slide, _sign(entry)


def _sign(entry: Mapping[str, object]) -> Sign | None:
    """When and by whom a line was written; None where it doesn't say, or nothing sensible."""
    at, host, pid, machine = (entry.get(key) for key in ("at", "host", "pid", "machine"))
    if isinstance(at, str) and isinstance(host, str) and isinstance(pid, int):
        return Sign(at, host, pid, machine if isinstance(machine, str) else "")
    return None
