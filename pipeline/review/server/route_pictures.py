"""Pictures: tiles of the slide, close-ups of cells, what lies beside the report."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from pipeline.reports.previews import BEST_CELLS, THUMBNAIL, best_name
from pipeline.review.catalogue import NotThereError, ReportFolder
from pipeline.review.guard import read_inside
from pipeline.review.server.answers import fresh, kept, unchanged
from pipeline.review.server.asking import room_of, session_of, slide_of
from pipeline.review.server.gate import RefusedError
from pipeline.review.server.room import BusyError
from pipeline.review.server.route_cells import PICTURE_UM
from pipeline.review.server.shapes import tag_of

router = APIRouter()

JPEG = "image/jpeg"

MOST_CROP_PX = 1024
MOST_CROP_SIDE = 16_384
"""Of a crop, in level-0 px: what is read for it stays small."""

_MOST_BYTES = 256 << 20

Um = Annotated[float, Query(ge=5, le=500, allow_inf_nan=False)]
Px = Annotated[int, Query(ge=16, le=MOST_CROP_PX)]
Side = Annotated[float, Query(ge=-1e8, le=1e8, allow_inf_nan=False)]

_REPORT_CSP = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox allow-scripts "
    "allow-popups; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; script-src "
    "'unsafe-inline'"
)
"""The report's page stands alone: its own script runs, without this server's origin."""


@router.get("/api/slides/{slide}/tiles/{level}/{column}_{row}.jpg")
async def tile(request: Request, slide: str, level: int, column: int, row: int) -> Response:
    """A tile of the slide."""
    _count(request)
    result = await slide_of(request, slide)
    room, tag = room_of(request), f"{tag_of(result)}-{level}-{column}-{row}"
    if fresh(request, tag):
        return unchanged(tag)
    jpeg = room.catalogue.known_tile(result, level, column, row)
    if jpeg is None:
        if room.catalogue.pyramid(result).tile(level, column, row) is None:
            raise NotThereError("there is no such tile")
        jpeg = await room.desk.do(request, lambda: room.catalogue.tile(result, level, column, row))
    return kept(request, jpeg, JPEG, tag)


@router.get("/api/slides/{slide}/cells/{key}/picture.jpg")
async def close_up(
    request: Request, slide: str, key: str, um: Um = PICTURE_UM, px: Px = 192
) -> Response:
    """A square picture of a cell."""
    _count(request)
    result = await slide_of(request, slide)
    room, tag = room_of(request), f"{tag_of(result)}-{key[:100]}-{um:g}-{px}"
    if fresh(request, tag):
        return unchanged(tag)

    def work() -> bytes:
        number = room.catalogue.cells(result).row(key)
        if number is None:
            raise NotThereError("there is no such cell in the report")
        return room.catalogue.close_up(result, number, um, px)

    return kept(request, await room.desk.do(request, work), JPEG, tag)


@router.get("/api/slides/{slide}/crop.jpg")
async def crop(
    request: Request, slide: str, x0: Side, y0: Side, x1: Side, y1: Side, px: Px = 192
) -> Response:
    """A square around the middle of a box, as large as its longer side."""
    _count(request)
    side = max(x1 - x0, y1 - y0)
    if x1 <= x0 or y1 <= y0 or side > MOST_CROP_SIDE:
        raise RefusedError(400, "box", f"expected a box of 0 to {MOST_CROP_SIDE} px a side")
    result = await slide_of(request, slide)
    x, y = (x0 + x1 - side) / 2, (y0 + y1 - side) / 2
    room, tag = room_of(request), f"{tag_of(result)}-{x:g}-{y:g}-{side:g}-{px}"
    if fresh(request, tag):
        return unchanged(tag)
    jpeg = await room.desk.do(request, lambda: room.catalogue.crop(result, x, y, side, px))
    return kept(request, jpeg, JPEG, tag)


@router.get("/api/slides/{slide}/thumbnail.jpg")
async def thumbnail(request: Request, slide: str) -> Response:
    """The slide as the work list shows it."""
    return await _beside(request, await slide_of(request, slide), THUMBNAIL)


@router.get("/api/slides/{slide}/best/{place}.jpg")
async def best(request: Request, slide: str, place: int) -> Response:
    """One of its best cells, from 1."""
    if not 1 <= place <= BEST_CELLS:
        raise NotThereError("there is no such picture")
    return await _beside(request, await slide_of(request, slide), best_name(place - 1))


@router.get("/api/slides/{slide}/overview.jpg")
async def overview(request: Request, slide: str) -> Response:
    """The whole slide, as the report has it."""
    result = await slide_of(request, slide)
    catalogue = room_of(request).catalogue
    jpeg = (await run_in_threadpool(catalogue.pictures, result)).overview
    if jpeg is None:
        raise NotThereError("the report has no picture of the whole slide")
    return kept(request, jpeg, JPEG, f"overview-{tag_of(result)}")


@router.get("/api/slides/{slide}/report.html")
async def report(request: Request, slide: str) -> Response:
    """The report's own page, kept apart from this one."""
    result = await slide_of(request, slide)
    root = room_of(request).catalogue.folder
    path = result.folder / "report.html"
    page = await run_in_threadpool(read_inside, root, path, _MOST_BYTES)
    if page is None:
        raise NotThereError("the report has no page")
    headers = {"content-security-policy": _REPORT_CSP, "cache-control": "private, no-cache"}
    return Response(page, 200, headers, "text/html; charset=utf-8")


async def _beside(request: Request, result: ReportFolder, name: str) -> Response:
    """A picture of the result's folder."""
    root = room_of(request).catalogue.folder
    jpeg = await run_in_threadpool(read_inside, root, result.folder / name, _MOST_BYTES)
    if jpeg is None or not jpeg.startswith(b"\xff\xd8"):
        raise NotThereError("there is no such picture")
    return kept(request, jpeg, JPEG, f"{name}-{tag_of(result)}")


def _count(request: Request) -> None:
    """Counts a picture that is made.

    Raises:
        BusyError: the browser asks for too many.
    """
    session = session_of(request)
    if session is not None and not session.tiles.take():
        raise BusyError
