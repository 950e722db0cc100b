"""What every request passes: whom it is addressed to, whence it comes, how large it is, who asks.

The rules stand here, in one place, before any route: a route can't forget them.

1. The Host header names this server: else a page of another name that was made to lead here (DNS
   rebinding) could read everything. Behind every address (0.0.0.0) numbers are taken, as no name
   can be turned on them, and the machine's own names.
2. What writes comes from this server's own pages: by Origin, where a browser tells it, and by
   Sec-Fetch-Site; and is JSON, which no form of another site can send. Nothing is read across
   sites either, but the first page, which asks who comes.
3. Bodies are at most `MOST_BODY` bytes, and are there within `BODY_S`.
4. All but the login, and files that anybody can download with the program, needs a session.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers

from pipeline.review.server.room import Room

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MOST_BODY = 64 * 1024
BODY_S = 10.0

CSP = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'"
)

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "content-security-policy": CSP,
    "cache-control": "no-store",
}
"""Of every answer; a route's own stand above them."""

_FOREIGN = {"cross-site", "same-site"}
"""Where a request comes from that is none of our own pages', as browsers put it; another port of
this machine is "same-site"."""

_METHODS = {"GET", "HEAD", "POST", "DELETE"}
_WRITES = {"POST", "DELETE"}
_OPEN = {"/", "/again.js", "/favicon.ico"}
_LOGIN = "/api/session"


class RefusedError(Exception):
    """A request that is not let in."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Gate:
    """The middleware; see the module."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], room: Room) -> None:
        self._app = app
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request in, or answers it."""
        if scope["type"] != "http":
            return  # there are no sockets here, and nothing to be started or stopped
        answer = _with_headers(send)
        try:
            headers = Headers(scope=scope)
            self._check_host(headers)
            self._check_origin(scope, headers)
            self._find_session(scope, headers)
            body = await _read_body(scope, headers, receive)
        except RefusedError as refused:
            await _refuse(answer, refused)
            return
        except _LeftError:
            return
        await self._app(scope, _replay(body, receive), answer)

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "").lower()
        if len(headers.getlist("host")) == 1 and self._is_ours(host):
            return
        raise RefusedError(
            403, "host", "this server does not answer to that name; use the address that it printed"
        )

    def _is_ours(self, host: str) -> bool:
        if self._room.hosts is not None:
            return host in self._room.hosts
        name, port = _split(host)
        if port is None:
            return False
        return name in self._room.names or _is_address(name)

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        method, site = scope["method"], headers.get("sec-fetch-site", "none")
        if method not in _METHODS:
            raise RefusedError(405, "method", f"{method[:20]} is not allowed")
        origin = headers.get("origin")
        if method in _WRITES:
            ours = f"{self._room.scheme}://{headers.get('host', '').lower()}"
            foreign = origin is not None and origin.lower() != ours
            if foreign or site in _FOREIGN:
                raise RefusedError(403, "origin", "only pages of this server may write")
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if method == "POST" and kind != "application/json":
                raise RefusedError(400, "content-type", "expected Content-Type: application/json")
            if self._room.read_only and scope["path"] != _LOGIN:
                raise RefusedError(403, "read-only", "this server only shows, it writes nothing")
        elif site in _FOREIGN and scope["path"] not in _OPEN:
            raise RefusedError(403, "origin", "only pages of this server may read that")

    def _find_session(self, scope: Scope, headers: Headers) -> None:
        secret = _cookie(headers, self._room.cookie)
        session = self._room.sessions.get(secret) if secret else None
        scope.setdefault("state", {})
        scope["state"] |= {"session": session, "secret": secret if session else None}
        path = scope["path"]
        if session or path in _OPEN or path.startswith("/assets/"):
            return
        if self._room.users is not None and path == _LOGIN:
            return
        raise RefusedError(
            401, "session", "open the address that cytolibra view printed, or sign in again"
        )


class _LeftError(Exception):
    """The client left before its request was complete."""


async def _read_body(scope: Scope, headers: Headers, receive: Receive) -> bytes:
    """All of the body.

    Raises:
        RefusedError: it is too large, or takes too long.
        _LeftError: who sends it is gone.
    """
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise RefusedError(400, "length", "Content-Length is no number")
    if len(length) > 9 or int(length) > MOST_BODY:
        raise _too_large()
    if int(length) == 0 and "transfer-encoding" not in headers:
        return b""
    try:
        return await asyncio.wait_for(_gather(receive), BODY_S)
    except TimeoutError:
        raise RefusedError(408, "slow", "the request took too long") from None


async def _gather(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _LeftError
        body += message.get("body", b"")
        if len(body) > MOST_BODY:
            raise _too_large()
        if not message.get("more_body"):
            return bytes(body)


def _too_large() -> RefusedError:
    return RefusedError(413, "too-large", f"a request has at most {MOST_BODY // 1024} KiB")


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read already, then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        while True:
            message = await receive()
            if message["type"] != "http.request":  # an empty body that was not read
                return message

    return again


def _with_headers(send: Send) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", []))
            own = {name.lower() for name, _ in headers}
            for name, value in _HEADERS.items():
                if name.encode() not in own:
                    headers.append((name.encode(), value.encode()))
            message = {**message, "headers": headers}
        await send(message)

    return answer


async def _refuse(send: Send, refused: RefusedError) -> None:
    content = json.dumps({"error": refused.code, "message": refused.message}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
    ]
    if refused.status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _cookie(headers: Headers, name: str) -> str | None:
    """The one cookie of that name; of several none, as nobody knows whose each is."""
    found: list[str] = []
    for line in headers.getlist("cookie"):
        for part in line.split(";"):
            key, mark, value = part.strip().partition("=")
            if mark and key == name:
                found.append(value)
    return found[0] if len(found) == 1 else None


def _split(host: str) -> tuple[str, str | None]:
    """Name and port of a Host header; None for what is none."""
    name, mark, port = host.rpartition(":")
    if not mark or "]" in port:
        name, port = host, "80"
    return (name.strip("[]"), port) if port.isdecimal() else ("", None)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
