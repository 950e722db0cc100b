"""What is known of a slide after its review: cells, background, and what nobody can say.

The rules, for training as for evaluation:

- A region that was marked as read in full is known: what lies in it and is no cell is background.
- A cell that was agreed to, called otherwise, or added is a cell, at the box the reader left it.
  Outside of such regions its own box is a small region of its own.
- A finding that was rejected is background: outside of such regions its box is a small region with
  no cell in it, so that training learns it as what it was mistaken for.
- What a reader is unsure of is ignored: neither cell nor background.
- A finding that nobody decided is ignored, too, where it touches a region, small ones included: a
  region that was read in full should have none, and how many there were is told.
- Screened anew, a slide has other findings. What was decided about those of before holds, and how
  much that is is told, until something later is said of the same place (an IoU of 0.5 and more): a
  decision about a finding as it is now, or a cell that was drawn. A cell that was drawn gives way
  to a finding that was later said to be one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.fields.regions import touching
from pipeline.cells.classes import CellClass
from pipeline.geometry import Boxes, within_any
from pipeline.review.store import CellDecision, Reading
from pipeline.review.store.places import as_array, overlaps, replaced, said_boxes

UNSURE = "unsure: ignored"
UNDECIDED_IN_REGION = "findings in a region that was read in full, but not decided: ignored"
UNDECIDED_BESIDE = "undecided findings beside decided ones: ignored"
EARLIER = "decisions about findings of an earlier report, which this one has not: taken"
REPLACED = "decisions that a later one about the same place replaces: left out"
STRANGE_CLASS = "called by a class that the model does not have"


@dataclass(frozen=True)
class SlideFrame:
    """What a report says of a slide's frame.

    Attributes:
        name: of the folder of its results.
        path: of the slide.
        size: width and height, level-0 pixels.
        mpp: µm per level-0 pixel.
        origin: corner of what was scanned, level-0 pixels; QuPath counts from there.
        classes: of the model.
    """

    name: str
    path: Path
    size: tuple[int, int]
    mpp: float
    origin: tuple[int, int]
    classes: tuple[CellClass, ...]


@dataclass(frozen=True)
class SlideTruth:
    """What is known of a slide.

    Attributes:
        frame: of the slide.
        labels: (N,) class of each cell, by name.
        boxes: (N, 4) level-0 pixels.
        regions: (R, 4) where all is known: those read in full first, then the small ones.
        read_in_full: how many of them were.
        rejected: how many of the small ones are of findings that were rejected.
        ignored: (K, 4) neither cell nor background.
        told: how many of what was settled by a rule, by what it is.
    """

    frame: SlideFrame
    labels: tuple[str, ...]
    boxes: Boxes
    regions: Boxes
    read_in_full: int
    rejected: int
    ignored: Boxes
    told: Mapping[str, int]


def gather(frame: SlideFrame, reading: Reading, findings: Boxes) -> SlideTruth:
    """What a reading makes known of a slide.

    Args:
        frame: of the slide.
        reading: of one reader, or the consensus.
        findings: (M, 4) all that the report has, level-0 pixels, decided or not.
    """
    told: Counter[str] = Counter()
    decided, earlier = _standing(reading, findings, told)
    cells, names = _cells(decided, {c.name for c in frame.classes}, told)
    unsure = as_array(cell.box for cell in decided if cell.verdict == "unsure")
    told[UNSURE] += len(unsure)
    full = as_array(mark.box for mark in reading.regions.values())
    rejected = as_array(cell.box for cell in decided if cell.verdict == "reject")
    rejected = rejected[~within_any(rejected, full)]
    small = np.concatenate([cells[~within_any(cells, full)], rejected])
    is_open = ~_is_among(findings, said_boxes(cell for cell in decided if cell.said))
    is_open[overlaps(findings, said_boxes(earlier))[0]] = False
    open_ = findings[is_open]
    in_full, beside = touches_any(open_, full), touches_any(open_, small)
    told[UNDECIDED_IN_REGION] += int(in_full.sum())
    told[UNDECIDED_BESIDE] += int((beside & ~in_full).sum())
    return SlideTruth(
        frame,
        tuple(names),
        cells,
        np.concatenate([full, small]),
        len(full),
        len(rejected),
        np.concatenate([unsure, open_[in_full | beside]]),
        {what: count for what, count in told.items() if count},
    )


def touches_any(boxes: Boxes, areas: Boxes) -> NDArray[np.bool_]:
    """(N,) whether a box shares area with one of the areas."""
    found = np.zeros(len(boxes), bool)
    for area in areas.tolist():
        found |= touching(boxes, area)
    return found


def _standing(
    reading: Reading, findings: Boxes, told: Counter[str]
) -> tuple[list[CellDecision], list[CellDecision]]:
    """Decisions that no later one replaces, and which of them are of an earlier report."""
    decided = [cell for cell in reading.cells.values() if cell.decided]
    drawn = np.array([cell.said is None for cell in decided], bool)
    current = _is_among(said_boxes(decided), findings) & ~drawn
    entries = np.array([cell.entry for cell in decided], np.int64)
    is_cell = np.array([cell.label is not None for cell in decided], bool)
    gone = np.zeros(len(decided), bool)
    reported = np.flatnonzero(~drawn)
    gone[reported] = replaced([decided[row] for row in reported], current[reported])
    boxes = as_array(cell.box for cell in decided)
    one, other = overlaps(boxes, boxes)  # as the reader left them, he may have moved some
    replaces = np.where(drawn[one], ~drawn[other] & is_cell[other], ~current[one] & drawn[other])
    replaces |= ~drawn[one] & ~drawn[other] & (current[one] != current[other])
    gone[one[replaces & (entries[one] < entries[other])]] = True
    told[REPLACED] += int(gone.sum())
    earlier = ~gone & ~drawn & ~current
    told[EARLIER] += int(earlier.sum())
    return (
        [decided[row] for row in np.flatnonzero(~gone)],
        [decided[row] for row in np.flatnonzero(earlier)],
    )


def _cells(
    decided: Sequence[CellDecision], known: set[str], told: Counter[str]
) -> tuple[Boxes, list[str]]:
    boxes, names = [], []
    for cell in decided:
        if cell.verdict not in ("agree", "class", "added") or cell.label is None:
            continue
        told[STRANGE_CLASS] += cell.label not in known
        boxes.append(cell.box)
        names.append(cell.label)
    return as_array(boxes), names


def _is_among(boxes: Boxes, others: Boxes) -> NDArray[np.bool_]:
    """(N,) which boxes are among others, to a tenth of a pixel."""
    wanted = {tuple(row) for row in np.rint(others * 10).astype(np.int64).tolist()}
    tenths = np.rint(boxes * 10).astype(np.int64).tolist()
    return np.array([tuple(row) in wanted for row in tenths], bool)
