"""The application: routes, errors, and the gate before them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from configs import CytoLibraError
from pipeline.review.server import (
    route_cells,
    route_pages,
    route_pictures,
    route_reading,
    route_session,
    route_slides,
)
from pipeline.review.server.answers import error_json, tell
from pipeline.review.server.gate import Gate, RefusedError
from pipeline.review.server.room import BusyError, GoneError, Room


def create_app(room: Room) -> Callable[..., Awaitable[None]]:
    """The application of a room, behind its gate; it describes itself to nobody."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.room = room
    for routes in (
        route_session,
        route_pages,
        route_slides,
        route_cells,
        route_pictures,
        route_reading,
    ):
        app.include_router(routes.router)
    for kind in (CytoLibraError, BusyError, GoneError):
        app.add_exception_handler(kind, tell)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(RequestValidationError, _wrong)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Exception, _unforeseen)
    return Gate(app, room)  # type: ignore[arg-type]


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return error_json(request, error.status, error.code, error.message)


async def _wrong(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "request"
    return error_json(request, 400, "request", f"{where}: {first['msg']}")


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = "there is nothing at that address" if error.status_code == 404 else str(error.detail)
    code = "not-there" if error.status_code == 404 else "request"
    return error_json(request, error.status_code, code, message)


async def _unforeseen(request: Request, error: Exception) -> Response:
    return error_json(request, 500, "unforeseen", "something went wrong; the server's log tells")
