"""Fields that a person should annotate next, as `reviews select` proposes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.review.store.readings import Box, RegionMark, SlideKey

_SLACK = 0.5
"""Level-0 px by which a mark may fall short of a field: pages round."""


@dataclass(frozen=True)
class TaskField:
    """A field that is proposed.

    Attributes:
        slide: which.
        box: where, level-0 pixels.
        reason: why, in a few words.
        score: how much is expected of it; the higher the sooner.
    """

    slide: SlideKey
    box: Box
    reason: str
    score: float


@dataclass(frozen=True)
class Task:
    """A field to annotate.

    Attributes:
        id: its number.
        slide: which.
        box: where, level-0 pixels.
        reason: why.
        score: how much was expected of it.
        order: its place in the list, from 0.
        done: whether a region that any reader marked as read exhaustively covers it.
    """

    id: int
    slide: SlideKey
    box: Box
    reason: str
    score: float
    order: int
    done: bool


def insert(
    connection: sqlite3.Connection,
    fields: Sequence[tuple[int, TaskField]],
    withdrawn: Iterable[int] = (),
) -> int:
    """Puts fields behind those that are there; one that is there already stays as it is.

    Args:
        connection: in a transaction.
        fields: each with its slide's row.
        withdrawn: ids of those that are withdrawn before; they stay in the file.

    Returns:
        How many are new.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    connection.executemany(
        "UPDATE tasks SET withdrawn = ? WHERE id = ?", [(now, number) for number in withdrawn]
    )
    added = 0
    for slide, field in fields:
        added += connection.execute(
            "INSERT OR IGNORE INTO tasks (slide, x_min, y_min, x_max, y_max, reason, score, at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (slide, *map(float, field.box), field.reason, float(field.score), now),
        ).rowcount
    return added


def rows(connection: sqlite3.Connection) -> list[tuple[int, str, str, Box, str, float]]:
    """Open tasks in their order: id, the slide's sha256 and name, box, reason, score."""
    found = connection.execute(
        "SELECT tasks.id, sha256, name, x_min, y_min, x_max, y_max, reason, score "
        "FROM tasks JOIN slides ON slides.id = tasks.slide WHERE withdrawn IS NULL "
        "ORDER BY tasks.id"
    )
    return [
        (number, sha256, name, (left, top, right, bottom), reason, score)
        for number, sha256, name, left, top, right, bottom, reason, score in found
    ]


def covered(box: Box, marks: Iterable[RegionMark]) -> bool:
    """Whether one of the marks covers a box."""
    return any(
        mark.box[0] <= box[0] + _SLACK
        and mark.box[1] <= box[1] + _SLACK
        and mark.box[2] >= box[2] - _SLACK
        and mark.box[3] >= box[3] - _SLACK
        for mark in marks
    )
