"""From entries to a reading: each entry sets one thing, undo and redo are entries, too.

`Fold` is kept while a slide is read and takes one entry at a time; what stands is what folding all
entries anew would give, but for what an undo takes back: then the value before comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pipeline.review.store.changes import (
    ADDED_KEY,
    AnyChange,
    CellChange,
    RegionChange,
    SignChange,
    SlideChange,
)
from pipeline.review.store.errors import ChangeError
from pipeline.review.store.layers import Layers
from pipeline.review.store.readings import (
    Box,
    CellDecision,
    Reader,
    Reading,
    RegionMark,
    Round,
    Said,
    SlideDecision,
    SlideKey,
)

Kind = Literal["cell", "region", "slide", "sign", "undo", "redo"]

_KEY_SLACK = 0.1
"""Level-0 px between a cell's key and its box: keys have one decimal, boxes may be float32."""


@dataclass(frozen=True)
class Entry:
    """One line of the record, as it was written; nothing of it is ever changed.

    Attributes:
        id: its number in the whole folder, rising.
        request: the client's own id of the change.
        slide: which.
        reader: who.
        round: in which round.
        version: of the reading after it, from 1.
        at: when, UTC, ISO 8601.
        seconds: that were spent on it.
        kind: what it is.
        body: its content, as `changes` describes it.
        target: of an undo or a redo, the id of the entry that it takes back or brings back.
    """

    id: int
    request: str
    slide: SlideKey
    reader: Reader
    round: Round
    version: int
    at: str
    seconds: float
    kind: Kind
    body: Mapping[str, Any]
    target: int | None = None


@dataclass
class _Step:
    """An entry that stands or was undone, and what stood before it in its place."""

    entry: Entry
    before: CellDecision | RegionMark | SlideDecision | None


@dataclass
class Fold:
    """The state of one reading, entry by entry."""

    slide: SlideKey
    reader: Reader
    round: Round
    version: int = 0
    seconds: float = 0.0
    decided: int = 0
    cells: Layers[CellDecision] = field(default_factory=Layers)
    regions: Layers[RegionMark] = field(default_factory=Layers)
    decision: SlideDecision = field(default_factory=SlideDecision)
    done: list[_Step] = field(default_factory=list)
    undone: list[_Step] = field(default_factory=list)

    def reading(self) -> Reading:
        """The state as a value, which later entries don't change."""
        return Reading(
            self.slide,
            self.reader,
            self.round,
            self.version,
            self.cells.snapshot(),
            self.regions.snapshot(),
            self.decision,
            bool(self.done),
            bool(self.undone),
            self.seconds,
        )

    def target(self, kind: Kind) -> int | None:
        """The entry that an undo or a redo is about.

        Raises:
            ChangeError: there is none.
        """
        if kind not in {"undo", "redo"}:
            return None
        steps = self.done if kind == "undo" else self.undone
        if not steps:
            raise ChangeError(f"{self.slide.name}: there is nothing to {kind}")
        return steps[-1].entry.id

    def add(self, entry: Entry) -> None:
        """Takes the next entry.

        Raises:
            ValueError: it is not the next one, or is about something else than it says; KeyError
                and TypeError where its body is not as it is written here.
        """
        if entry.version != self.version + 1 or entry.target != self._expected(entry.kind):
            raise ValueError(f"entry {entry.id} does not follow")
        if entry.kind == "undo":
            step = self.done.pop()
            self._put(step.entry, step.before)
            self.undone.append(step)
        elif entry.kind == "redo":
            again = self.undone.pop().entry
            self.done.append(_Step(again, self._current(again)))
            self._put(again, self._resolve(again))
        else:
            resolved = self._resolve(entry)
            self.done.append(_Step(entry, self._current(entry)))
            self.undone.clear()
            self._put(entry, resolved)
        self.version, self.seconds = entry.version, self.seconds + entry.seconds

    def _expected(self, kind: Kind) -> int | None:
        steps = {"undo": self.done, "redo": self.undone}.get(kind)
        return steps[-1].entry.id if steps else None

    def _current(self, entry: Entry) -> CellDecision | RegionMark | SlideDecision | None:
        if entry.kind == "cell":
            return self.cells.find(entry.body["key"])
        if entry.kind == "region":
            return self.regions.find(entry.body["key"])
        return self.decision

    def _put(self, entry: Entry, value: CellDecision | RegionMark | SlideDecision | None) -> None:
        if isinstance(value, SlideDecision):
            self.decision = value
        elif entry.kind == "cell":
            self._put_cell(entry.body["key"], value if isinstance(value, CellDecision) else None)
        elif isinstance(value, RegionMark):
            self.regions[value.key] = value
        else:
            self.regions.pop(entry.body["key"], None)

    def _put_cell(self, key: str, value: CellDecision | None) -> None:
        known = self.cells.find(key)
        self.decided -= known is not None and known.decided
        if value is not None:
            self.cells[key] = value
            self.decided += value.decided
        elif known is not None:
            del self.cells[key]

    def _resolve(self, entry: Entry) -> CellDecision | RegionMark | SlideDecision | None:
        body = entry.body
        if entry.kind == "cell":
            return resolve_cell(self.cells.find(body["key"]), entry)
        if entry.kind == "region":
            known = self.regions.find(body["key"])
            note = body.get("note")
            if body.get("box") is None:
                return None
            return RegionMark(
                body["key"], _box(body["box"]), _kept(note, known.note if known else None)
            )
        if entry.kind == "sign":
            return replace(self.decision, signed=entry.at if body["signed"] else None)
        return replace(
            self.decision,
            adequacy=body.get("adequacy", self.decision.adequacy),
            category=body.get("category", self.decision.category),
            comment=body.get("comment", self.decision.comment) or "",
        )


