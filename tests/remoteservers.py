"""Servers on this machine that slides are fetched from, and that fail as they are told to."""

import hashlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

EXPIRED = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>ExpiredToken</Code>'
    b"<Message>The provided token has expired.</Message></Error>"
)


@dataclass
class Fault:
    """What a server does instead of answering as it should.

    Attributes:
        status: answers with this; 0 to answer as it should.
        body: of that answer.
        cut: ends the connection after so many bytes of the body; None for all of it.
        wait: seconds before it answers.
        headers: added to the answer; a header of None is left out.
    """

    status: int = 0
    body: bytes = b""
    cut: int | None = None
    wait: float = 0.0
    headers: dict[str, str | None] = field(default_factory=dict)


Chooser = Callable[[str, str, str], Fault | None]
"""Says by method, path and Range how a request fails."""


class FaultyServer(ThreadingHTTPServer):
    """A server whose answers pass through faults.

    Attributes:
        asked: method, path and Range of each request.
        fault: chooses how a request fails.
        rate: bytes a second of all connections together; None for no limit.
        delay: seconds before each answer.
    """

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.asked: list[tuple[str, str, str]] = []
        self.fault: Chooser = lambda method, path, span: None
        self.rate: float | None = None
        self.delay = 0.0
        self._turn = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def throttle(self, size: int) -> None:
        """Waits as long as so many bytes take on the line that all share."""
        if self.rate:
            with self._turn:
                time.sleep(size / self.rate)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        span = self.headers.get("Range", "")
        self.server.asked.append((self.command, self.path, span))
        fault = self.server.fault(self.command, self.path, span) or Fault()
        time.sleep(fault.wait + self.server.delay)
        if fault.status:
            status, headers, body = (
                fault.status,
                {"Content-Length": str(len(fault.body))},
                fault.body,
            )
        else:
            status, headers, body = self.answer()
        self.send_response(status)
        for name, value in {**headers, **fault.headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        body = body if fault.cut is None else body[: fault.cut]
        for start in range(0, len(body), 1 << 16):
            piece = body[start : start + (1 << 16)]
            self.server.throttle(len(piece))
            self.wfile.write(piece)
        if fault.cut is not None:
            self.close_connection = True

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        raise NotImplementedError


class _Files(_Handler):
    """Files of a folder, in pieces where they are asked for."""

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        path = self.server.folder / unquote(urlsplit(self.path).path).lstrip("/")  # type: ignore[attr-defined]
        if not path.is_file():
            return 404, {"Content-Length": "0"}, b""
        data = path.read_bytes()
        headers = {
            "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
            "Last-Modified": formatdate(path.stat().st_mtime, usegmt=True),
            "Content-Type": "application/octet-stream",
        }
        span = self.headers.get("Range")
        if not span or not self.server.ranges:  # type: ignore[attr-defined]
            return 200, headers | {"Content-Length": str(len(data))}, data
        first, _, last = span.removeprefix("bytes=").partition("-")
        piece = data[int(first) : int(last) + 1]
        headers["Content-Range"] = f"bytes {first}-{int(first) + len(piece) - 1}/{len(data)}"
        return 206, headers | {"Content-Length": str(len(piece))}, piece


class _Proxy(_Handler):
    """Another server's answers."""

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=30)  # type: ignore[attr-defined]
        try:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0) or 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            upstream.request(self.command, self.path, body or None, headers)
            found = upstream.getresponse()
            data = found.read()
            drop = ("transfer-encoding", "connection", "date", "server")
            told = {k: v for k, v in found.getheaders() if k.lower() not in drop}
            if self.command != "HEAD":
                told = {k: v for k, v in told.items() if k.lower() != "content-length"}
                told["Content-Length"] = str(len(data))
            return found.status, told, data
        finally:
            upstream.close()


@contextmanager
def serving(server: FaultyServer) -> Iterator[FaultyServer]:
    """Serves in a thread while it lasts."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def file_server(folder: Path, ranges: bool = True) -> Iterator[FaultyServer]:
    """A web server of a folder's files.

    Args:
        folder: that it serves.
        ranges: whether it gives pieces of files.
    """
    server = FaultyServer(_Files)
    server.folder, server.ranges = folder, ranges  # type: ignore[attr-defined]
    with serving(server):
        yield server


@contextmanager
def proxy(port: int) -> Iterator[FaultyServer]:
    """What stands before another server on this machine."""
    server = FaultyServer(_Proxy)
    server.upstream = port  # type: ignore[attr-defined]
    with serving(server):
        yield server


def times(count: int, fault: Fault, matches: Callable[[str, str, str], bool]) -> Chooser:
    """A fault for the first few of those requests that match."""
    left = [count]

    def choose(method: str, path: str, span: str) -> Fault | None:
        if left[0] and matches(method, path, span):
            left[0] -= 1
            return fault
        return None

    return choose


@dataclass
class Bucket:
    """A bucket of a store on this machine, behind a server that may fail.

    Attributes:
        client: of boto3, past the faults.
        server: what slides are fetched through.
        name: of the bucket.
    """

    client: object
    server: FaultyServer
    name: str

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def put(self, key: str, data: bytes | Path, **options: object) -> None:
        """Puts an object into it."""
        body = data.read_bytes() if isinstance(data, Path) else data
        self.client.put_object(Bucket=self.name, Key=key, Body=body, **options)

    def put_folder(self, folder: Path, prefix: str = "") -> None:
        """Puts all files below a folder into it."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(prefix + path.relative_to(folder).as_posix(), path)

    def clear(self) -> None:
        """Removes the bucket, and what is in it."""
        with suppress(Exception):
            for one in self.client.list_objects_v2(Bucket=self.name).get("Contents", []):
                self.client.delete_object(Bucket=self.name, Key=one["Key"])
            self.client.delete_bucket(Bucket=self.name)
