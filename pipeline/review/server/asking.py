"""What routes ask of a request: the room, who reads, which slide."""

from __future__ import annotations

from typing import cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from pipeline.review.catalogue import ReportFolder
from pipeline.review.server.gate import RefusedError
from pipeline.review.server.room import Room
from pipeline.review.server.sessions import Session
from pipeline.review.store import Reader


def room_of(request: Request) -> Room:
    """The room."""
    return cast(Room, request.app.state.room)


def session_of(request: Request) -> Session | None:
    """The browser's session; None for one that has not come in."""
    return cast("Session | None", request.state.session)


def reader_of(request: Request, shown: object = None) -> Reader:
    """Who reads there.

    Args:
        request: of his browser.
        shown: id of the reader whom the page shows, where it says so: windows of one browser share
            a session, and another one may have changed who reads.

    Raises:
        RefusedError: nobody has given a name yet, or the page shows another reader.
    """
    session = session_of(request)
    if session is None or session.reader is None:
        raise RefusedError(401, "reader", "say who reads first")
    if shown is not None and shown != session.reader.id:
        raise RefusedError(
            401,
            "other-reader",
            f"another window of this browser reads as {session.reader.name} now; say who reads",
        )
    return session.reader


def reader_or_none(request: Request) -> Reader | None:
    """Who reads there; None for nobody yet."""
    session = session_of(request)
    return session.reader if session else None


async def slide_of(request: Request, slide: str) -> ReportFolder:
    """The result of an id.

    Raises:
        NotThereError: there is none.
    """
    return await run_in_threadpool(room_of(request).catalogue.get, slide)


async def body_of(request: Request) -> dict[str, object]:
    """The JSON that was sent, a mapping.

    Raises:
        RefusedError: it is none.
    """
    try:
        content = await request.json()
    except (ValueError, RecursionError):
        raise RefusedError(400, "json", "the request is no JSON") from None
    if not isinstance(content, dict):
        raise RefusedError(400, "json", "the request is no JSON object")
    return content
