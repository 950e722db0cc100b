"""The server's life: one at a time in a folder, an address, and an end within a second or two."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import socket
import ssl
import sys
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import uvicorn
from filelock import Timeout
from pydantic import ValidationError

from configs import ConfigError, StrictModel
from pipeline.locks import file_lock
from pipeline.reports.writers import to_json, write_whole
from pipeline.review.catalogue import Catalogue
from pipeline.review.server.app import create_app
from pipeline.review.server.room import Room
from pipeline.review.server.route_pages import ASSETS
from pipeline.review.server.sessions import Sessions
from pipeline.review.server.users import Users
from pipeline.review.store import ReviewStore
from pipeline.slides.readers.base import show

LOCK = ".view.lock"
HOLDER = ".view.json"
PORT = ".view.port"

_GRACE_S = 1
"""Seconds that answers in work have when the server is stopped."""


@dataclass(frozen=True)
class ViewSettings:
    """What the server was asked.

    Attributes:
        reports: folder that screen wrote.
        slides: where slides are that have moved.
        host: to listen at.
        port: likewise; 0 for a free one, None for the one that the folder was served at last, and a
            free one where there is none. Browsers keep what they could not send by address.
        read_only: whether nothing is written.
        users: file of who may come in; needed where others than this machine can reach it.
        tls: files of certificate and key.
        names: by what names it may be called beside its own.
    """

    reports: Path
    slides: Path | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    read_only: bool = False
    users: Path | None = None
    tls: tuple[Path, Path] | None = None
    names: tuple[str, ...] = ()


class Holder(StrictModel):
    """Who serves a folder; without the token, which nobody else is told."""

    pid: int
    address: str


@contextmanager
def open_room(settings: ViewSettings) -> Iterator[tuple[Room, socket.socket, list[str]]]:
    """All that a server needs, before it answers anything.

    Yields:
        The room, the socket that it listens at, and what a person should know, a line each.

    Raises:
        ConfigError: something of the settings can't be; see `ViewSettings`.
        StoreError: the reviews can't be opened.
    """
    local = _is_local(settings.host)
    if not local and settings.users is None:
        raise ConfigError(
            f"--host {settings.host}: others can reach that address; name who may come in with "
            "--users FILE (add users with cytolibra view --add-user NAME FILE)"
        )
    told: list[str] = []
    users = Users.load(settings.users) if settings.users else None
    told += users.doubts if users else ()
    if settings.tls:
        tls_context(*settings.tls)
    elif not local:
        told.append(
            "without --tls passwords and pictures cross the network for all to read; use it only "
            "where a proxy in front of it speaks TLS"
        )
    if not (ASSETS / "index.html").is_file():
        told.append("the page is not built (make view-assets): only the API answers")
    with Catalogue(settings.reports, settings.slides) as catalogue, _held(settings) as doubts:
        told += doubts
        listening, doubts = _listen_again(settings)
        told += doubts
        try:
            with ReviewStore.open(settings.reports, read_only=settings.read_only) as store:
                told += store.doubts
                port = listening.getsockname()[1]
                hosts, names = _hosts(settings, port)
                room = Room(
                    catalogue=catalogue,
                    store=store,
                    sessions=Sessions(None if users else secrets.token_urlsafe(24)),
                    hosts=hosts,
                    names=names,
                    scheme="https" if settings.tls else "http",
                    cookie=f"cytolibra-{port}",
                    read_only=settings.read_only,
                    users=users,
                )
                if not settings.read_only:
                    _tell_holder(settings, room, port)
                    write_whole(settings.reports / PORT, f"{port}\n")
                yield room, listening, told
        finally:
            listening.close()


def address(settings: ViewSettings, room: Room, port: int) -> str:
    """What a browser opens; with the token, where there is one."""
    query = f"?token={room.sessions.token}" if room.sessions.token else ""
    return f"{_origin(settings, room, port)}/{query}"


def serve(
    room: Room,
    listening: socket.socket,
    settings: ViewSettings,
    started: Callable[[], None] | None = None,
) -> None:
    """Answers until it is told to stop; to be called within `ended_by_signals`.

    Args:
        room: what is served.
        listening: where.
        settings: with which it was opened.
        started: called as soon as it answers.
    """
    cert, key = settings.tls or (None, None)
    config = uvicorn.Config(
        create_app(room),
        lifespan="off",
        ws="none",
        access_log=False,
        log_level="error",  # what others send that is no HTTP is not ours to tell
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=30,
        ssl_certfile=cert,
        ssl_keyfile=key,
    )
    server = _Server(config, started)
    try:
        server.run(sockets=[listening])
    finally:
        room.desk.close()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM is as Ctrl-C while this holds, and both just end what is within.

    uvicorn stops by itself, then raises the signal again: SIGTERM would else end the process before
    the folder is given back.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


class _Server(uvicorn.Server):
    """Tells when it answers."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._tell_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to answer."""
        await super().startup(sockets)
        if self.started and self._tell_started:
            self._tell_started()


