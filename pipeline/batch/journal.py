"""What becomes of each slide, noted as it happens: lines of JSON behind one another.

To write ``run.json`` anew with each slide costs more the more slides there are. While a run goes
on, each change is a line in a file of its own, in the hidden folder ``.journal`` below the output
folder; ``run.json`` is written now and then, and at the end. The first line is the record of the
run without its slides, each other one a slide's name and its record.

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
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pipeline.slides.readers.base import show

if TYPE_CHECKING:
    from pipeline.batch.run_record import RunRecord, SlideRecord

FOLDER = ".journal"
"""Below the output folder; there only while a run goes on, or after one was killed."""

_log = logging.getLogger(__name__)


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
        host = re.sub(r"[^A-Za-z0-9-]", "_", platform.node())[:40]
        name = f"{stem}.{host}-{os.getpid()}-{time.time_ns()}.jsonl"
        self._path = out / FOLDER / name
        self._began = False
        self._torn = False

    def add(self, record: RunRecord, name: str) -> None:
        """Adds how it goes with the slide ``name``.

        Raises:
            OSError: it can't be written.
        """
        lines = [] if self._began else [_line(record.model_copy(update={"slides": {}}))]
        slide = record.slides[name].model_dump(mode="json")
        lines.append(json.dumps({"name": name, "slide": slide}) + "\n")
        self._path.parent.mkdir(exist_ok=True)
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
    """The record that a journal tells, of the slides that it names; None where it has no head."""
    from pipeline.batch.run_record import RunRecord

    try:
        *lines, rest = path.read_bytes().split(b"\n")
        head = RunRecord.model_validate_json(lines[0]) if lines else None
    except (OSError, ValidationError):
        head = None
    if head is None:
        _log.warning("%s: a journal without a head, or of another version: left out", show(path))
        return None
    slides: dict[str, SlideRecord] = {}
    lost = int(bool(rest))
    for line in filter(None, lines[1:]):
        try:
            slides.update([_parse(line)])
        except (ValueError, KeyError, TypeError, RecursionError):
            lost += 1
    if lost:
        _log.warning("%s: %d line(s) cut off or damaged: left out", show(path), lost)
    return head.model_copy(update={"slides": slides})


def _line(record: RunRecord) -> str:
    return json.dumps(record.model_dump(mode="json")) + "\n"


def _parse(line: bytes) -> tuple[str, SlideRecord]:
    from pipeline.batch.run_record import SlideRecord

    entry = json.loads(line)
    if not isinstance(entry["name"], str):
        raise TypeError
    return entry["name"], SlideRecord.model_validate_json(json.dumps(entry["slide"]))
