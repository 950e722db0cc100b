"""URLs of slides: as they are asked for, and as they are shown, without what is secret in them.

The query of an ``https`` URL may be a signature, which lets whoever has it read the file; what
stands before its host may be a password. Neither is ever written or told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from configs import ConfigError

BUCKETS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "az"),
}
"""Schemes of object stores, and of whom."""

WEB = ("https", "http")

DICOMWEB = ("dicomweb+https", "dicomweb+http")
"""Schemes of archives: what follows is the address of a study or series in DICOMweb."""

_ARCHIVED = re.compile(r"(.*?/studies/[0-9.]{1,64}(/series/[0-9.]{1,64})?)/?")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_COLLAPSED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/{1,2}[^/]")
_TOLD = re.compile(r"(https?://)([^\s/?#'\"@]*@)?([^\s?#'\"]*)([?#][^\s'\">)]*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Url:
    """Where slides lie that are fetched.

    Attributes:
        scheme: in lower case.
        text: as it is asked for, secrets and all.
        shown: as it is shown.
    """

    scheme: str
    text: str = field(repr=False)
    shown: str

    def __str__(self) -> str:
        return self.shown

    @property
    def is_web(self) -> bool:
        """Whether it names one file on a web server, rather than a place in an object store."""
        return self.scheme in WEB

    @property
    def is_dicomweb(self) -> bool:
        """Whether it names a study or a series in an archive."""
        return self.scheme in DICOMWEB

    @property
    def signed(self) -> bool:
        """Whether it carries a query, which may be a signature."""
        return self.is_web and bool(urlsplit(self.text).query)

    @property
    def parent(self) -> Url:
        """The folder above, in an object store."""
        above = self.text.rpartition("/")[0]
        return Url(self.scheme, above, above)

    def below(self, name: str) -> Url:
        """What lies in it by that name, in an object store."""
        text = f"{self.text}/{name}"
        return Url(self.scheme, text, text)


def parse_url(text: str) -> Url | None:
    """A URL of a kind that is read; None for what is no URL.

    Raises:
        ConfigError: it is of another kind, names no place, or carries a password where only the
            provider's environment is asked for one.
    """
    found = _SCHEME.match(text)
    if not found:
        return None
    scheme, rest = found[1].lower(), text[found.end() :]
    if scheme not in (*BUCKETS, *WEB, *DICOMWEB):
        known = ", ".join(f"{name}://" for name in ("s3", "gs", "az", "https", "dicomweb+https"))
        raise ConfigError(f"{scheme}://: slides are fetched from {known}; else name a path")
    host = rest.split("/", 1)[0]
    if scheme in BUCKETS:
        if ":" in host or ("@" in host and scheme not in ("abfs", "abfss")):
            raise ConfigError(
                f"{scheme}://: carries a key or a password; leave it out: credentials are taken "
                "from the provider's environment or configuration"
            )
        rest = rest.rstrip("/")
        if not host:
            raise ConfigError(f"{scheme}://: names no bucket")
        return Url(scheme, f"{scheme}://{rest}", f"{scheme}://{rest}")
    try:
        split = urlsplit(f"{scheme}://{rest}")
        named = bool(split.hostname) and (split.port or True)
    except ValueError:
        named = False
    if not named:
        raise ConfigError(f"{scheme}://: names no server")
    if scheme in DICOMWEB:
        return _archived(scheme, rest)
    shown = without_secrets(f"{scheme}://{rest}")
    if split.path in ("", "/") or split.path.endswith("/"):
        raise ConfigError(f"{shown}: web servers don't list folders; name each file by its URL")
    return Url(scheme, f"{scheme}://{rest}", shown)


def _archived(scheme: str, rest: str) -> Url:
    """A study or series in an archive.

    Raises:
        ConfigError: it is none, or carries a password or a query.
    """
    if "@" in rest.split("/", 1)[0] or "?" in rest or "#" in rest:
        raise ConfigError(
            f"{scheme}://: carries a password or a query; leave it out: a token is taken from "
            "CYTOLIBRA_DICOMWEB_TOKEN, a password from netrc"
        )
    found = _ARCHIVED.fullmatch(rest)
    if not found:
        raise ConfigError(
            f"{scheme}://{rest}: names no study or series; it ends in /studies/UID or "
            "/studies/UID/series/UID"
        )
    text = f"{scheme}://{found[1]}"
    return Url(scheme, text, text)


def is_collapsed(path: Path) -> bool:
    """Whether a path was a URL before it was made a path."""
    return bool(_COLLAPSED.match(str(path)))


def without_secrets(text: str) -> str:
    """Text with queries and passwords taken out of the URLs in it."""
    return _TOLD.sub(lambda found: found[1] + found[3], text)
