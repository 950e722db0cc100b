"""What can go wrong with reviews; each text is one line that says what and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from configs import CytoLibraError

if TYPE_CHECKING:
    from pipeline.review.store.readings import Reading

Trouble = Literal["missing", "damaged", "newer", "foreign", "full", "read-only", "locked", "failed"]
"""Why the file of the reviews can't be used; `failed` is whatever the system says otherwise."""


class ReviewError(CytoLibraError):
    """Something is wrong with reviews; what was acknowledged before is kept."""


class StoreError(ReviewError):
    """The file of the reviews can't be opened, read or written; nothing of the call was kept.

    Attributes:
        code: why.
    """

    def __init__(self, text: str, code: Trouble = "failed") -> None:
        super().__init__(text)
        self.code: Trouble = code


class ChangeError(ReviewError):
    """A change that does not fit what stands, or comes when it may not; nothing was changed."""


class StaleError(ReviewError):
    """The reading is another than the one that the client knows: changed from a second place.

    Attributes:
        current: the reading now.
    """

    def __init__(self, current: Reading, known: int) -> None:
        super().__init__(
            f"{current.slide.name}: this reading was changed in another window (its version is "
            f"{current.version}, not {known}); look at it as it is now, and decide again"
        )
        self.current = current
        self.known = known
