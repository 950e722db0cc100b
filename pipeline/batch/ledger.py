"""What a run has done so far, and how that outlives it: its record, and the journal in between.

Of several processes that are one run each writes a journal, and one keeps the record
(``run.json``): it takes in what the others' journals say, and writes the whole now and then. Who
does is claimed as slides are, and taken over in the same way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.batch.claims import Claims
from pipeline.batch.journal import Journal, JournalReader, journals, remove
from pipeline.batch.run_record import (
    RunRecord,
    SlideRecord,
    age_of,
    load_record,
    record_name,
    save_record,
)

_SAVED_OF_N = 100
"""After this part of its slides has changed, the record is written whole: a slide's share of that
doesn't grow with their number."""

_SAVE_COST = 50
"""Or once this many times as long has gone by as it last took: a fiftieth of a run at most."""

_ROLE = "/run.json"
"""What who keeps the record claims; no slide is called so."""

_log = logging.getLogger(__name__)


class Ledger:
    """The record of a run, in memory and on disk.

    Args:
        record: as it is at the beginning.
        out: the output folder.
        claims: of those who are one run.
    """

    def __init__(self, record: RunRecord, out: Path, claims: Claims) -> None:
        self.record = record
        self._out, self._claims = out, claims
        self._stem = record_name(record.shard, "")
        self._journal = Journal(out, self._stem)
        self._others: dict[Path, JournalReader] = {}
        self._unsaved = 0
        self._saved = self._save_took = 0.0
        self._begun = False
        self.kept_here = True
        """Whether this process keeps the record for all, as far as it knows."""

    def begin(self) -> None:
        """Writes the record for the first time; what journals of killed runs tell stands in it."""
        left = journals(self._out, self._stem) if self._claims.first else []
        if self.save():
            remove(left)
        self._begun = True

    def note(self, name: str, **changes: object) -> SlideRecord:
        """Changes what is said of a slide, in memory."""
        slides = self.record.slides
        slides[name] = slides[name].changed(**changes)
        return slides[name]

    def keep(self, name: str) -> None:
        """Makes sure that how it goes with a slide outlives this process."""
        self._unsaved += 1
        often = self._unsaved * _SAVED_OF_N >= len(self.record.slides)
        long_ago = time.monotonic() - self._saved >= _SAVE_COST * self._save_took
        if (often or long_ago) and self.save(name):
            return
        self.jot(name)

    def jot(self, name: str) -> None:
        """The same by the journal alone."""
        try:
            self._journal.add(self.record, name)
        except OSError as error:
            _log.warning("the journal of the run can't be written: %s", error)

    def save(self, changed: str | None = None, *, last: bool = False) -> bool:
        """Writes the record whole, where this process keeps it; whether it has.

        Afterwards the journal is only needed for who runs what since when.

        Args:
            changed: a slide of which the journal says nothing yet.
            last: nobody else is left, so that it is ours to write.

        Raises:
            InUseError: this process was taken for dead, and others are at work on other terms.
        """
        began = time.monotonic()
        self._unsaved = 0
        try:
            if not (last or self._keeps()):
                return False
            if self._claims.accompanied:
                for name, slide in self._read_journals():
                    self._take(name, slide)
            save_record(self.record, self._out)
        except OSError as error:  # a full disk; the results so far are what counts
            _log.warning("the record of the run can't be written: %s", error)
            return False
        finally:
            self._saved = time.monotonic()
            self._save_took = self._saved - began
        try:
            self._journal.renew(self.record, changed)
        except OSError as error:
            _log.warning("the journal of the run can't be written: %s", error)
        return True

    def take_in(self) -> None:
        """Takes in what others have done.

        A journal's lines go only once they stand in the record: who reads the journals first and
        the record then misses nothing.
        """
        told = list(self._read_journals())
        written = load_record(self._out / f"{self._stem}.json")
        if written and written.recipe == self.record.recipe:
            if not self._claims.first:  # it is one run, since its first process began
                started = min(self.record.started, written.started)
                self.record = self.record.model_copy(update={"started": started})
            told += written.slides.items()
        for name, slide in told:
            self._take(name, slide)

    @property
    def in_work(self) -> frozenset[str]:
        """Names of the slides that this process has in work, as the journal says."""
        return self._journal.in_work

    def end(self, status: str, ended: str) -> None:
        """Says in the record how the run ended."""
        self.record = self.record.model_copy(update={"status": status, "ended": ended})

    def journals(self) -> list[Path]:
        """The journals of this run that are there now."""
        return journals(self._out, self._stem)

    def clear(self, left: Sequence[Path]) -> None:
        """Removes journals of which all stands in the record, and this process's own."""
        remove([*left, self._journal.path])

    def _keeps(self) -> bool:
        """Whether this process keeps the record, or does from now on."""
        if self._claims.is_mine(_ROLE):
            return True
        self.kept_here = False
        standing = self._claims.look(_ROLE)
        if standing.state != "free" or not self._claims.take_over(_ROLE, standing):
            return False
        if self._begun or standing.number >= 0:  # somebody else has kept it
            self.take_in()
        self.kept_here = True
        return True

    def _read_journals(self) -> Iterator[tuple[str, SlideRecord]]:
        """What others have added to their journals."""
        for path in journals(self._out, self._stem):
            if path == self._journal.path:
                continue
            reader = self._others.setdefault(path, JournalReader(path))
            try:
                for name, slide in reader.read():
                    if reader.recipe == self.record.recipe:
                        yield name, slide
            except OSError:  # gone: all that it said stands in the record
                continue

    def _take(self, name: str, slide: SlideRecord) -> None:
        known = self.record.slides.get(name)
        if known is None:
            return
        # A result that was there for us may be one that another process of this run has made.
        made = known.reused and not slide.reused and (slide.ended or "") >= self.record.started
        if age_of(slide) > age_of(known) or (made and slide.attempts == known.attempts):
            self.record.slides[name] = slide
