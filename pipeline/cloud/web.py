"""Single files on web servers, by https or http; also what object stores give signed URLs for.

A file is asked about by asking for its first byte: a URL that is signed for reading answers nothing
else. Servers list nothing that could be relied upon, so each file is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pipeline.cloud.problems import UnfitError
from pipeline.cloud.settings import CloudSettings
from pipeline.cloud.store import RemoteFile, Store, import_extra
from pipeline.cloud.sums import known_sums, md5_of_etag
from pipeline.cloud.urls import Url

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_DIGEST = re.compile(r"(sha-256|md5)=:?([A-Za-z0-9+/=]+):?", re.IGNORECASE)
_GOOGLE = re.compile(r"(crc32c|md5)=([A-Za-z0-9+/=]+)")
_STREAMED = 1 << 20


class WebStore(Store):
    """Web servers.

    Args:
        settings: how they are asked.
    """

    def __init__(self, settings: CloudSettings) -> None:
        self._settings = settings
        self._session: Any = None

    def path_of(self, url: Url) -> Path:
        """See `Store`."""
        split = urlsplit(url.text)
        host = split.hostname or ""
        return Path(f"{url.scheme}:", host, *map(_plain, filter(None, split.path.split("/"))))

    async def look(self, url: Url) -> RemoteFile | None:
        """See `Store`."""
        file = RemoteFile(url.shown, self.path_of(url), url.text, 0, "", signed=url.signed)
        return await self.head(file)

    async def list(self, url: Url) -> Sequence[RemoteFile]:
        """See `Store`; never called."""
        raise NotImplementedError(f"{url}: servers don't list")

    async def head(self, file: RemoteFile) -> RemoteFile:
        """See `Store`."""
        async with await self._get(file, {"Range": "bytes=0-0"}) as answer:
            told = answer.headers
            partial = _RANGE.fullmatch(told.get("Content-Range", ""))
            ranged = answer.status == 206 and partial is not None
            empty = answer.status == 416 and told.get("Content-Range") == "bytes */0"
            if not empty:
                answer.raise_for_status()
            if told.get("Content-Type", "").startswith("text/html"):
                raise UnfitError("the server answers with a page, not with a file")
            size = int(partial[3]) if partial else int(told.get("Content-Length", -1))
            if not ranged:
                answer.close()  # all of it would come
            if size < 0:
                raise UnfitError("the server doesn't say how large the file is")
        version = told.get("ETag") or ""
        version = "" if version.startswith("W/") else version.strip('"')
        version = version or _modified(told)
        return replace(
            file,
            size=0 if empty else size,
            version=version,
            sums=_sums(told, whole=not ranged),
            ranged=ranged or empty,
        )

    async def read(self, file: RemoteFile, start: int, end: int) -> bytes:
        """See `Store`."""
        wanted = {"Range": f"bytes={start}-{end - 1}"}
        async with await self._get(file, wanted) as answer:
            answer.raise_for_status()
            partial = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if answer.status != 206 or not partial or int(partial[1]) != start:
                answer.close()
                raise OSError("the server sent another piece than was asked for")
            data: bytes = await answer.read()
            return data

    async def stream(self, file: RemoteFile, take: Any) -> None:
        """See `Store`."""
        async with await self._get(file, {}) as answer:
            answer.raise_for_status()
            async for data in answer.content.iter_chunked(_STREAMED):
                take(data)

    async def _get(self, file: RemoteFile, headers: Mapping[str, str]) -> Any:
        if self._session is None:
            aiohttp: Any = import_extra("aiohttp", Url("https", "", file.shown))
            timeout = aiohttp.ClientTimeout(total=None, sock_read=self._settings.timeout_s)
            # Proxies are taken from the environment, as curl does.
            self._session = aiohttp.ClientSession(timeout=timeout, trust_env=True)
        from yarl import URL

        asked = {"Accept-Encoding": "identity", **headers}
        # A signature holds for the URL as it is written, where it is written as URLs are.
        encoded = file.address.isascii() and " " not in file.address
        return await self._session.get(URL(file.address, encoded=encoded), headers=asked)

    async def close(self) -> None:
        """See `Store`."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _plain(part: str) -> str:
    """A part of a URL's path as a name on a disk, where it can be one."""
    plain = unquote(part)
    odd = plain in ("", ".", "..") or "/" in plain or not plain.isprintable()
    return quote(part, safe="%") if odd else plain


def _modified(told: Mapping[str, str]) -> str:
    when = told.get("Last-Modified")
    return f"modified {when}" if when else ""


def _sums(told: Mapping[str, str], whole: bool) -> dict[str, bytes]:
    """The checksums that a server tells of the whole file.

    Args:
        told: the headers of its answer.
        whole: whether that holds the whole file; Content-MD5 is of what the answer holds.
    """
    sums: dict[str, str | bytes | None] = {}
    sums["md5"] = told.get("x-ms-blob-content-md5") or (told.get("Content-MD5") if whole else None)
    for header, kinds in (("Repr-Digest", _DIGEST), ("x-goog-hash", _GOOGLE)):
        for kind, value in kinds.findall(", ".join(told.getall(header, []))):  # type: ignore[attr-defined]
            sums[kind.lower().replace("sha-256", "sha256")] = value
    if told.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT":
        for kind in ("sha256", "sha1", "crc32c", "crc32"):
            sums[kind] = told.get(f"x-amz-checksum-{kind}") or sums.get(kind)
    own = told.get("x-amz-server-side-encryption", "").startswith("aws:kms")
    if "x-amz-request-id" in told and not own:
        sums["md5"] = md5_of_etag(told.get("ETag"))
    return known_sums(sums)
