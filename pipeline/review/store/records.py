"""What is read from and written to the tables, row by row; see `database.MIGRATIONS`."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from typing import cast

from pipeline.reports.report import encodable
from pipeline.review.store.changes import AnyChange
from pipeline.review.store.folding import Entry, Fold, Kind
from pipeline.review.store.readings import Reader, SlideKey
from pipeline.review.store.states import Head

_ENTRIES = """
SELECT entries.id, request, sha256, slides.name, readers.id, readers.name, round, version,
    entries.at, seconds, kind, body, target
FROM entries
JOIN slides ON slides.id = entries.slide
JOIN readers ON readers.id = entries.reader
"""

_HEADS = """
SELECT sha256, slides.name, readers.id, readers.name, round, version, standing > 0, decided,
    signed, adequacy, category, seconds
FROM heads
JOIN slides ON slides.id = heads.slide
JOIN readers ON readers.id = heads.reader
"""


def read_entries(connection: sqlite3.Connection, where: str, *values: object) -> list[Entry]:
    """Entries that a condition chooses.

    Raises:
        ValueError: the body of one is no JSON.
    """
    found = []
    for row in connection.execute(_ENTRIES + where, values):
        number, request, sha256, name, reader, who, round, version, at, seconds, kind, body, to = (
            row
        )
        slide, by = SlideKey(sha256, name), Reader(reader, who)
        content = json.loads(body)
        found.append(
            Entry(number, request, slide, by, round, version, at, seconds, kind, content, to)
        )
    return found


def insert_entry(connection: sqlite3.Connection, fold: Fold, change: AnyChange) -> Entry:
    """Writes the next entry of a reading; within a transaction."""
    kind: Kind = change.kind
    body, target, at = change.body(), fold.target(kind), now()
    version = fold.version + 1
    cursor = connection.execute(
        "INSERT INTO entries "
        "(request, slide, reader, round, version, at, seconds, kind, body, target) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            change.id,
            slide_row(connection, fold.slide),
            fold.reader.id,
            fold.round,
            version,
            at,
            change.seconds,
            kind,
            json.dumps(body, ensure_ascii=False, separators=(",", ":")),
            target,
        ),
    )
    return Entry(
        cast(int, cursor.lastrowid),
        change.id,
        fold.slide,
        fold.reader,
        fold.round,
        version,
        at,
        change.seconds,
        kind,
        body,
        target,
    )


def read_heads(
    connection: sqlite3.Connection, where: str = "", *values: object
) -> dict[SlideKey, list[Head]]:
    """What readings have come to, by slide; in the order of readers, readings first."""
    order = " ORDER BY slides.id, readers.id, round DESC"
    found: dict[SlideKey, list[Head]] = {}
    for sha256, slide, reader, name, round, version, begun, *rest in connection.execute(
        _HEADS + where + order, values
    ):
        head = Head(Reader(reader, name), round, version, bool(begun), *rest)
        found.setdefault(SlideKey(sha256, slide), []).append(head)
    return found


def write_head(connection: sqlite3.Connection, fold: Fold) -> None:
    """Writes what a reading has come to; within a transaction."""
    said = fold.decision
    connection.execute(
        "INSERT OR REPLACE INTO heads (slide, reader, round, version, standing, decided, "
        "signed, adequacy, category, seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            slide_row(connection, fold.slide),
            fold.reader.id,
            fold.round,
            fold.version,
            len(fold.done),
            fold.decided,
            said.signed,
            said.adequacy,
            said.category,
            fold.seconds,
        ),
    )


def find_reader(connection: sqlite3.Connection, name: str) -> Reader | None:
    """The reader of that name, in upper or lower case."""
    found = connection.execute(
        "SELECT id, name FROM readers WHERE folded = ?", (name.casefold(),)
    ).fetchone()
    return Reader(*found) if found else None


def insert_look(connection: sqlite3.Connection, slide: SlideKey, reader: Reader) -> None:
    """Notes that a reader has looked at a slide's differences; within a transaction."""
    connection.execute(
        "INSERT OR IGNORE INTO looks (slide, reader, at) VALUES (?, ?, ?)",
        (slide_row(connection, slide), reader.id, now()),
    )


def find_look(connection: sqlite3.Connection, slide: SlideKey, reader: Reader) -> bool:
    """Whether a reader has looked at a slide's differences."""
    found = connection.execute(
        "SELECT 1 FROM looks JOIN slides ON slides.id = looks.slide "
        "WHERE identity = ? AND reader = ?",
        (slide.identity, reader.id),
    )
    return found.fetchone() is not None


def slide_row(connection: sqlite3.Connection, slide: SlideKey) -> int:
    """A slide's row, made where it is new; within a transaction.

    A name whose bytes are no UTF-8 is kept with escapes, as reports have it.
    """
    wanted = "SELECT id FROM slides WHERE identity = ?"
    found = connection.execute(wanted, (slide.identity,)).fetchone()
    if found is None:
        connection.execute(
            "INSERT INTO slides (identity, sha256, name) VALUES (?, ?, ?)",
            (slide.identity, slide.sha256, encodable(slide.name)),
        )
        found = connection.execute(wanted, (slide.identity,)).fetchone()
    return int(found[0])


def now() -> str:
    """UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
