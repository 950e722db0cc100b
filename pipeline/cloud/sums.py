"""Checksums that stores tell of their files, and holding what was fetched against them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

_MD5 = re.compile(r"[0-9a-f]{32}")
_LENGTHS = {"sha256": 32, "sha1": 20, "md5": 16, "crc32c": 4, "crc32": 4}
"""Kinds that can be computed here, the strongest first, and their bytes."""


class _Sum(Protocol):
    def update(self, data: bytes, /) -> object: ...
    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def known_sums(told: Mapping[str, str | bytes | None]) -> dict[str, bytes]:
    """Checksums that were told, by kind: those that can be computed here and are whole.

    Args:
        told: as bytes, or as text: base64, or hexadecimal but for CRCs.
    """
    found = {}
    for kind, value in told.items():
        raw = bytes(value) if isinstance(value, bytes | bytearray) else _decode(value, kind)
        if raw and len(raw) == _LENGTHS.get(kind) and _maker(kind):
            found[kind] = raw
    return found


def md5_of_etag(etag: str | None) -> str | None:
    """The MD5 that an ETag is, where it looks like one: of a file that was sent in one piece."""
    text = (etag or "").strip('"').lower()
    return text if _MD5.fullmatch(text) else None


class Checker:
    """Computes the SHA-256 of what passes, and the strongest checksum that was told of it.

    Attributes:
        kind: of the checksum; empty where none was told.
    """

    def __init__(self, sums: Mapping[str, bytes]) -> None:
        self.kind = next((kind for kind in _LENGTHS if kind in sums), "")
        self._told = sums.get(self.kind, b"")
        self._sha256 = hashlib.sha256()
        maker = _maker(self.kind) if self.kind else None
        self._sum: _Sum | None = maker() if maker else None

    def update(self, data: bytes) -> None:
        """Takes the next bytes."""
        self._sha256.update(data)
        if self._sum:
            self._sum.update(data)

    @property
    def fits(self) -> bool:
        """Whether what has passed is what was told of."""
        return self._sum is None or self._sum.digest() == self._told

    @property
    def sha256(self) -> bytes:
        """Of what has passed."""
        return self._sha256.digest()


def _maker(kind: str) -> Callable[[], Any] | None:
    if kind == "crc32":
        return _Crc32
    if kind == "crc32c":
        try:
            from google_crc32c import Checksum  # comes with the extra's gcsfs
        except ImportError:
            return None
        made: Callable[[], Any] = Checksum
        return made
    return lambda: hashlib.new(kind, usedforsecurity=False)


def _decode(text: str | None, kind: str) -> bytes | None:
    if not text:
        return None
    try:
        if len(text) == 2 * _LENGTHS.get(kind, 0) and not kind.startswith("crc"):
            return bytes.fromhex(text)
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