def resolve_cell(known: CellDecision | None, entry: Entry) -> CellDecision:
    """What an entry about a cell comes to, given what stood: what it leaves out stays.

    An ``agree`` has the report's class. A decision that is no cell has no class.
    """
    body = entry.body
    said = _said(body.get("said")) or (known.said if known else None)
    if body.get("box") is not None:
        box = _box(body["box"])
    elif known:
        box = known.box
    elif said:
        box = said.box
    else:
        raise ValueError(f"entry {entry.id} has no box")
    label: str | None = None
    if body["verdict"] in {"class", "added"}:
        label = body.get("label") or (known.label if known else None)
    elif body["verdict"] == "agree" and said:
        label = said.label
    note = _kept(body.get("note"), known.note if known else None)
    return CellDecision(
        body["key"], box, body["verdict"], label, note, said, entry.at, entry.seconds, entry.id
    )


def check(fold: Fold, change: AnyChange) -> None:
    """Whether a change fits what stands.

    Raises:
        ChangeError: it does not; says why and what to do.
    """
    name = fold.slide.name
    if fold.decision.signed and isinstance(change, CellChange | RegionChange | SlideChange):
        raise ChangeError(f"{name}: it is signed off; take the signature back to change anything")
    if isinstance(change, CellChange):
        _check_cell(fold, change)
    elif isinstance(change, RegionChange):
        if change.box is None and change.key not in fold.regions:
            raise ChangeError(f"{name}: region {change.key} is not marked: nothing to take away")
    elif isinstance(change, SlideChange):
        if not change.model_fields_set & {"adequacy", "category", "comment"}:
            raise ChangeError(f"{name}: the change names nothing: adequacy, category or comment")
    elif isinstance(change, SignChange):
        if change.signed == bool(fold.decision.signed):
            raise ChangeError(f"{name}: it is {'already' if change.signed else 'not'} signed off")
    else:
        fold.target(change.kind)


def _check_cell(fold: Fold, change: CellChange) -> None:
    known = fold.cells.find(change.key)
    cell = f"{fold.slide.name}, cell {change.key}"
    if ADDED_KEY.fullmatch(change.key):
        _check_added(change, known, cell, fold.round == "adjudication")
        return
    if change.verdict in {"added", "removed"}:
        raise ChangeError(
            f"{cell}: only a cell that a reader has drawn, whose key is a and 32 hex digits, can "
            f"be {change.verdict}; reject one of the report"
        )
    said = change.said.value() if change.said else known.said if known else None
    if said is None:
        raise ChangeError(f"{cell}: the first decision has to tell what the report said (said)")
    if not _names(change.key, said.box):
        raise ChangeError(f"{cell}: said.box is another cell's: the key is made of the box")
    if change.verdict == "class" and not (change.label or (known and known.label)):
        raise ChangeError(f"{cell}: which class? label is missing")
    if change.verdict == "agree" and change.label not in {None, said.label}:
        raise ChangeError(
            f"{cell}: agree means {said.label}, as the report says; {change.label} is a class"
        )
    if change.verdict in {"reject", "unsure", "none"} and change.label:
        raise ChangeError(f"{cell}: {change.verdict} has no class, and label says {change.label}")


def _check_added(
    change: CellChange, known: CellDecision | None, cell: str, adjudicating: bool
) -> None:
    """Of a cell that somebody drew. An adjudicator decides about those of others, too."""
    allowed = ["added", "removed", *(["reject", "unsure"] if adjudicating else [])]
    if change.said is not None:
        raise ChangeError(f"{cell}: of an added cell the report says nothing, and said is there")
    if change.verdict not in allowed:
        raise ChangeError(
            f"{cell}: of an added cell the verdict is one of {', '.join(allowed)}, not "
            f"{change.verdict}"
        )
    if change.verdict == "removed" and not adjudicating and (known is None or not known.decided):
        raise ChangeError(f"{cell}: it is not there: nothing to remove")
    if change.verdict != "added" and change.label:
        raise ChangeError(f"{cell}: {change.verdict} has no class, and label says {change.label}")
    if change.box is None and known is None:
        raise ChangeError(f"{cell}: where is it? box is missing")
    if change.verdict == "added" and not (change.label or (known and known.label)):
        raise ChangeError(f"{cell}: which class? label is missing")


def _names(key: str, box: Box) -> bool:
    """Whether a key is that of a box, within what rounding does."""
    try:
        sides = [float(side) for side in key.split("_")]
    except ValueError:
        return False
    return len(sides) == 4 and all(
        abs(side - other) <= _KEY_SLACK for side, other in zip(sides, box, strict=True)
    )


def _said(body: Mapping[str, Any] | None) -> Said | None:
    return Said(body["label"], float(body["score"]), _box(body["box"])) if body else None


def _box(sides: list[float]) -> Box:
    left, top, right, bottom = map(float, sides)
    return left, top, right, bottom


def _kept(note: str | None, known: str | None) -> str:
    return (known or "") if note is None else note
