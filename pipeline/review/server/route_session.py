"""Who reads: the first page, names, passwords."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from pipeline.reports.report import NOTICE, encodable, software_versions
from pipeline.review.server.answers import answer_json, error_json
from pipeline.review.server.asking import body_of, reader_or_none, room_of, session_of
from pipeline.review.server.gate import RefusedError
from pipeline.review.server.room import Room
from pipeline.review.server.users import LONGEST_PASSWORD
from pipeline.review.store import ChangeError, Reader

router = APIRouter()

LANGUAGES = ("en", "zh")


@router.get("/api/session")
async def look(request: Request) -> Response:
    """Who reads, and what kind of server this is."""
    return answer_json(request, await run_in_threadpool(_session_json, request))


@router.post("/api/session")
async def sign_in(request: Request) -> Response:
    """Somebody says who he is; where there are users, with his password."""
    content = await body_of(request)
    name = content.get("name")
    if not isinstance(name, str):
        raise RefusedError(400, "name", "name: expected a text")
    room = room_of(request)
    if room.users is not None:
        return await _by_password(request, room, name, content.get("password"))
    try:
        reader = await run_in_threadpool(_reader, room, name)
    except ChangeError as error:
        raise RefusedError(400, "name", str(error)) from None
    session = session_of(request)
    assert session is not None  # the gate asks for one
    session.reader = reader
    return answer_json(request, await run_in_threadpool(_session_json, request))


@router.delete("/api/session")
async def sign_out(request: Request) -> Response:
    """The reader leaves; where there are users, so does his browser."""
    room, session = room_of(request), session_of(request)
    if session is not None:
        session.reader = None
    answer = answer_json(request, await run_in_threadpool(_session_json, request))
    if room.users is not None and request.state.secret:
        room.sessions.end(request.state.secret)
        answer.delete_cookie(room.cookie, path="/", httponly=True, samesite="strict")
    return answer


def give_cookie(room: Room, answer: Response, reader: Reader | None = None) -> None:
    """Lets a browser in: the cookie is for this server only, and no script sees it."""
    answer.set_cookie(
        room.cookie,
        room.sessions.begin(reader),
        path="/",
        secure=room.scheme == "https",
        httponly=True,
        samesite="strict",
    )


async def _by_password(request: Request, room: Room, name: str, password: object) -> Response:
    assert room.users is not None
    if not isinstance(password, str) or len(password) > LONGEST_PASSWORD:
        raise RefusedError(400, "password", "password: expected a text")
    who = (
        f"name:{name.casefold()[:200]}",
        f"address:{request.client.host if request.client else ''}",
    )
    wait = room.brake.wait_s(*who)
    if wait > 0:
        answer = error_json(
            request, 429, "slow", f"too many wrong passwords; try again in {int(wait) + 1} s"
        )
        answer.headers["retry-after"] = str(int(wait) + 1)
        return answer
    # Counted before it is known, so that many at once are not all free.
    room.brake.failed(*who)
    known = await run_in_threadpool(room.users.check, name, password)
    if known is None:
        return error_json(request, 401, "password", "name or password is wrong")
    room.brake.passed(*who)
    reader = await run_in_threadpool(_reader, room, known)
    if request.state.secret:
        room.sessions.end(request.state.secret)  # a new secret with new rights
    answer = answer_json(request, await run_in_threadpool(_session_json, request, reader))
    give_cookie(room, answer, reader)
    return answer


def _reader(room: Room, name: str) -> Reader:
    """The reader of a name; where nothing may be written one who is known.

    Raises:
        ChangeError: it is no name.
        RefusedError: he is new, and nothing may be written.
    """
    if room.read_only:
        wanted = " ".join(name.split()).casefold()
        for one in room.store.readers():
            if one.name.casefold() == wanted:
                return one
        raise RefusedError(
            403, "read-only", "nobody of that name has read here, and this server writes nothing"
        )
    return room.store.reader(name)


def _store_id(room: Room) -> str:
    """Tells the decisions of one folder from those of another one of the same name."""
    place = os.fsencode(room.store.path.resolve())
    return hashlib.sha256(place).hexdigest()[:16]


def _session_json(request: Request, reader: Reader | None = None) -> dict[str, Any]:
    room = room_of(request)
    reader = reader or reader_or_none(request)
    local = room.users is None
    return {
        "reader": {"id": reader.id, "name": reader.name} if reader else None,
        "readers": [one.name for one in room.store.readers()] if local else [],
        "mode": "local" if local else "users",
        "read_only": room.read_only,
        "folder": encodable(room.catalogue.folder.resolve().name) if local or reader else "",
        "store": _store_id(room) if local or reader else "",
        "version": software_versions().get("cytolibra", ""),
        "notice": NOTICE,
        "doubts": list(room.store.doubts) if local or reader else [],
        "languages": list(LANGUAGES),
    }
