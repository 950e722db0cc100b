"""How answers look: JSON, compressed where that pays; errors with a code and a sentence."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from configs import CytoLibraError
from pipeline.review.catalogue import NotThereError
from pipeline.review.server.room import BusyError, GoneError
from pipeline.review.server.shapes import reading_json
from pipeline.review.store import ChangeError, ReviewError, StaleError, StoreError

_PAYS = 2048
"""Bytes from which on an answer is compressed."""


def to_bytes(content: object) -> bytes:
    """JSON; numbers that are none can't be in it, and names that are no text are escaped."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def answer_json(request: Request, content: object, status: int = 200) -> Response:
    """An answer as JSON."""
    return packed(request, to_bytes(content), "application/json", status)


def packed(
    request: Request,
    content: bytes,
    kind: str,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer, compressed where it is long and the browser takes that."""
    told = dict(headers or {})
    if len(content) >= _PAYS:
        told["vary"] = "accept-encoding"
        if "gzip" in request.headers.get("accept-encoding", ""):
            content = gzip.compress(content, 1)
            told["content-encoding"] = "gzip"
    return Response(content, status, told, kind)


def kept(request: Request, content: bytes, kind: str, tag: str) -> Response:
    """An answer that the browser may keep, and asks about again by its tag."""
    if fresh(request, tag):
        return unchanged(tag)
    return Response(content, 200, _kept_headers(tag), kind)


def fresh(request: Request, tag: str) -> bool:
    """Whether the browser has what this tag stands for."""
    given = request.headers.get("if-none-match", "")
    return any(one.strip().removeprefix("W/") == f'"{tag}"' for one in given.split(","))


def unchanged(tag: str) -> Response:
    """What it has is right."""
    return Response(None, 304, _kept_headers(tag))


def _kept_headers(tag: str) -> dict[str, str]:
    return {"etag": f'"{tag}"', "cache-control": "private, max-age=3600"}


def error_json(request: Request, status: int, code: str, message: str, **more: Any) -> Response:
    """An error."""
    return answer_json(request, {"error": code, "message": message, **more}, status)


async def tell(request: Request, error: Exception) -> Response:
    """An exception as an answer; what nobody foresaw tells nothing of itself."""
    if isinstance(error, StaleError):
        now = reading_json(error.current)
        return error_json(request, 409, "stale", str(error), current=now)
    if isinstance(error, ChangeError):
        return error_json(request, 409, "refused", str(error))
    if isinstance(error, StoreError):
        return error_json(request, 503, error.code, str(error))
    if isinstance(error, NotThereError):
        return error_json(request, 404, "not-there", str(error))
    if isinstance(error, BusyError):
        answer = error_json(request, 429, "busy", "too much is asked for at once; ask again")
        answer.headers["retry-after"] = "1"
        return answer
    if isinstance(error, GoneError):
        return Response(status_code=499)
    if isinstance(error, (ReviewError, CytoLibraError)):
        return error_json(request, 503, "failed", " ".join(str(error).split()))
    raise error
