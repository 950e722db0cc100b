"""What can go wrong with a slide, or with who screens it."""

from __future__ import annotations

import errno

from configs import CytoLibraError
from configs.codes import REFUSALS
from configs.doubts import with_code
from configs.errors import one_line

PROCESS_DIED = "process-died"
"""Code of a slide whose process has died."""

_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class SlideError(CytoLibraError):
    """A slide can't be opened or screened; the batch goes on with the next.

    Args:
        text: one line that says what is wrong and what to do.
        code: a key of `configs.codes.REFUSALS` where a rule refuses it; shown behind the text.

    Attributes:
        code: the same; empty where the file is just damaged, gone or of no known kind.
    """

    def __init__(self, text: str, code: str = "") -> None:
        assert not code or code in REFUSALS, code
        super().__init__(with_code(text, code))
        self.text = one_line(text)
        self.code = code

    def __reduce__(self) -> tuple[type[SlideError], tuple[str, str]]:
        return type(self), (self.text, self.code)


class ReadError(SlideError):
    """One region of a slide can't be read; the slide goes on, the region is recorded as unread."""


class EngineError(CytoLibraError):
    """Nobody is left who could screen: no slide is at fault, and none would fare better.

    The batch ends; the same command goes on where it was.
    """


class WorkerLostError(SlideError):
    """The process or machine that read or screened the slide died; a second attempt may go well."""


def is_disk_full(error: BaseException) -> bool:
    """Whether there is no room left, on the disk or for who writes."""
    return isinstance(error, OSError) and error.errno in _DISK_FULL


def kind_and_text(error: BaseException) -> str:
    """An error that was not foreseen, or of somebody else's code, on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
