"""The work list, and all of one slide but its cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from pipeline.reports.report import encodable
from pipeline.reports.worklist import FLAGS, Worklist
from pipeline.review.catalogue import Catalogue
from pipeline.review.server.answers import answer_json, packed, to_bytes
from pipeline.review.server.asking import reader_or_none, room_of, slide_of
from pipeline.review.server.room import Room
from pipeline.review.server.shapes import review_json, slide_json, slide_row
from pipeline.review.store import Reader, SlideKey, SlideState

router = APIRouter()

_NOTHING = SlideState((), False)


@router.get("/api/health")
async def health(request: Request) -> Response:
    """Whether it runs."""
    return answer_json(request, {"ok": True, "slides": len(room_of(request).catalogue)})


@router.get("/api/slides")
async def slides(request: Request) -> Response:
    """The work list."""
    room, reader = room_of(request), reader_or_none(request)
    await run_in_threadpool(room.catalogue.refresh)
    content = await run_in_threadpool(_worklist, room, reader)
    return packed(request, content, "application/json")


@router.get("/api/slides/{slide}")
async def one(request: Request, slide: str) -> Response:
    """One slide."""
    result = await slide_of(request, slide)
    room, reader = room_of(request), reader_or_none(request)

    def work() -> dict[str, Any]:
        catalogue = room.catalogue
        overview = catalogue.pictures(result).overview
        told = slide_json(catalogue, result, catalogue.find_slide(result), overview is not None)
        state = room.store.state(result.key)
        return told | _neighbours(catalogue, slide) | {"review": review_json(state, reader)}

    return answer_json(request, await run_in_threadpool(work))


def _neighbours(catalogue: Catalogue, slide: str) -> dict[str, str | None]:
    ids = [result.id for result in catalogue]
    place = ids.index(slide)
    return {
        "next": ids[place + 1] if place + 1 < len(ids) else None,
        "previous": ids[place - 1] if place else None,
    }


def _worklist(room: Room, reader: Reader | None) -> bytes:
    states = room.store.states()
    known: Mapping[str, SlideKey] = {one.name: one.key for one in room.catalogue}
    worklist = room.catalogue.worklist
    rows = []
    for place in worklist.places:
        key = known.get(place.row.slide)
        state = states.get(key, _NOTHING) if key else _NOTHING
        rows.append(slide_row(place, state, reader))
    return to_bytes(
        {
            "order": worklist.order,
            "folder": encodable(room.catalogue.folder.resolve().name),
            "slides": rows,
            "flags": {flag: FLAGS[flag] for flag in worklist.flags},
            "counts": worklist.flags,
            "reasons": _reasons(worklist),
        }
    )


def _reasons(worklist: Worklist) -> list[dict[str, Any]]:
    return [
        {
            "key": reason.key,
            "kind": reason.kind,
            "code": reason.code,
            "text": encodable(reason.text),
            "slides": reason.slides,
        }
        for reason in worklist.reasons
    ]
