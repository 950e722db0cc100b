"""The page itself and its files, and what stands in their place where they were not built."""

from __future__ import annotations

import mimetypes
from html import escape
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pipeline.review.guard import read_inside
from pipeline.review.server.answers import error_json
from pipeline.review.server.asking import room_of, session_of
from pipeline.review.server.route_session import give_cookie

router = APIRouter()

ASSETS = Path(__file__).resolve().parent.parent / "assets"
"""Where ``make view-assets`` puts the built page."""

_MOST_BYTES = 64 << 20

_AGAIN = b"""\
// A link from another place brings no cookie along: asked from here, the browser sends it.
location.replace("/?again=1" + location.hash);
"""

_KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@router.get("/")
async def first(request: Request) -> Response:
    """The page; who shows the token gets his cookie first."""
    room = room_of(request)
    token = request.query_params.get("token")
    if token is not None:
        if not room.sessions.admits(token):
            return _plain(
                "This address is not, or no longer, the right one",
                "Open the address that cytolibra view has printed last.",
                401,
            )
        answer = RedirectResponse("/", 303)
        if session_of(request) is None:
            give_cookie(room, answer)
        return answer
    if session_of(request) is None and room.users is None:
        if request.query_params.get("again") is None:
            return _plain("One moment", "", 401, script="/again.js")
        return _plain(
            "Open the address that cytolibra view has printed",
            "It ends in a token, which lets this browser in.",
            401,
        )
    page = read_inside(ASSETS, ASSETS / "index.html", _MOST_BYTES)
    if page is None:
        return _plain(
            "The page is not built",
            "Build it in a checkout of CytoLibra: make view-assets. It is part of what pip "
            "installs. All else works: see /api/slides.",
            200,
        )
    return Response(page, 200, {"cache-control": "no-cache"}, "text/html; charset=utf-8")


@router.get("/again.js")
async def again() -> Response:
    """Asks for the first page once more; see `first`."""
    return Response(_AGAIN, media_type="text/javascript; charset=utf-8")


@router.get("/favicon.ico")
async def icon() -> Response:
    """There is none; the page names its own."""
    return Response(status_code=204)


@router.get("/assets/{path:path}")
async def asset(request: Request, path: str) -> Response:
    """A file of the built page; its name changes with its content."""
    content = (
        None if "\\" in path or "\0" in path else read_inside(ASSETS, _built(path), _MOST_BYTES)
    )
    if content is None:
        return error_json(request, 404, "not-there", "there is no such file")
    suffix = Path(path).suffix.lower()
    kind = _KINDS.get(suffix) or mimetypes.guess_type(path)[0] or "application/octet-stream"
    headers = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(content, 200, headers, kind)


def _built(path: str) -> Path:
    """Vite writes assets/ below its output; either place is looked at."""
    nested = ASSETS / "assets" / path
    return nested if nested.is_file() else ASSETS / path


def _plain(title: str, text: str, status: int, script: str = "") -> Response:
    tag = f'<script src="{script}"></script>' if script else ""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>CytoLibra</title>{tag}</head><body><main><h1>{escape(title)}</h1>"
        f"<p>{escape(text)}</p></main></body></html>\n"
    )
    return Response(page, status, media_type="text/html; charset=utf-8")
