"""DICOMweb: series of an archive (PS3.18): searched by QIDO-RS, retrieved by WADO-RS.

An archive lists instances, and says of none how many bytes it has. What is kept free for one is
estimated from its frames, above what it will be. An instance never changes under its UID, so the
UID is its version. Whether one arrived whole shows by how the answer ends. Of a series only levels
of a slide are fetched: labels, which may show names, stay where they are.

Who asks is said by ``CYTOLIBRA_DICOMWEB_TOKEN``, a bearer token, or by the machine's entry in
netrc; neither is ever written or told.
"""

from __future__ import annotations

import base64
import json
import math
import netrc
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

from configs import ConfigError
from pipeline.cloud.fetch import ShortError
from pipeline.cloud.problems import UnfitError
from pipeline.cloud.settings import CloudSettings
from pipeline.cloud.store import RemoteFile, Store, import_extra, patiently
from pipeline.cloud.urls import Url
from pipeline.slides.readers.base import DICOM_MARK_END, says_dicom

TOKEN = "CYTOLIBRA_DICOMWEB_TOKEN"
"""The environment's variable that holds a bearer token."""

_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_SLIDES = ("SM", "")
"""Modalities of series that may be slides: microscopy, or nothing said."""

_MODALITY, _SERIES, _INSTANCES = "00080060", "0020000E", "00201209"
_SOP_CLASS, _SOP_INSTANCE, _IMAGE_TYPE = "00080016", "00080018", "00080008"
_ROWS, _COLUMNS, _FRAMES, _RATIO = "00280010", "00280011", "00280008", "00282112"
_WANTED = (_IMAGE_TYPE, _ROWS, _COLUMNS, _FRAMES, _RATIO)

_PAGE = 200
_MOST_PAGES = 10_000
_LARGEST_ANSWER = 64 << 20
_STREAMED = 1 << 20
_SLACK = 2 << 20
"""Bytes of a header, above those of each frame."""

_A_FRAME = 400
"""Bytes that are said of a frame, at most."""

_UNKNOWN = 2_000_000_000
"""Bytes kept free for an instance whose frames the archive doesn't tell."""

