"""How far each slide is, for lists of thousands: from the heads of readings, without entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.review.store.readings import Adequacy, Reader, Round

State = Literal["unread", "begun", "signed", "differs", "adjudicated"]


@dataclass(frozen=True)
class Head:
    """What one reading has come to.

    Attributes:
        reader: who.
        round: in which round.
        version: how many entries it has.
        begun: whether anything stands that was not undone.
        decided: cells that are decided.
        signed: when it was signed off, UTC; None where it is not.
        adequacy: of the slide.
        category: of the slide.
        seconds: spent.
    """

    reader: Reader
    round: Round
    version: int
    begun: bool
    decided: int
    signed: str | None
    adequacy: Adequacy | None
    category: str | None
    seconds: float


@dataclass(frozen=True)
class SlideState:
    """How far one slide is.

    Attributes:
        heads: one a reading that has entries, in the order of readers.
        differs: whether differences between signed readings wait for adjudication.
    """

    heads: tuple[Head, ...]
    differs: bool

    @property
    def readings(self) -> tuple[Head, ...]:
        """Readings in which anything stands, without adjudications."""
        return tuple(head for head in self.heads if head.round == "reading" and head.begun)

    @property
    def begun(self) -> tuple[Reader, ...]:
        """Who reads and has not signed off."""
        return tuple(head.reader for head in self.readings if not head.signed)

    @property
    def signed(self) -> tuple[Reader, ...]:
        """Who has signed off his reading."""
        return tuple(head.reader for head in self.readings if head.signed)

    @property
    def adjudicated(self) -> bool:
        """Whether an adjudication is signed off."""
        return any(head.signed for head in self.heads if head.round == "adjudication")

    @property
    def is_open(self) -> bool:
        """Whether differences may be shown: two or more have signed off, and nobody still reads."""
        return len(self.signed) > 1 and not self.begun

    @property
    def decided(self) -> int:
        """Cells that are decided, by the reader who has decided most."""
        return max((head.decided for head in self.readings), default=0)

    @property
    def state(self) -> State:
        """In one word."""
        if self.differs:  # maybe from a reading that was signed off after an adjudication
            return "differs"
        if self.adjudicated:
            return "adjudicated"
        if self.begun:
            return "begun"
        return "signed" if self.signed else "unread"

    def head(self, reader: Reader, round: Round = "reading") -> Head | None:
        """Of one reader, None where he has entered nothing."""
        return next((h for h in self.heads if h.reader == reader and h.round == round), None)
