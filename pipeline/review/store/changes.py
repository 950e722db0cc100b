"""What a client may ask to be changed: checked in form and size here, against the state later."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from configs import StrictModel
from pipeline.review.store.errors import ChangeError
from pipeline.review.store.readings import Adequacy, Box, Said, Verdict

LONGEST_NOTE = 2_000
LONGEST_COMMENT = 10_000
LONGEST_NAME = 100
"""Characters."""

_FARTHEST = 1e8
"""Level-0 px; no slide is as wide."""

_DAY_S = 86_400.0


def checked_box(box: Box) -> Box:
    """A box that is one, on a slide.

    Raises:
        ValueError: it is not.
    """
    if not all(math.isfinite(side) and abs(side) <= _FARTHEST for side in box):
        raise ValueError("a side of the box is not a place on a slide")
    if box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError("the box is empty: it needs x_min < x_max and y_min < y_max")
    return box


def _checked_text(text: str) -> str:
    """Text as it is kept; the signs that a person can't see but for line breaks are refused."""
    text = unicodedata.normalize("NFC", text)
    if any(unicodedata.category(sign) in {"Cc", "Cs"} and sign not in "\n\r\t" for sign in text):
        raise ValueError("the text has control characters")
    return text


PlacedBox = Annotated[Box, AfterValidator(checked_box)]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]{1,100}$")]
Label = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(_checked_text)]
Note = Annotated[str, Field(max_length=LONGEST_NOTE), AfterValidator(_checked_text)]
Comment = Annotated[str, Field(max_length=LONGEST_COMMENT), AfterValidator(_checked_text)]

ADDED_KEY = re.compile(r"a[0-9a-f]{32}")
"""Keys of cells that a reader added."""


class SaidChange(StrictModel):
    """What the report says of the cell that is decided."""

    label: Label
    score: float = Field(ge=0, le=1, allow_inf_nan=False)
    box: PlacedBox

    def value(self) -> Said:
        """The same as a value."""
        return Said(self.label, self.score, self.box)


class _Change(StrictModel):
    """Common to all changes.

    Attributes:
        id: the client's own, 32 hex digits of a UUID: sent again, it changes nothing more.
        version: of the reading that the client knows.
        seconds: that were spent on it.
    """

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    version: int = Field(ge=0, le=2**53)
    seconds: float = Field(default=0.0, ge=0, le=_DAY_S, allow_inf_nan=False)

    def body(self) -> dict[str, Any]:
        """What of it is kept as its content; what was not named is not in it."""
        outer = {"id", "version", "seconds", "kind"}
        return self.model_dump(mode="json", exclude=outer, exclude_unset=True)


class CellChange(_Change):
    """A decision about one cell; what is left out stays as it was.

    Attributes:
        key: of the cell.
        verdict: what is decided.
        label: its class; needed for ``class`` and ``added``.
        said: what the report says; needed with the first decision about a cell of the report.
        box: where the cell is, where the reader has drawn or moved it.
        note: free text.
    """

    kind: Literal["cell"] = "cell"
    key: Key
    verdict: Verdict
    label: Label | None = None
    said: SaidChange | None = None
    box: PlacedBox | None = None
    note: Note | None = None


class RegionChange(_Change):
    """A region is marked as read exhaustively, or moved; without a box the mark is taken away."""

    kind: Literal["region"] = "region"
    key: Key
    box: PlacedBox | None = None
    note: Note | None = None


class SlideChange(_Change):
    """What is said of the whole slide; null takes it back, what is left out stays."""

    kind: Literal["slide"] = "slide"
    adequacy: Adequacy | None = None
    category: Label | None = None
    comment: Comment | None = None


class SignChange(_Change):
    """The slide is signed off, or the signature taken back."""

    kind: Literal["sign"] = "sign"
    signed: bool


class UndoChange(_Change):
    """The last change that stands is taken back."""

    kind: Literal["undo"] = "undo"


class RedoChange(_Change):
    """What was undone last comes back."""

    kind: Literal["redo"] = "redo"


AnyChange = CellChange | RegionChange | SlideChange | SignChange | UndoChange | RedoChange

Change = Annotated[AnyChange, Field(discriminator="kind")]
"""One change; `kind` says which."""

_ADAPTER: TypeAdapter[Any] = TypeAdapter(Change)


def parse_change(data: object) -> AnyChange:
    """A change of what a client sent, a mapping as of JSON.

    Raises:
        ChangeError: it is none; names the first key that is wrong.
    """
    try:
        return _ADAPTER.validate_python(data)  # type: ignore[no-any-return]
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "change"
        raise ChangeError(f"{where}: {first['msg']}") from None


def checked_name(name: str) -> str:
    """A reader's name as it is kept: blanks put right.

    Raises:
        ChangeError: it is empty, too long or has characters that can't be seen.
    """
    name = " ".join(unicodedata.normalize("NFC", name).split())
    if not name:
        raise ChangeError("the reader's name is empty")
    if len(name) > LONGEST_NAME:
        raise ChangeError(f"the reader's name is longer than {LONGEST_NAME} characters")
    if any(unicodedata.category(sign)[0] == "C" for sign in name):
        raise ChangeError("the reader's name has characters that can't be seen")
    return name
