"""What a reader says, and on what readers differ."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from pipeline.review.catalogue import ReportFolder
from pipeline.review.server.answers import answer_json
from pipeline.review.server.asking import body_of, reader_of, room_of, slide_of
from pipeline.review.server.gate import RefusedError
from pipeline.review.server.room import Room
from pipeline.review.server.shapes import decision_json, delta_json, reading_json
from pipeline.review.store import (
    CellChange,
    ChangeError,
    Difference,
    Reader,
    Reading,
    Round,
    SlideState,
    parse_change,
)

router = APIRouter()

_ADDED = 33
"""Characters of the key of a cell that a reader drew: "a" and 32 hex digits."""


@router.get("/api/slides/{slide}/reading")
async def reading(request: Request, slide: str, round: Round = "reading") -> Response:
    """What the reader has said of a slide."""
    result, reader, room = await slide_of(request, slide), reader_of(request), room_of(request)
    found = await run_in_threadpool(room.store.reading, result.key, reader, round)
    return answer_json(request, reading_json(found))


@router.post("/api/slides/{slide}/changes")
async def change(
    request: Request, slide: str, delta: Annotated[int, Query(ge=0, le=1)] = 0
) -> Response:
    """A reader says something; it is on the disk when this answers."""
    result, reader, room = await slide_of(request, slide), reader_of(request), room_of(request)
    content = await body_of(request)
    round = content.pop("round", "reading")
    if round not in ("reading", "adjudication"):
        raise RefusedError(400, "change", "round: expected reading or adjudication")

    def work() -> dict[str, Any]:
        return _apply(room, result, reader, content, cast(Round, round), bool(delta))

    return answer_json(request, await run_in_threadpool(work))


@router.get("/api/slides/{slide}/differences")
async def differences(
    request: Request, slide: str, adjudicate: Annotated[int, Query(ge=0, le=1)] = 0
) -> Response:
    """On what readers differ; who looks without having read the slide can't read it any more."""
    result, reader, room = await slide_of(request, slide), reader_of(request), room_of(request)

    def work() -> dict[str, Any]:
        state = room.store.state(result.key)
        reason = _why_closed(room, state, result, reader, bool(adjudicate))
        if reason:
            return {"open": False, "reason": reason, "differences": []}
        found = room.store.differences(result.key)
        readers = sorted({v.reader.id for one in found for v in one.views})
        names = {number: _letter(place) for place, number in enumerate(readers)}
        told = [_difference_json(one, names, reader) for one in found]
        return {"open": True, "reason": "", "differences": told}

    return answer_json(request, await run_in_threadpool(work))


@router.get("/api/tasks")
async def tasks(request: Request) -> Response:
    """Fields that are to be annotated."""
    room = room_of(request)

    def work() -> dict[str, Any]:
        told = []
        for task in room.store.tasks():
            result = room.catalogue.of_key(task.slide)
            told.append(
                {
                    "id": task.id,
                    "slide": result.id if result else None,
                    "name": result.name if result else task.slide.name,
                    "box": task.box,
                    "reason": task.reason,
                    "score": task.score,
                    "done": task.done,
                }
            )
        return {"tasks": told}

    return answer_json(request, await run_in_threadpool(work))


def _apply(
    room: Room,
    result: ReportFolder,
    reader: Reader,
    content: dict[str, object],
    round: Round,
    delta: bool,
) -> dict[str, Any]:
    try:
        wanted = parse_change(content)
    except ChangeError as error:
        raise RefusedError(400, "change", str(error)) from None
    if round == "reading" and (result.key.identity, reader.id) in room.adjudicators:
        raise RefusedError(
            403, "blind", "you have seen on what others differ: you can adjudicate, not read blind"
        )
    before = room.store.reading(result.key, reader, round)
    if isinstance(wanted, CellChange):
        wanted = _completed(room, result, before, wanted)
    now = room.store.apply(result.key, reader, wanted, round)
    if delta and now.version == before.version + 1:
        return delta_json(before, now)
    return reading_json(now)


def _completed(room: Room, result: ReportFolder, before: Reading, wanted: CellChange) -> CellChange:
    """The change with what the report says of the cell, whatever the page believes it says.

    Raises:
        RefusedError: there is no such cell, or no such class.
    """
    names = [one.name for one in result.report.model.classes]
    if wanted.label is not None and wanted.label not in names:
        raise RefusedError(400, "change", f"label: expected one of {', '.join(names)}")
    if len(wanted.key) == _ADDED and wanted.key.startswith("a"):
        return wanted
    table = room.catalogue.cells(result)
    row = table.row(wanted.key)
    if row is None:
        if wanted.key in before.cells:  # of an earlier report; what was said then stays
            return wanted
        raise RefusedError(400, "change", "key: there is no such cell in the report")
    said = {
        "label": names[int(table.cells.labels[row])],
        "score": min(1.0, max(0.0, round(float(table.cells.scores[row]), 4))),
        "box": table.cells.boxes[row].tolist(),
    }
    values = wanted.model_dump(exclude_unset=True) | {"said": said}
    return cast(CellChange, parse_change(values))


def _why_closed(
    room: Room, state: SlideState, result: ReportFolder, reader: Reader, adjudicates: bool
) -> str:
    """Why a reader may not see differences; empty where he may."""
    if len(state.signed) < 2:
        return "a slide has differences when two readers or more have signed it off"
    if state.begun:
        return "somebody still reads this slide"
    if reader in state.signed or state.head(reader, "adjudication") is not None:
        return ""
    if (result.key.identity, reader.id) in room.adjudicators:
        return ""
    if not adjudicates:
        return "you have not read this slide: who looks at differences can adjudicate, not read"
    room.adjudicators.add((result.key.identity, reader.id))
    return ""


def _letter(place: int) -> str:
    """A, B, ... Z, A1, ...: readers are not named."""
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[place % 26] + (str(place // 26) if place > 25 else "")


def _difference_json(one: Difference, names: dict[int, str], reader: Reader) -> dict[str, Any]:
    views = []
    for view in one.views:
        cell = decision_json(view.cell) if view.cell else {}
        views.append(
            {
                "reader": names[view.reader.id],
                "mine": view.reader.id == reader.id,
                "call": view.call,
                "verdict": cell.get("verdict"),
                "label": cell.get("label"),
                "note": cell.get("note", ""),
                "box": cell.get("box"),
            }
        )
    return {"subject": one.subject, "key": one.key, "box": one.box, "views": views}
