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
from pipeline.review.server.shapes import decision_json, delta_json, reading_json, tag_of
from pipeline.review.store import (
    CellChange,
    CellDecision,
    Change,
    ChangeError,
    Difference,
    Reader,
    Reading,
    RegionChange,
    Round,
    Said,
    SignChange,
    SlideState,
    parse_change,
)

router = APIRouter()

_ADDED = 33
"""Characters of the key of a cell that a reader drew: "a" and 32 hex digits."""


@router.get("/api/slides/{slide}/reading")
async def reading(
    request: Request, slide: str, round: Round = "reading", reader: int | None = None
) -> Response:
    """What the reader has said of a slide."""
    result, room = await slide_of(request, slide), room_of(request)
    who = reader_of(request, reader)
    found = await run_in_threadpool(room.store.reading, result.key, who, round)
    return answer_json(request, reading_json(found))


@router.post("/api/slides/{slide}/changes")
async def change(
    request: Request, slide: str, delta: Annotated[int, Query(ge=0, le=1)] = 0
) -> Response:
    """A reader says something; it is on the disk when this answers.

    Where the page names what it shows, as ``content`` the slide's ``key`` and as ``stamp`` its own,
    nothing is entered about another slide that has come under the name since.
    """
    result, room = await slide_of(request, slide), room_of(request)
    content = await body_of(request)
    reader = reader_of(request, content.pop("reader", None))
    round = content.pop("round", "reading")
    if round not in ("reading", "adjudication"):
        raise RefusedError(400, "change", "round: expected reading or adjudication")
    shown = content.pop("content", None), content.pop("stamp", None)

    def work() -> dict[str, Any]:
        return _apply(room, result, reader, content, round, shown, bool(delta))

    return answer_json(request, await run_in_threadpool(work))


@router.get("/api/slides/{slide}/differences")
async def differences(
    request: Request,
    slide: str,
    adjudicate: Annotated[int, Query(ge=0, le=1)] = 0,
    reader: int | None = None,
) -> Response:
    """On what readers differ; who looks without having read the slide can't read it any more."""
    result, room = await slide_of(request, slide), room_of(request)
    who = reader_of(request, reader)

    def work() -> dict[str, Any]:
        state = room.store.state(result.key)
        reason = _why_closed(room, state, result, who, bool(adjudicate))
        if reason:
            return {"open": False, "reason": reason, "differences": []}
        found = room.store.differences(result.key)
        readers = sorted({v.reader.id for one in found for v in one.views})
        names = {number: _letter(place) for place, number in enumerate(readers)}
        told = [_difference_json(one, names, who) for one in found]
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
    shown: tuple[object, object],
    delta: bool,
) -> dict[str, Any]:
    try:
        wanted = parse_change(content)
    except ChangeError as error:
        raise RefusedError(400, "change", str(error)) from None
    _must_be_shown(result, wanted, *shown)
    if round == "reading" and room.store.has_looked(result.key, reader):
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


def _must_be_shown(result: ReportFolder, wanted: Change, content: object, stamp: object) -> None:
    """A change is about what lies there now.

    A region says that all that the report found in it was decided, a signature the same of the
    slide: the report is the same, too. What is said of a cell of the report is looked at by itself.

    Raises:
        RefusedError: the page shows another slide or report.
    """
    if content is not None and content != result.key.sha256:
        raise RefusedError(
            409,
            "report-changed",
            f"{result.name}: another slide lies under this name now; load it again, and decide "
            "again",
        )
    whole = isinstance(wanted, RegionChange) and wanted.box is not None
    whole = whole or (isinstance(wanted, SignChange) and wanted.signed)
    if whole and stamp is not None and stamp != tag_of(result):
        raise RefusedError(
            409,
            "report-changed",
            f"{result.name}: the report has changed; load the slide again, look at what it found, "
            "and decide again",
        )


def _completed(room: Room, result: ReportFolder, before: Reading, wanted: CellChange) -> CellChange:
    """The change with what the report says of the cell, whatever the page believes it says.

    A note or another box leaves what was said when the cell was decided: a report that was written
    anew since doesn't change what the reader agreed to.

    Raises:
        RefusedError: there is no such cell, no such class, or the reader decides on a class that
            the report no longer says.
    """
    names = [one.name for one in result.report.model.classes]
    if wanted.label is not None and wanted.label not in names:
        raise RefusedError(400, "change", f"label: expected one of {', '.join(names)}")
    if len(wanted.key) == _ADDED and wanted.key.startswith("a"):
        return wanted
    known = before.cells.get(wanted.key)
    if known and known.said and _is_beside(wanted, known):
        return _saying(wanted, known.said)
    found = _said(room, result, before, wanted.key)
    if not found:
        raise RefusedError(400, "change", "key: there is no such cell in the report")
    label = wanted.said.label if wanted.said else found[0].label
    for said in found:
        if said.label == label:
            return _saying(wanted, said)
    raise RefusedError(
        409,
        "report-changed",
        f"the report has changed: it calls this cell {found[0].label}, not {label}; load the slide "
        "again, and decide again",
    )


def _is_beside(wanted: CellChange, known: CellDecision) -> bool:
    """Whether a change is about a cell's note or box, and leaves what was decided."""
    if wanted.note is None and wanted.box is None:
        return False
    return wanted.verdict == known.verdict and wanted.label in (None, known.label)


def _said(room: Room, result: ReportFolder, before: Reading, key: str) -> list[Said]:
    """What a reader can have been shown of a cell of the report, the report as it is first.

    Of a cell that an earlier report had, what was said then; an adjudicator is shown what those
    who signed have seen, too.
    """
    table = room.catalogue.cells(result)
    row = table.row(key)
    found = []
    if row is not None:
        left, top, right, bottom = table.cells.boxes[row].tolist()
        found.append(
            Said(
                result.report.model.classes[int(table.cells.labels[row])].name,
                min(1.0, max(0.0, round(float(table.cells.scores[row]), 4))),
                (left, top, right, bottom),
            )
        )
    readings = [before] if row is None else []
    if before.round == "adjudication":
        readings += [one for one in room.store.readings(result.key) if one.signed]
    cells = [one.cells[key] for one in readings if key in one.cells]
    return found + [cell.said for cell in cells if cell.said]


def _saying(wanted: CellChange, said: Said) -> CellChange:
    told = {"label": said.label, "score": said.score, "box": said.box}
    values = wanted.model_dump(exclude_unset=True) | {"said": told}
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
    if room.store.has_looked(result.key, reader):
        return ""
    if not adjudicates:
        return "you have not read this slide: who looks at differences can adjudicate, not read"
    if room.read_only:
        return "this server writes nothing, so it could not keep that you have looked"
    room.store.look(result.key, reader)
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
                "said": cell.get("said"),
            }
        )
    return {"subject": one.subject, "key": one.key, "box": one.box, "views": views}
