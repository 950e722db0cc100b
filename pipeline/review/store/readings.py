"""What one reader has decided about one slide, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from pipeline.reports.report import encodable

Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in level-0 pixels, half-open."""

Round = Literal["reading", "adjudication"]
Verdict = Literal["agree", "class", "reject", "unsure", "none", "added", "removed"]
"""``none``: undecided again; ``removed``: a cell that the reader had added, taken away."""

Adequacy = Literal["satisfactory", "unsatisfactory"]

UNDECIDED: frozenset[Verdict] = frozenset({"none", "removed"})

REJECTED = "no cell"
"""What a rejected finding counts as, beside the classes."""

UNSURE = "unsure"


@dataclass(frozen=True)
class Reader:
    """Who reads. `id` holds within one folder; 0 is nobody: the consensus."""

    id: int
    name: str


@dataclass(frozen=True, eq=False)
class SlideKey:
    """Which slide: two are the same where their content is.

    Attributes:
        sha256: hash of the content of the slide's files, of its fingerprint.json. Empty where the
            results have none: then the name alone tells slides apart.
        name: of the folder of its results; shown to people.
    """

    sha256: str
    name: str

    @property
    def identity(self) -> str:
        """What tells it from other slides; as text that UTF-8 can hold, whatever the name is."""
        return f"sha256:{self.sha256}" if self.sha256 else f"name:{encodable(self.name)}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SlideKey) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)


@dataclass(frozen=True)
class Said:
    """What the report said of a cell when it was decided."""

    label: str
    score: float
    box: Box


@dataclass(frozen=True)
class CellDecision:
    """What a reader says of one cell.

    Attributes:
        key: `cell_key` of a cell of the report; "a" and 32 hex digits of one that was added.
        box: where it is now; other than `said.box` where the reader has moved it.
        verdict: what was decided.
        label: its class where it is a cell: for ``agree`` the report's.
        note: free text.
        said: what the report said; None of an added cell.
        at: when, UTC, ISO 8601.
        seconds: that this decision took; of several about one cell, the last one.
        entry: number of the entry that says so.
    """

    key: str
    box: Box
    verdict: Verdict
    label: str | None
    note: str
    said: Said | None
    at: str
    seconds: float
    entry: int

    @property
    def decided(self) -> bool:
        """Whether anything is said of the cell."""
        return self.verdict not in UNDECIDED

    @property
    def call(self) -> str | None:
        """The one word by which readers are compared: a class, `REJECTED`, `UNSURE` or None."""
        if not self.decided:
            return None
        if self.verdict == "reject":
            return REJECTED
        return UNSURE if self.verdict == "unsure" else self.label


@dataclass(frozen=True)
class RegionMark:
    """A region that was read exhaustively: every cell in it was decided or drawn."""

    key: str
    box: Box
    note: str


@dataclass(frozen=True)
class SlideDecision:
    """What a reader says of the whole slide; `signed` is when he signed it off (UTC)."""

    adequacy: Adequacy | None = None
    category: str | None = None
    comment: str = ""
    signed: str | None = None


@dataclass(frozen=True)
class Reading:
    """All that one reader has said of one slide in one round.

    Attributes:
        slide: which.
        reader: who.
        round: whether it is a reading of his own, or the adjudication of others'.
        version: how many entries it has; a change names the version that it builds on.
        cells: by key; undone ones are not in it, ``none`` and ``removed`` are.
        regions: by key.
        decision: of the whole slide.
        can_undo: whether anything stands that was not undone.
        can_redo: whether anything was undone that can come back.
        seconds: spent, all entries together, undone ones too.
    """

    slide: SlideKey
    reader: Reader
    round: Round = "reading"
    version: int = 0
    cells: Mapping[str, CellDecision] = field(default_factory=lambda: MappingProxyType({}))
    regions: Mapping[str, RegionMark] = field(default_factory=lambda: MappingProxyType({}))
    decision: SlideDecision = SlideDecision()
    can_undo: bool = False
    can_redo: bool = False
    seconds: float = 0.0

    @property
    def decided(self) -> int:
        """How many cells are decided."""
        return sum(cell.decided for cell in self.cells.values())

    @property
    def signed(self) -> bool:
        """Whether the slide is signed off."""
        return self.decision.signed is not None


def cell_key(box: Box) -> str:
    """The name of a cell of a report, which stays while its box does: ``x0_y0_x1_y1``.

    Args:
        box: of the cell as the report has it; one decimal counts.
    """
    # Adding 0.0 turns -0.0 into 0.0.
    return "_".join(f"{round(float(side), 1) + 0.0:.1f}" for side in box)
