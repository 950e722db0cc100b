"""The store of reviews: one file beside the reports, to which every decision is added at once.

An entry is on the disk before its change is answered. Entries are never changed; undo is one, too.
A change names the version that it builds on, so that two windows of one reader can't overrule each
other unseen; two readers never meet. Several processes may use one file: SQLite locks it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType

from pipeline.review.store import rules, tasks
from pipeline.review.store.changes import AnyChange, checked_box, checked_name
from pipeline.review.store.consensus import agree, awaits
from pipeline.review.store.database import (
    FILE,
    connect,
    create,
    file_number,
    in_memory,
    telling,
    use_wal,
    writing,
)
from pipeline.review.store.differences import Difference, find_differences
from pipeline.review.store.errors import ChangeError, StaleError, StoreError
from pipeline.review.store.folding import Entry, Fold, check
from pipeline.review.store.readings import Reader, Reading, RegionMark, Round, SlideKey
from pipeline.review.store.records import (
    find_look,
    find_reader,
    insert_entry,
    insert_look,
    now,
    read_entries,
    read_heads,
    slide_row,
    write_head,
)
from pipeline.review.store.states import Head, SlideState
from pipeline.review.store.tasks import Task, TaskField

_MOST_FOLDS = 128
"""Readings that are kept folded in memory."""


class ReviewStore:
    """The reviews of a folder of reports; made by `open`, safe to use from several threads.

    Attributes:
        path: of the file.
        read_only: whether nothing is ever written.
        doubts: what a person should know of how the file is kept, a line each.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self.doubts: tuple[str, ...] = ()
        self._file = file_number(path)
        self._connection = connection
        self._lock = threading.RLock()
        self._folds: OrderedDict[tuple[str, int, Round], Fold] = OrderedDict()
        self._states: tuple[int, Mapping[SlideKey, SlideState]] = (0, MappingProxyType({}))

    @classmethod
    def open(cls, folder: Path, *, create: bool = True, read_only: bool = False) -> ReviewStore:
        """Opens the reviews of a folder.

        Args:
            folder: of the reports.
            create: make a file where there is none.
            read_only: write nothing; where there is no file the store is empty, or with
                ``create=False`` an error.

        Raises:
            StoreError: there is none and none is made; it is damaged, of a newer version, of
                another program, or can't be opened. Nothing of it is changed then.
        """
        path = Path(folder) / FILE
        if read_only and create and not path.exists():
            return cls(path, in_memory(), read_only)
        if not path.exists():
            if not create:
                raise StoreError(f"{path}: it is not there: nothing was reviewed here", "missing")
            _create(path)
        store = cls(path, connect(path, read_only), read_only)
        if not read_only:
            try:
                store._begin_log()
            except BaseException:
                store.close()
                raise
        return store

    def __enter__(self) -> ReviewStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; twice is once."""
        with self._lock:
            self._connection.close()

    def readers(self) -> list[Reader]:
        """All who ever gave their name here, in the order in which they came."""
        with self._lock, telling(self.path):
            found = self._connection.execute("SELECT id, name FROM readers ORDER BY id")
            return [Reader(number, name) for number, name in found]

    def reader(self, name: str) -> Reader:
        """The reader of that name, made where he is new; upper and lower case don't count.

        Raises:
            ChangeError: that is no name.
            StoreError: he is new, and can't be written.
        """
        name = checked_name(name)
        with self._lock:
            known = self._reader(name)
            if known is None:
                self._must_write()
                with writing(self._connection, self.path) as connection:
                    connection.execute(
                        "INSERT OR IGNORE INTO readers (name, folded, at) VALUES (?, ?, ?)",
                        (name, name.casefold(), now()),
                    )
                known = self._reader(name)
            assert known is not None
            return known

    def apply(
        self, slide: SlideKey, reader: Reader, change: AnyChange, round: Round = "reading"
    ) -> Reading:
        """Adds what a client asks for; it is on the disk when this returns.

        A change whose id is known changes nothing: sent again after an answer that was lost, it
        gives the state now. That may be newer than what the change made, which is the version after
        the one that it builds on: what a client has decided behind it builds on that.

        Args:
            slide: which.
            reader: who.
            change: what.
            round: whether it is the reader's own reading or the adjudication of others'.

        Returns:
            The reading now.

        Raises:
            StaleError: the reading has another version than the one that the change builds on.
            ChangeError: the change does not fit what stands, or a rule forbids it (`rules`).
            StoreError: it can't be written; nothing of it was kept.
        """
        with self._lock:
            self._must_write()
            try:
                with writing(self._connection, self.path):
                    return self._apply(slide, reader, change, round)
            except (ChangeError, StaleError):
                raise
            except BaseException:
                # The fold may hold what was rolled back.
                self._folds.pop((slide.identity, reader.id, round), None)
                raise

    def reading(self, slide: SlideKey, reader: Reader, round: Round = "reading") -> Reading:
        """What one reader has said of one slide; empty where he has said nothing."""
        with self._lock, telling(self.path):
            return self._fold(slide, reader, round).reading()

    def readings(self, slide: SlideKey, round: Round = "reading") -> list[Reading]:
        """All readings of a slide in which anything stands, in the order of readers.

        Not for the eyes of a reader who has not signed off: he reads blind.
        """
        with self._lock, telling(self.path):
            found = self._connection.execute(
                "SELECT readers.id, readers.name FROM heads "
                "JOIN slides ON slides.id = heads.slide JOIN readers ON readers.id = heads.reader "
                "WHERE identity = ? AND round = ? AND standing > 0 ORDER BY readers.id",
                (slide.identity, round),
            ).fetchall()
            readers = [Reader(number, name) for number, name in found]
            return [self._fold(slide, reader, round).reading() for reader in readers]

    def adjudication(self, slide: SlideKey) -> Reading | None:
        """The adjudication of a slide; None where nobody has begun one. There is one at most."""
        found = self.readings(slide, "adjudication")
        return found[0] if found else None

    def differences(self, slide: SlideKey) -> list[Difference]:
        """Where the signed readings of a slide differ; see `differences` for what counts.

        Those that were adjudicated stay in it: what the adjudicator said is in `adjudication`.
        """
        with self._lock:
            signed = [reading for reading in self.readings(slide) if reading.signed]
            return find_differences(signed) if len(signed) > 1 else []

    def look(self, slide: SlideKey, reader: Reader) -> None:
        """Notes that a reader who has not read a slide looks at its differences.

        He can't begin a reading of it any more; it is on the disk when this returns.

        Raises:
            StoreError: it can't be written.
        """
        with self._lock:
            self._must_write()
            with writing(self._connection, self.path) as connection:
                insert_look(connection, slide, reader)

    def has_looked(self, slide: SlideKey, reader: Reader) -> bool:
        """Whether a reader has looked at a slide's differences without having read it."""
        with self._lock, telling(self.path):
            return find_look(self._connection, slide, reader)

    def consensus(self, slide: SlideKey) -> Reading | None:
        """What holds of a slide, of all its readers; see `consensus` for the rule."""
        with self._lock:
            return agree(self.readings(slide), self.adjudication(slide))

    def states(self) -> Mapping[SlideKey, SlideState]:
        """How far each slide is of which anything was said; what did not change is kept."""
        with self._lock, telling(self.path):
            seen, states = self._states
            (last,) = self._connection.execute(
                "SELECT coalesce(max(id), 0) FROM entries"
            ).fetchone()
            if last != seen:
                new = "WHERE heads.slide IN (SELECT slide FROM entries WHERE id > ?)"
                changed = {
                    slide: SlideState(tuple(heads), self._await(slide, heads))
                    for slide, heads in read_heads(self._connection, new, seen).items()
                }
                self._states = last, MappingProxyType({**states, **changed})
            return self._states[1]

    def state(self, slide: SlideKey) -> SlideState:
        """How far one slide is."""
        return self.states().get(slide, SlideState((), False))

    def slides(self) -> list[SlideKey]:
        """Slides that anything was ever entered about, in the order in which they came.

        Their names are those of then.
        """
        with self._lock, telling(self.path):
            found = self._connection.execute(
                "SELECT sha256, name FROM slides WHERE id IN (SELECT slide FROM entries) "
                "ORDER BY id"
            )
            return [SlideKey(sha256, name) for sha256, name in found]

    def history(
        self, slide: SlideKey | None = None, reader: Reader | None = None
    ) -> Iterator[Entry]:
        """Every entry in its order, of one slide or reader or of all: for audit.

        They are read in lots; entries that are made meanwhile may be among them.
        """
        last = 0
        while True:
            with self._lock, telling(self.path):
                lot = read_entries(
                    self._connection,
                    "WHERE entries.id > ? AND (? IS NULL OR identity = ?) "
                    "AND (? IS NULL OR readers.id = ?) ORDER BY entries.id LIMIT 1000",
                    last,
                    *[slide and slide.identity] * 2,
                    *[reader and reader.id] * 2,
                )
            if not lot:
                return
            yield from lot
            last = lot[-1].id

    def add_tasks(self, fields: Sequence[TaskField], *, replace: bool = False) -> int:
        """Adds fields to annotate, behind those that are there.

        Args:
            fields: in their order; one whose place is a task already is left out.
            replace: withdraw what is there before and isn't done.

        Returns:
            How many are new.

        Raises:
            ChangeError: one of them is no box; none is kept then.
            StoreError: they can't be written; none is kept then.
        """
        for field in fields:
            try:
                checked_box(field.box)
            except ValueError as error:
                where = f"the field of {field.slide.name} is no box"
                raise ChangeError(f"{where}: {error}") from None
        with self._lock:
            self._must_write()
            with writing(self._connection, self.path) as connection:
                placed = [(slide_row(connection, field.slide), field) for field in fields]
                old = [task.id for task in self.tasks() if not task.done] if replace else []
                return tasks.insert(connection, placed, old)

    def marks(self, slide: SlideKey) -> list[RegionMark]:
        """Regions of a slide that anybody has read exhaustively, an adjudicator too."""
        with self._lock:
            both = [*self.readings(slide), *self.readings(slide, "adjudication")]
            return [mark for one in both for mark in one.regions.values()]

    def tasks(self) -> list[Task]:
        """Fields to annotate, in their order, with those that are done."""
        with self._lock, telling(self.path):
            found = tasks.rows(self._connection)
            slides = {SlideKey(sha256, name) for _, sha256, name, *_ in found}
            marks = {slide: self.marks(slide) for slide in slides}
            return [
                Task(number, slide, box, reason, score, order, tasks.covered(box, marks[slide]))
                for order, (number, sha256, name, box, reason, score) in enumerate(found)
                for slide in [SlideKey(sha256, name)]
            ]

    def _apply(self, slide: SlideKey, reader: Reader, change: AnyChange, round: Round) -> Reading:
        fold = self._fold(slide, reader, round)
        known = read_entries(self._connection, "WHERE request = ?", change.id)
        if known:
            _must_be_same(known[0], slide, reader, round, change)
            return fold.reading()
        if change.version != fold.version:
            raise StaleError(fold.reading(), change.version)
        check(fold, change)
        self._obey(fold, change)
        fold.add(insert_entry(self._connection, fold, change))
        write_head(self._connection, fold)
        return fold.reading()

    def _obey(self, fold: Fold, change: AnyChange) -> None:
        """The rules between readers, which need the others' readings.

        Raises:
            ChangeError: one of them forbids the change.
        """
        if not fold.version and find_reader(self._connection, fold.reader.name) != fold.reader:
            raise ChangeError(f"{self.path}: {fold.reader.name} is no reader of this folder")
        before = self._state(fold.slide)
        rules.may_begin(fold, before, find_look(self._connection, fold.slide, fold.reader))
        if rules.unsigns(fold, change):
            rules.may_unsign(fold, before)
        if rules.signs(fold, change) and fold.round == "adjudication":
            signed = [reading for reading in self.readings(fold.slide) if reading.signed]
            rules.may_adjudicate(find_differences(signed), fold.reading())

    def _fold(self, slide: SlideKey, reader: Reader, round: Round) -> Fold:
        """The fold of a reading, with what other processes have entered since."""
        key = (slide.identity, reader.id, round)
        fold = self._folds.get(key) or Fold(slide, reader, round)
        new = "identity = ? AND readers.id = ? AND round = ? AND version > ? ORDER BY version"
        try:
            for entry in read_entries(self._connection, f"WHERE {new}", *key, fold.version):
                fold.add(entry)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._folds.pop(key, None)
            raise StoreError(
                f"{self.path}: it is damaged: the entries of {slide.name} by {reader.name} don't "
                f"follow each other ({error}); put a copy of it in its place",
                "damaged",
            ) from error
        fold.slide = slide
        self._folds[key] = fold
        self._folds.move_to_end(key)
        while len(self._folds) > _MOST_FOLDS:
            self._folds.popitem(last=False)
        return fold

    def _await(self, slide: SlideKey, heads: Sequence[Head]) -> bool:
        if sum(head.signed is not None for head in heads if head.round == "reading") < 2:
            return False
        return awaits(self.readings(slide), self.adjudication(slide))

    def _state(self, slide: SlideKey) -> SlideState:
        """Of one slide, without whether readings differ."""
        heads = read_heads(self._connection, "WHERE identity = ?", slide.identity)
        return SlideState(tuple(heads.get(slide, ())), False)

    def _reader(self, name: str) -> Reader | None:
        with telling(self.path):
            return find_reader(self._connection, name)

    def _begin_log(self) -> None:
        with telling(self.path):
            logged = use_wal(self._connection)
        if not logged:
            self.doubts += (
                f"{self.path}: this file system can't keep a log beside it; reviews are as safe, "
                "and readers wait for each other",
            )

    def _must_write(self) -> None:
        if self.read_only:
            raise StoreError(f"{self.path}: it was opened for reading alone", "read-only")
        if file_number(self.path) != self._file:
            # What is written now would be in a file that nobody finds again.
            raise StoreError(
                f"{self.path}: it was moved, deleted or replaced while it was open; this was not "
                "saved: put it back, or open the folder again",
                "missing",
            )


def _create(path: Path) -> None:
    if not path.parent.is_dir():
        raise StoreError(f"{path.parent}: there is no such folder", "missing")
    create(path)


def _must_be_same(
    entry: Entry, slide: SlideKey, reader: Reader, round: Round, change: AnyChange
) -> None:
    """A change that is known has to be what it was.

    Raises:
        ChangeError: its id was used for another change.
    """
    known = (entry.slide, entry.reader.id, entry.round, entry.version, entry.kind, entry.body)
    if known != (slide, reader.id, round, change.version + 1, change.kind, change.body()):
        raise ChangeError(
            f"{slide.name}: the id {change.id} was used for another change before; each needs its "
            "own"
        )
