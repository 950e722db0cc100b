"""The file of the reviews: opened, checked, made or brought up to date; trouble told in one line.

A new file is made whole beside its place and then put there, so that a file of this name that is
empty or half is a damaged one, and is never written over.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.review.store.errors import StoreError, Trouble

FILE = "reviews.sqlite"
"""Name of the file, in the folder of the reports."""

APPLICATION = 0x43794C62
"""``CyLb``: what SQLite's application_id says of a file of ours."""

BUSY_S = 10.0
"""Seconds to wait while another process writes; a write takes milliseconds."""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE slides (
        id INTEGER PRIMARY KEY,
        identity TEXT NOT NULL UNIQUE,
        sha256 TEXT NOT NULL,
        name TEXT NOT NULL
    ) STRICT;
    CREATE TABLE readers (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        folded TEXT NOT NULL UNIQUE,
        at TEXT NOT NULL
    ) STRICT;
    CREATE TABLE entries (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        request TEXT NOT NULL UNIQUE,
        slide INTEGER NOT NULL REFERENCES slides (id),
        reader INTEGER NOT NULL REFERENCES readers (id),
        round TEXT NOT NULL CHECK (round IN ('reading', 'adjudication')),
        version INTEGER NOT NULL CHECK (version > 0),
        at TEXT NOT NULL,
        seconds REAL NOT NULL CHECK (seconds >= 0),
        kind TEXT NOT NULL CHECK (kind IN ('cell', 'region', 'slide', 'sign', 'undo', 'redo')),
        body TEXT NOT NULL,
        target INTEGER REFERENCES entries (id),
        CHECK ((target IS NOT NULL) = (kind IN ('undo', 'redo'))),
        UNIQUE (slide, reader, round, version)
    ) STRICT;
    CREATE TABLE heads (
        slide INTEGER NOT NULL REFERENCES slides (id),
        reader INTEGER NOT NULL REFERENCES readers (id),
        round TEXT NOT NULL CHECK (round IN ('reading', 'adjudication')),
        version INTEGER NOT NULL,
        standing INTEGER NOT NULL,
        decided INTEGER NOT NULL,
        signed TEXT,
        adequacy TEXT,
        category TEXT,
        seconds REAL NOT NULL,
        PRIMARY KEY (slide, reader, round)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE tasks (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        slide INTEGER NOT NULL REFERENCES slides (id),
        x_min REAL NOT NULL,
        y_min REAL NOT NULL,
        x_max REAL NOT NULL CHECK (x_max > x_min),
        y_max REAL NOT NULL CHECK (y_max > y_min),
        reason TEXT NOT NULL,
        score REAL NOT NULL,
        at TEXT NOT NULL,
        withdrawn TEXT
    ) STRICT;
    CREATE UNIQUE INDEX open_tasks ON tasks (slide, x_min, y_min, x_max, y_max)
        WHERE withdrawn IS NULL;
    CREATE TRIGGER entries_stay BEFORE UPDATE ON entries
        BEGIN SELECT RAISE (ABORT, 'entries are never changed'); END;
    CREATE TRIGGER entries_are_kept BEFORE DELETE ON entries
        BEGIN SELECT RAISE (ABORT, 'entries are never deleted'); END;
    CREATE TRIGGER slides_stay BEFORE UPDATE ON slides
        BEGIN SELECT RAISE (ABORT, 'slides are never changed'); END;
    CREATE TRIGGER slides_are_kept BEFORE DELETE ON slides
        BEGIN SELECT RAISE (ABORT, 'slides are never deleted'); END;
    CREATE TRIGGER readers_stay BEFORE UPDATE ON readers
        BEGIN SELECT RAISE (ABORT, 'readers are never changed'); END;
    CREATE TRIGGER readers_are_kept BEFORE DELETE ON readers
        BEGIN SELECT RAISE (ABORT, 'readers are never deleted'); END;
    """,
    """
    CREATE TABLE looks (
        slide INTEGER NOT NULL REFERENCES slides (id),
        reader INTEGER NOT NULL REFERENCES readers (id),
        at TEXT NOT NULL,
        PRIMARY KEY (slide, reader)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER looks_stay BEFORE UPDATE ON looks
        BEGIN SELECT RAISE (ABORT, 'looks are never changed'); END;
    CREATE TRIGGER looks_are_kept BEFORE DELETE ON looks
        BEGIN SELECT RAISE (ABORT, 'looks are never deleted'); END;
    """,
)
"""What brings a file from one version to the next; a version is how many of them it has seen.

``heads`` is no record, but what the entries come to, kept so that a list of 5,000 slides needs none
of them; ``looks`` are of who has looked at a slide's differences without having read it. One that
was released is never changed: a new one is put behind it.
"""

_TROUBLES: dict[int, Trouble] = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
}

_WITHOUT_LOG = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR}
"""What SQLite says where it can't make what belongs beside a file: no right, or no room."""

_LITTLE = 1 << 17
"""Bytes of free disk at which an input or output error is for want of room."""

_ADVICE: dict[Trouble, str] = {
    "full": "the disk is full: this was not saved; make room, and save it again",
    "read-only": "it can't be written: this was not saved; allow writing in its folder",
    "locked": (
        f"another process has been writing for {BUSY_S:.0f} s: this was not saved; "
        "end that process, or try again"
    ),
    "damaged": (
        "it is damaged; it is left as it is: put a copy of it in its place, or move it away to "
        "begin anew"
    ),
}


def connect(path: Path, read_only: bool = False) -> sqlite3.Connection:
    """Opens a file of reviews that is there, checked and of this version.

    Raises:
        StoreError: it is damaged, none of ours, of a newer version, or can't be opened.
    """
    with telling(path):
        if not path.stat().st_size:
            raise StoreError(f"{path}: it is empty, and {_ADVICE['damaged']}", "damaged")
        connection = _open_reading(path) if read_only else _open(path, "rw")
        try:
            with contextlib.closing(connection.execute("PRAGMA quick_check(1)")) as found:
                if found.fetchone()[0] != "ok":
                    raise StoreError(f"{path}: {_ADVICE['damaged']}", "damaged")
            _bring_up(connection, path, read_only)
        except BaseException:
            connection.close()
            raise
    return connection


def create(path: Path) -> None:
    """Makes a new file of reviews, whole; where one is already there, it stays.

    Raises:
        StoreError: it can't be made.
    """
    with telling(path):
        handle, name = tempfile.mkstemp(prefix=f".{FILE}.", suffix=".new", dir=path.parent)
        os.close(handle)
        fresh = Path(name)
        try:
            connection = _open(fresh, "rw")
            try:
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                _migrate(connection, 0)
            finally:
                connection.close()
            fresh.chmod(0o666 & ~_umask())
            with contextlib.suppress(FileExistsError):
                _place(fresh, path)
                _sync(path.parent)
        finally:
            for left in (fresh, Path(f"{fresh}-journal")):
                left.unlink(missing_ok=True)


def file_number(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one of its name; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def in_memory() -> sqlite3.Connection:
    """An empty store for those who only read where nobody has decided anything."""
    connection = _configured(_connect(":memory:"))
    _migrate(connection, 0)
    return connection


def use_wal(connection: sqlite3.Connection) -> bool:
    """Has readers and a writer not wait for each other, by a log beside the file.

    Returns:
        Whether that can be: not on every file system. Else the file is as safe, by a journal.

    Raises:
        sqlite3.OperationalError: the disk is full, another process holds the file, and the like.
    """
    try:
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal":
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            return True
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}:
            raise
    connection.execute("PRAGMA journal_mode = DELETE")
    return False


@contextmanager
def writing(connection: sqlite3.Connection, path: Path) -> Iterator[sqlite3.Connection]:
    """A transaction that is on the disk when it ends; of one that fails nothing is kept.

    Raises:
        StoreError: the disk is full, another process writes, and the like.
    """
    with telling(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turns what SQLite and the system say into one line.

    Raises:
        StoreError: instead of theirs.
    """
    try:
        yield
    except FileNotFoundError:
        raise StoreError(f"{path}: it is not there", "missing") from None
    except sqlite3.DatabaseError as error:
        number = getattr(error, "sqlite_errorcode", 0) & 0xFF
        code = _TROUBLES.get(number, "failed")
        if number == sqlite3.SQLITE_IOERR and _is_full(path.parent):
            code = "full"
        text = _ADVICE.get(code, f"it can't be used: {error}")
        raise StoreError(f"{path}: {text}", code) from error
    except UnicodeDecodeError as error:  # SQLite quotes what it can't make sense of
        raise StoreError(f"{path}: {_ADVICE['damaged']}", "damaged") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreError(f"{path}: {_ADVICE['full']}", "full") from error
        reason = error.strerror or type(error).__name__
        raise StoreError(f"{path}: it can't be opened: {reason}") from error


def _is_full(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < _LITTLE
    return False


def _connect(address: str) -> sqlite3.Connection:
    return sqlite3.connect(
        address, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_S
    )


def _open(path: Path, mode: str, extra: str = "") -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode={mode}{extra}"
    return _configured(_connect(address))


def _configured(connection: sqlite3.Connection) -> sqlite3.Connection:
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA synchronous = FULL")  # looks into the file
    except BaseException:
        connection.close()
        raise
    return connection


def _open_reading(path: Path) -> sqlite3.Connection:
    """Opens for reading alone, in a folder that can't be written too.

    There SQLite can't make what a file in WAL mode needs beside it. Where no log lies beside it,
    all of it is in the file, and nobody changes it. Elsewhere what it makes is removed when it is
    closed, which takes a connection that could write.
    """
    try:
        connection = _open(path, "rw")
        connection.execute("PRAGMA query_only = ON")
        return connection
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in _WITHOUT_LOG:
            raise
        log = Path(f"{path}-wal")
        if log.exists() and log.stat().st_size:
            raise StoreError(
                f"{log}: its last changes can't be read where nothing can be written; copy the "
                "folder to a place where you may write",
                "read-only",
            ) from None
        return _open(path, "ro", "&immutable=1")


def _bring_up(connection: sqlite3.Connection, path: Path, read_only: bool) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION or version < 1:
        raise StoreError(
            f"{path}: it is no file of reviews, but another program's; it is left as it is: move "
            "it away",
            "foreign",
        )
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path}: a newer CytoLibra wrote it (its version is {version}, this one knows "
            f"{len(MIGRATIONS)}); update CytoLibra",
            "newer",
        )
    if version < len(MIGRATIONS):
        if read_only:
            raise StoreError(
                f"{path}: an older CytoLibra wrote it (version {version}); open it once for "
                "writing, so that it is brought up to date",
                "read-only",
            )
        _migrate(connection, version)


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """Brings a file up to date, in one transaction; whoever comes second finds it done."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            for statement in _statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: `executescript` would end the transaction."""
    statement = ""
    for line in script.strip().splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _place(fresh: Path, path: Path) -> None:
    """Gives a file its name, unless that is taken.

    Raises:
        FileExistsError: it is.
    """
    try:
        os.link(fresh, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if path.exists():
            raise FileExistsError(path) from None
        fresh.rename(path)


def _sync(folder: Path) -> None:
    """Has a folder's new name outlast a power cut, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):
                os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