_MARGIN = 4.0
"""How much larger an instance may be than its stated compression lets expect."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'

Attributes = Mapping[str, Any]
"""What an archive says of a series or an instance, in the JSON model of PS3.18, annex F."""


@dataclass(frozen=True)
class RemoteSeries:
    """A slide in an archive.

    Attributes:
        uid: SeriesInstanceUID.
        url: of it.
        files: its levels.
        problem: why it can't be fetched; empty for nothing.
    """

    uid: str
    url: Url
    files: tuple[RemoteFile, ...]
    problem: str = ""


class DicomWebStore(Store):
    """Archives that speak DICOMweb.

    Args:
        settings: how they are asked.
    """

    def __init__(self, settings: CloudSettings) -> None:
        self._settings = settings
        self._session: Any = None
        self._auth: dict[str, dict[str, str]] = {}

    def path_of(self, url: Url) -> Path:
        """See `Store`."""
        split = urlsplit(url.text)
        parts = [quote(part, safe="") for part in split.path.split("/") if part]
        return Path(f"{url.scheme}:", split.hostname or "", *parts)

    async def look(self, url: Url) -> RemoteFile | None:
        """See `Store`: what is named is a study or a series."""
        return None

    async def list(self, url: Url) -> Sequence[RemoteFile]:
        """See `Store`."""
        return [file for series in await self.series(url) for file in series.files]

    async def head(self, file: RemoteFile) -> RemoteFile:
        """See `Store`; an instance stays what it is."""
        return file

    async def read(self, file: RemoteFile, start: int, end: int) -> bytes:
        """See `Store`; never called, as archives give no pieces."""
        raise NotImplementedError(f"{file.shown}: comes as a whole")

    async def series(self, url: Url) -> Sequence[RemoteSeries]:
        """The slides of a study, or the one that is named.

        Raises:
            FileNotFoundError: the study or series is not there.
            UnfitError: the archive answers with what is no list.
            Exception: whatever aiohttp raises; see `problems.explain`.
        """
        study, _, wanted = url.text.partition("/series/")
        where = {"SeriesInstanceUID": wanted} if wanted else {}
        found = await self._search(f"{study}/series", (_INSTANCES,), where)
        known = {_text(one, _SERIES): one for one in found}
        if wanted not in known if wanted else not known:
            raise FileNotFoundError(url.shown)
        slides = []
        for uid, told in sorted(known.items()):
            if (wanted and uid != wanted) or _text(told, _MODALITY) not in _SLIDES:
                continue
            place = f"{study}/series/{_checked(uid)}"
            series = await self._series(Url(url.scheme, place, place), uid, told)
            if series:
                slides.append(series)
        return slides

    async def _series(self, url: Url, uid: str, told: Attributes) -> RemoteSeries | None:
        """A series with its levels; None where it is no slide."""
        instances = await self._search(f"{url.text}/instances", _WANTED, {})
        files = tuple(_files(url, self.path_of(url), instances))
        if not any(_text(one, _SOP_CLASS) in (_WHOLE_SLIDE, "") for one in instances):
            return None
        problem = "" if files else "the archive lists no level of a slide in it (VOLUME)"
        expected = _number(told, _INSTANCES)
        if expected > len(instances):
            problem = (
                f"the archive lists {len(instances)} of the series' {expected:.0f} instances; "
                "send those that are missing, or have it list all"
            )
        return RemoteSeries(uid, url, files, problem)

    async def stream(self, file: RemoteFile, take: Any) -> None:
        """See `Store`."""
        async with await self._get(file.address, {"Accept": _ACCEPT}) as answer:
            answer.raise_for_status()
            kind = answer.headers.get("Content-Type", "").lower()
            taken = _Taker(take)
            if kind.startswith("multipart/related"):
                await _stream_part(answer, taken)
            elif kind.startswith(("application/dicom", "application/octet-stream")):
                async for data in answer.content.iter_chunked(_STREAMED):
                    taken(data)
            else:
                raise UnfitError("the archive answers with what is no DICOM file")
            taken.end()

    async def close(self) -> None:
        """See `Store`."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _search(
        self, place: str, fields: Sequence[str], where: Mapping[str, str]
    ) -> Sequence[Attributes]:
        """All that an archive lists; by pages, as it may list only some at once.

        It may list fewer than it is asked for, so only a page with nothing new is the last.
        """
        fixed = [*where.items(), *(("includefield", field) for field in fields)]
        found: dict[str, Attributes] = {}
        key = _SERIES if place.endswith("/series") else _SOP_INSTANCE
        count = 0
        for _ in range(_MOST_PAGES):
            asked = [*fixed, ("limit", str(_PAGE)), ("offset", str(count))]
            query = "&".join(f"{name}={quote(value)}" for name, value in asked)
            address = f"{_http(place)}?{query}"
            listed = await patiently(lambda at=address: self._page(at), self._settings)
            new = {_text(one, key): one for one in listed if _text(one, key) not in found}
            if not new:
                break
            found.update(new)
            count += len(listed)
        return tuple(found.values())

    async def _page(self, address: str) -> Sequence[Attributes]:
        async with await self._get(address, {"Accept": "application/dicom+json"}) as answer:
            if answer.status == 204:
                return []
            answer.raise_for_status()
            data = b""
            async for piece in answer.content.iter_chunked(_STREAMED):
                data += piece
                if len(data) > _LARGEST_ANSWER:
                    raise UnfitError("the archive's list is larger than any")
        try:
            listed = json.loads(data or b"[]")
        except ValueError:
            listed = None
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise UnfitError("the archive answers a search with what is no list (DICOM JSON)")
        return listed

    async def _get(self, address: str, headers: Mapping[str, str]) -> Any:
        if self._session is None:
            aiohttp: Any = import_extra("aiohttp", Url("https", "", address.partition("?")[0]))
            timeout = aiohttp.ClientTimeout(total=None, sock_read=self._settings.timeout_s)
            self._session = aiohttp.ClientSession(timeout=timeout)
        from yarl import URL

        host = urlsplit(address).hostname or ""
        asked = {"Accept-Encoding": "identity", **headers, **self._authorised(host)}
        proxy = _proxy(address, host)
        return await self._session.get(URL(address, encoded=True), headers=asked, proxy=proxy)

    def _authorised(self, host: str) -> Mapping[str, str]:
        """The header that says who asks."""
        if self._settings.anonymous:
            return {}
        if host not in self._auth:
            self._auth[host] = _authorisation(host)
        return self._auth[host]


