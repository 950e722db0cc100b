"""What a network found on a slide, before any threshold is asked: cells are named from it alone.

Thresholds, and whatever follows from them, act on this and on nothing else. So what is kept of a
slide gives, for other thresholds, the very cells that screening it with them would have given, as
far down as it is complete.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs import StrictModel
from models.card import CombinationRule
from pipeline.cells.naming import LEAST_BALANCE, detection_floors, name_cells
from pipeline.cells.nms import greedy_nms
from pipeline.cells.second_look import LookThresholds, name_by, regrade
from pipeline.cells.stitcher import StitcherSettings
from pipeline.geometry import Detections

Scores = NDArray[np.float32]


class KeptSettings(StrictModel):
    """What is kept of what the network found, so that thresholds can change without it.

    Attributes:
        floor: score from which on all is kept; a threshold below it lowers it, for that screening.
        most: places of a slide that are kept, beside those that a second look was at: those with
            the best scores, by the model's own thresholds.
    """

    floor: float = Field(0.1, gt=0, lt=1)
    most: int = Field(200_000, ge=0)


@dataclass(frozen=True)
class Found:
    """What was found on a slide, in level-0 pixels.

    Attributes:
        cells: of a detector alone its findings, without doubles within a class. Of one with a
            second look the places where it saw anything, with the detector's scores of all classes,
            and grades where the look was.
        complete: (C,) scores from which on nothing is missing, for each class.
        looked: whether there was a second look.
        candidates: places that it could have been at.
        unread: those that it was to be at, and that could not be read.
        dropped: findings or places that were too many to be kept.
    """

    cells: Detections
    complete: Scores
    looked: bool = False
    candidates: int = 0
    unread: int = 0
    dropped: int = 0

    @property
    def looked_at(self) -> int:
        """Places that a second look was at."""
        return int(self.cells.graded.sum()) if self.looked else 0

    def bounded(self, own: Scores, most: int) -> Found:
        """The same without the least sure ones beyond ``most``; see `KeptSettings`.

        Args:
            own: (C,) the detector's own thresholds, by which its scores weigh alike.
            most: findings, or places that no second look was at.
        """
        scores = _counting(self.cells, self.looked, len(own))
        surest = (scores / np.maximum(own, LEAST_BALANCE)).max(axis=1, initial=0)
        among = np.flatnonzero(~self.cells.graded)
        if len(among) <= most:
            return self
        lost = among[np.argsort(-surest[among], kind="stable")][most:]
        kept = np.ones(len(self.cells), bool)
        kept[lost] = False
        beyond = np.nextafter(scores[lost].max(axis=0), np.float32(2))
        return replace(
            self,
            cells=self.cells[kept],
            complete=np.maximum(self.complete, beyond).astype(np.float32),
            dropped=self.dropped + len(lost),
        )


@dataclass(frozen=True)
class Limits:
    """Where cells begin to count; each (C,).

    Attributes:
        thresholds: score from which on a detector alone reports a class.
        own: the detector's own thresholds, by which its scores weigh alike.
        abnormal: which classes are abnormal.
        look: on either side of a second look; None where nobody looks again.
        rule: how scores of detector and grader are combined; likewise.
    """

    thresholds: Scores
    own: Scores
    abnormal: NDArray[np.bool_]
    look: LookThresholds | None = None
    rule: CombinationRule | None = None

    def floors(self, looked: bool) -> Scores:
        """(C,) scores down to which these limits have to know what was found."""
        if looked and self.look:
            return self.look.alone  # of those that the look was at none is ever left out
        return detection_floors(self.thresholds, self.own, self.abnormal)


def is_complete(found: Found, limits: Limits) -> bool:
    """Whether all is kept that these limits ask for."""
    return bool((limits.floors(found.looked) >= found.complete).all())


def name_found(found: Found, limits: Limits, stitcher: StitcherSettings) -> tuple[Detections, int]:
    """The cells that are reported, in level-0 pixels, and how many of them are abnormal unlooked.

    The second number is of cells that are abnormal by the detector alone, where there was a look.

    Args:
        found: complete down to the limits.
        limits: where cells begin to count.
        stitcher: how doubles are told from neighbours.
    """
    if found.looked:
        assert limits.look
        assert limits.rule
        return _name_looked(found.cells, limits.look, limits.rule, stitcher.nms_iou)
    cells = found.cells
    floors = detection_floors(limits.thresholds, limits.own, limits.abnormal)
    cells = cells[cells.scores >= floors[cells.labels]]
    iou = stitcher.cross_class_iou
    return name_cells(cells, limits.thresholds, limits.abnormal, iou, limits.own), 0


def _name_looked(
    places: Detections, limits: LookThresholds, rule: CombinationRule, nms_iou: float
) -> tuple[Detections, int]:
    abnormal, seen = limits.abnormal, places.graded
    rows = np.flatnonzero(seen)
    assert places.grades is not None
    graded = regrade(places, rows, places.grades[rows], abnormal, rule)
    looked = name_by(graded[seen], limits.after, abnormal, limits.balance)
    alone = name_by(graded[~seen], limits.alone, abnormal, limits.own)
    cells = Detections.concatenate([looked, alone])
    left = int(abnormal[alone.labels].sum())
    return cells[greedy_nms(cells, nms_iou)], left  # two places may have come to one name


def _counting(cells: Detections, looked: bool, classes: int) -> Scores:
    """(N, C) scores by which each may be reported: of a finding its own, of a place all."""
    if looked:
        assert cells.class_scores is not None
        return cells.class_scores
    named = cells.labels[:, None] == np.arange(classes)
    return np.where(named, cells.scores[:, None], np.float32(0))