def open_browser(url: str) -> None:
    """Opens the address where there is a screen to open it on."""
    screen = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if screen:
        webbrowser.open(url)


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Checks that certificate and key can be used.

    Raises:
        ConfigError: they can't.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for path in (certificate, key):
        if not path.is_file():
            raise ConfigError(f"--tls {show(path)}: no such file")
    try:
        # A key with a passphrase would be asked for: it is refused instead.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConfigError(
            f"--tls {show(certificate)} {show(key)}: no certificate and its key in PEM without a "
            f"passphrase ({error.strerror if isinstance(error, OSError) else error})"
        ) from error
    return context


@contextmanager
def _held(settings: ViewSettings) -> Iterator[list[str]]:
    """Keeps a second server that writes out of the folder."""
    if settings.read_only:
        yield []
        return
    folder = settings.reports
    lock = file_lock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(_busy(folder)) from None
    except PermissionError as error:
        raise ConfigError(
            f"{show(folder)}: can't be written to ({error.strerror}); look at it with --read-only"
        ) from error
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", None) in _READ_ONLY:
            raise ConfigError(
                f"{show(folder)}: can't be written to; look at it with --read-only"
            ) from error
        yield [f"{show(folder)}: its file system has no locks: start no second server on it"]
        return
    try:
        yield []
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        # While it is held: after that it may be another server's already. An open file can't be
        # removed on Windows, where the lock's release does it.
        with suppress(OSError):
            (folder / LOCK).unlink()
        lock.release()


_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC}
"""What the system says of a folder in which nothing can be made."""


def _busy(folder: Path) -> str:
    try:
        known = Holder.model_validate_json((folder / HOLDER).read_bytes())
        where = f" at {known.address} (process {known.pid})"
    except (OSError, ValidationError):
        where = ""
    return (
        f"{show(folder)}: another server serves it already{where}; use that one, or look at it "
        "with --read-only"
    )


def _tell_holder(settings: ViewSettings, room: Room, port: int) -> None:
    holder = Holder(pid=os.getpid(), address=f"{_origin(settings, room, port)}/")
    write_whole(settings.reports / HOLDER, to_json(holder.model_dump(mode="json")))


def _listen_again(settings: ViewSettings) -> tuple[socket.socket, list[str]]:
    """A socket at the port that is asked for or was the last one, and what to know of it.

    Raises:
        ConfigError: the one that is asked for is taken; see `_listen`.
    """
    last = None if settings.read_only else _last_port(settings.reports)
    if settings.port is not None or last is None:
        return _listen(settings.host, settings.port or 0), []
    try:
        return _listen(settings.host, last), []
    except ConfigError:
        listening = _listen(settings.host, 0)
    return listening, [
        f"port {last}, where this folder was served last, is taken: another one is used, at which "
        "browsers don't find what they could not send then; end what uses it and start again with "
        f"--port {last}"
    ]


def _last_port(folder: Path) -> int | None:
    """Where a folder was served last; None where that is not known."""
    try:
        port = int((folder / PORT).read_text("ascii"))
    except (OSError, ValueError):
        return None
    return port if 0 < port < 2**16 else None


def _listen(host: str, port: int) -> socket.socket:
    """A socket at an address.

    Raises:
        ConfigError: it is taken, or none of this machine's.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError, OverflowError) as error:
        raise ConfigError(f"--host {host}: is no address of this machine") from error
    family, kind, protocol, _, place = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # else a port stays taken for a minute after its server ended
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(128)
    except OSError as error:
        listening.close()
        todo = "name another --port, or none for a free one" if port else "name another --host"
        raise ConfigError(f"{host}:{port}: {error.strerror}; {todo}") from error
    return listening


def _is_local(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _hosts(settings: ViewSettings, port: int) -> tuple[frozenset[str] | None, frozenset[str]]:
    """What browsers may call the server; see `Room.hosts`."""
    host = settings.host.lower().strip("[]")
    if _is_local(host):
        own: Sequence[str] = ("127.0.0.1", "localhost", "[::1]", _written(host))
        return frozenset(f"{name}:{port}" for name in (*own, *settings.names)), frozenset()
    machine = socket.gethostname().lower()
    names = {host, machine, f"{machine}.local", socket.getfqdn().lower(), *settings.names}
    return None, frozenset(name.lower() for name in names)


def _written(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _origin(settings: ViewSettings, room: Room, port: int) -> str:
    host = settings.host.strip("[]")
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"{room.scheme}://{_written(host)}:{port}"
