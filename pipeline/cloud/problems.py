"""What went wrong with an object store or a server, in a line, and whether trying again may help.

Libraries of each provider raise what they like; what they have in common is a status of HTTP, or a
code of the provider somewhere in the chain of causes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.cloud.urls import without_secrets
from pipeline.errors import is_disk_full

_EXPIRED = ("expired", "tokenrefreshrequired", "requesttimetooskewed")
_NO_CREDENTIAL = ("nocredentials", "defaultcredentials", "credentialunavailable")
_WRONG_CREDENTIAL = ("clientauthentication", "invalidaccesskeyid", "signaturedoesnotmatch")
_AGAIN = (408, 425, 429)
"""Statuses below 500 that ask to come again."""


class UnfitError(Exception):
    """A server answers with what is no file; the text says what to do."""


class ChangedError(Exception):
    """A file is another one than was listed."""


@dataclass(frozen=True)
class Problem:
    """What went wrong.

    Attributes:
        text: what, and what to do.
        code: a key of `configs.codes.REFUSALS`.
        passing: whether trying again may help.
    """

    text: str
    code: str
    passing: bool = False


def explain(error: BaseException, signed: bool = False) -> Problem:
    """What an error of a store or a server means.

    Args:
        error: that was raised.
        signed: whether the URL carries a query, which may be a signature.
    """
    if isinstance(error, UnfitError):
        return Problem(str(error), "remote-denied")
    if isinstance(error, ChangedError):
        return _changed()
    chain = list(_chain(error))
    words = " ".join(f"{type(one).__name__} {_code(one)} {one}" for one in chain).lower()
    status = next((found for one in chain if (found := _status(one))), 0)
    if any(map(is_disk_full, chain)):
        text = "no space left on the disk of the scratch folder; see cloud.scratch"
        return Problem(text, "scratch-full")
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return Problem("is not there (404)", "remote-gone")
    if "invalidobjectstate" in words:
        return Problem("is archived; restore it in its store first", "remote-denied")
    if status == 412:
        return _changed()
    denied = isinstance(error, PermissionError) or status in (401, 403)
    if any(word in words for word in _EXPIRED) and (denied or status == 400):
        todo = "sign the URL anew" if signed else "renew it"
        return Problem(f"the credential has expired; {todo}, and start again", "remote-denied")
    if any(word in words for word in _NO_CREDENTIAL):
        todo = "set those of the provider, or cloud.anonymous for a public place"
        return Problem(f"no credentials were found; {todo}", "remote-denied")
    if denied or any(word in words for word in _WRONG_CREDENTIAL):
        told = f"access is denied ({status or 403}): {_reason(error)}"
        todo = "the signed URL may have expired" if signed else "check credentials and permissions"
        return Problem(f"{told}; {todo}", "remote-denied")
    if 400 <= status < 500 and status not in _AGAIN:
        return Problem(f"the server refuses ({status}): {_reason(error)}", "remote-denied")
    return Problem(f"can't be fetched: {_reason(error)}", "remote-cut", passing=True)


def lacks_room(error: BaseException) -> bool:
    """Whether there was no room on a disk here, whatever a library made of that."""
    return any(map(is_disk_full, _chain(error)))


def _changed() -> Problem:
    return Problem("was changed since it was listed; start again", "remote-changed")


def _reason(error: BaseException) -> str:
    """What an error says, on one line, without secrets."""
    said = " ".join(without_secrets(str(error)).split())[:300]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it."""
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int:
    """The status of HTTP that an error tells of, by whichever library; 0 where it tells none."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if isinstance(status, int):
            return status
    if type(error).__module__ == "aiohttp.http_exceptions":
        return 0  # of what it could make of an answer: one that was cut is 400 to it
    for name in ("status", "status_code", "code"):  # of aiohttp, Azure's, gcsfs's
        try:
            status = int(getattr(error, name, 0) or 0)
        except (TypeError, ValueError):
            continue
        if 300 <= status < 600:
            return status
    return 0


def _code(error: BaseException) -> str:
    """The provider's own code, where an error has one."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", ""))
    return str(getattr(error, "error_code", ""))
