import errno

import pytest

from pipeline.cloud.problems import ChangedError, UnfitError, explain, lacks_room


class StatusError(Exception):
    """As aiohttp and Azure raise them."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status = status


class ClientError(Exception):
    """As botocore raises them."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"An error occurred ({code})")
        self.response = {
            "Error": {"Code": code},
            "ResponseMetadata": {"HTTPStatusCode": status},
        }


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


class NoCredentialsError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "code", "words", "passing"),
    [
        (FileNotFoundError("key"), "remote-gone", "is not there", False),
        (StatusError(404), "remote-gone", "is not there", False),
        (
            caused(PermissionError("The provided token"), ClientError(403, "ExpiredToken")),
            "remote-denied",
            "the credential has expired; renew it",
            False,
        ),
        (ClientError(400, "ExpiredToken"), "remote-denied", "has expired", False),
        (PermissionError("Access Denied"), "remote-denied", "access is denied (403)", False),
        (StatusError(401, "who?"), "remote-denied", "access is denied (401)", False),
        (ClientError(403, "InvalidObjectState"), "remote-denied", "is archived", False),
        (NoCredentialsError("Unable"), "remote-denied", "no credentials were found", False),
        (ClientError(412, "PreconditionFailed"), "remote-changed", "was changed", False),
        (ChangedError(), "remote-changed", "was changed", False),
        (UnfitError("a page"), "remote-denied", "a page", False),
        (StatusError(416), "remote-denied", "refuses (416)", False),
        (OSError(errno.ENOSPC, "full"), "scratch-full", "no space left", False),
        (StatusError(503, "slow down"), "remote-cut", "slow down", True),
        (StatusError(429), "remote-cut", "can't be fetched", True),
        (ConnectionResetError("reset by peer"), "remote-cut", "reset by peer", True),
        (TimeoutError(), "remote-cut", "TimeoutError", True),
        (ValueError("what?"), "remote-cut", "ValueError: what?", True),
    ],
)
def test_errors_of_every_library_are_told_in_a_line(error, code, words, passing):
    problem = explain(error)
    assert (problem.code, problem.passing) == (code, passing)
    assert words in problem.text
    assert "\n" not in problem.text


def test_a_signature_is_never_told_and_may_be_what_has_expired():
    error = StatusError(403, "403, message='Forbidden', url='https://h/a.svs?sig=secret'")
    problem = explain(error, signed=True)
    assert "the signed URL may have expired" in problem.text
    assert "https://h/a.svs" in problem.text
    assert "secret" not in problem.text


def test_a_full_disk_is_known_behind_other_errors():
    assert lacks_room(caused(RuntimeError("?"), OSError(errno.EDQUOT, "quota")))
    assert not lacks_room(OSError(errno.EIO, "disk"))
