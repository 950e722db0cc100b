"""The cells of a slide: all as arrays, a page of the gallery, where they lie densely."""

from __future__ import annotations

import json
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from pipeline.review.celltable import CellTable
from pipeline.review.gallery import ALL, MOST_A_PAGE, Sort
from pipeline.review.heat import heat_map
from pipeline.review.server.answers import answer_json, fresh, kept, unchanged
from pipeline.review.server.asking import reader_or_none, room_of, slide_of
from pipeline.review.server.gate import RefusedError
from pipeline.review.server.shapes import gallery_json, tag_of

router = APIRouter()

PICTURE_UM = 48.0
"""Side of a picture in the gallery: one scale for all."""


@router.get("/api/slides/{slide}/cells.bin")
async def cells(request: Request, slide: str) -> Response:
    """All cells as arrays; see `pack_cells`."""
    result = await slide_of(request, slide)
    room, tag = room_of(request), f"cells-{tag_of(result)}"
    if fresh(request, tag):
        return unchanged(tag)
    content = await room.desk.do(request, lambda: pack_cells(room.catalogue.cells(result)))
    return kept(request, content, "application/octet-stream", tag)


@router.get("/api/slides/{slide}/gallery")
async def gallery(
    request: Request,
    slide: str,
    group: Annotated[str, Query(max_length=200)] = ALL,
    sort: Sort = "suspicion",
    page: Annotated[int, Query(ge=0, le=10**9)] = 0,
    size: Annotated[int, Query(ge=1, le=MOST_A_PAGE)] = 48,
    um: Annotated[float, Query(ge=5, le=500)] = PICTURE_UM,
) -> Response:
    """A page of a group of cells."""
    result = await slide_of(request, slide)
    room, reader = room_of(request), reader_or_none(request)

    def work() -> dict[str, Any]:
        reading = room.store.reading(result.key, reader) if reader else None
        found = room.catalogue.gallery(result).page(group, sort, page, size, reading)
        return gallery_json(result, found, um)

    try:
        return answer_json(request, await room.desk.do(request, work))
    except KeyError:
        raise RefusedError(404, "group", "there is no such group of cells") from None


@router.get("/api/slides/{slide}/heat")
async def heat(request: Request, slide: str) -> Response:
    """Abnormal cells per mm2, by bins."""
    result = await slide_of(request, slide)
    catalogue = room_of(request).catalogue

    def work() -> dict[str, Any]:
        found = heat_map(catalogue.cells(result), result.report.slide)
        rows, columns = found.per_mm2.shape
        return {
            "um": round(found.um, 3),
            "x": found.x,
            "y": found.y,
            "step": found.step,
            "columns": columns,
            "rows": rows,
            "per_mm2": found.per_mm2.round(2).ravel().tolist(),
            "max": round(float(found.per_mm2.max()), 2),
        }

    return answer_json(request, await run_in_threadpool(work))


def pack_cells(table: CellTable) -> bytes:
    """Cells as arrays, little-endian, in the order of cells.csv.

    Four bytes say how long the header is, JSON, padded with blanks so that data begins at a
    multiple of 8. It names each array, its type, shape and offset from the beginning of the data.
    ``tenths`` has the boxes as in their keys: "x0_y0_x1_y1", each a tenth with one decimal.
    """
    cells = table.cells
    arrays: dict[str, NDArray[Any]] = {
        "boxes": cells.boxes.astype("<f4"),
        "scores": cells.scores.astype("<f4"),
        "suspicion": table.suspicion.astype("<f4"),
        "tenths": table.tenths.astype("<i4"),
        "labels": cells.labels.astype("u1"),
        "grades_known": cells.graded.astype("u1"),
    }
    told, parts, offset = [], [], 0
    for name, array in arrays.items():
        padding = -array.nbytes % 8
        told.append(
            {
                "name": name,
                "dtype": _TYPES[array.dtype.str[1:]],
                "shape": array.shape,
                "offset": offset,
            }
        )
        parts.append(array.tobytes() + b"\0" * padding)
        offset += array.nbytes + padding
    header = json.dumps({"count": len(table), "arrays": told}).encode()
    header += b" " * (-(len(header) + 4) % 8)
    return b"".join([np.uint32(len(header)).astype("<u4").tobytes(), header, *parts])


_TYPES = {"f4": "float32", "i4": "int32", "u1": "uint8"}