class _Taker:
    """Hands on what arrives, once it shows that it is DICOM."""

    def __init__(self, take: Any) -> None:
        self._take = take
        self._start: bytes | None = b""

    def __call__(self, data: bytes) -> None:
        if self._start is not None:
            self._start += data
            if len(self._start) < DICOM_MARK_END:
                return
            if not says_dicom(self._start):
                raise UnfitError("the archive answers with what is no DICOM file")
            data, self._start = self._start, None
        self._take(data)

    def end(self) -> None:
        """Looks whether there was a file."""
        if self._start is not None:
            raise UnfitError("the archive answers with what is no DICOM file")


async def _stream_part(answer: Any, take: Any) -> None:
    """The only part of an answer in parts; it is whole where the mark of its end follows.

    Raises:
        ShortError: it doesn't.
        UnfitError: there are others.
    """
    import aiohttp

    reader = aiohttp.MultipartReader.from_response(answer)
    try:
        part = await reader.next()
        if part is None:
            raise UnfitError("the archive answers with nothing")
        while data := await part.read_chunk(_STREAMED):  # type: ignore[union-attr]
            take(bytes(data))
        another = await reader.next()
    except (AssertionError, ValueError) as error:  # of aiohttp, where the answer breaks off
        raise ShortError("the connection was cut within the file") from error
    if another is not None:
        raise UnfitError("the archive answers with several files")
    if not reader.at_eof():
        raise ShortError("the connection was cut within the file")


def _files(url: Url, folder: Path, instances: Sequence[Attributes]) -> Iterator[RemoteFile]:
    """The levels among a series' instances."""
    for told in sorted(instances, key=lambda one: _text(one, _SOP_INSTANCE)):
        kind = (_values(told, _IMAGE_TYPE) + [""] * 3)[2]
        if _text(told, _SOP_CLASS) not in (_WHOLE_SLIDE, "") or kind not in ("VOLUME", ""):
            continue
        uid = _checked(_text(told, _SOP_INSTANCE))
        place = f"{url.text}/instances/{uid}"
        yield RemoteFile(
            shown=place,
            path=folder / "instances" / f"{uid}.dcm",
            address=_http(place),
            size=_size(told),
            version=f"instance {uid}",
            ranged=False,
            exact=False,
        )


def _size(told: Attributes) -> int:
    """Bytes that an instance has at most, as far as that can be known."""
    frames = _number(told, _FRAMES) or 1.0
    raw = _number(told, _ROWS) * _number(told, _COLUMNS) * frames * 3
    if not 0 < raw < 1e15:
        return _UNKNOWN
    ratio = _number(told, _RATIO)
    packed = raw * _MARGIN / ratio if ratio > _MARGIN else raw
    return math.ceil(packed * 1.02 + frames * _A_FRAME + _SLACK)


def _checked(uid: str) -> str:
    """A UID, which becomes the name of a file.

    Raises:
        UnfitError: it is none.
    """
    if not _UID.fullmatch(uid) or len(uid) > 64:
        raise UnfitError("the archive lists what has no valid UID")
    return uid


def _values(told: Attributes, tag: str) -> list[Any]:
    element = told.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _text(told: Attributes, tag: str) -> str:
    values = _values(told, tag)
    return str(values[0]) if values and isinstance(values[0], str) else ""


def _number(told: Attributes, tag: str) -> float:
    """A number; 0 where there is none. Of several compressions the last one counts for all."""
    try:
        number = float(_values(told, tag)[-1])
    except (IndexError, TypeError, ValueError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0


def _http(place: str) -> str:
    return place.removeprefix("dicomweb+")


def _proxy(address: str, host: str) -> str | None:
    """The environment's proxy for a server, as curl finds it."""
    if proxy_bypass(host):
        return None
    return getproxies().get(urlsplit(address).scheme)


def _authorisation(host: str) -> dict[str, str]:
    """By the token in the environment, else by netrc; nothing where there is neither.

    Raises:
        ConfigError: one of them is there, and can't be used.
    """
    token = os.environ.get(TOKEN, "").strip()
    if token:
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigError(f"{TOKEN}: is no token: it holds a space, or what can't be printed")
        return {"Authorization": f"Bearer {token}"}
    file = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        entry = netrc.netrc(file).authenticators(host)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        # What is wrong may quote a password.
        raise ConfigError(f"{file}: can't be read as netrc; mend it, or set {TOKEN}") from None
    if not entry:
        return {}
    user, _, password = entry
    both = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {both}"}
