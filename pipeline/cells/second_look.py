"""A second, closer look at what the detector found: which candidates, and what the look changes.

The detector and a grader of crops err differently, so neither is trusted alone: their scores are
combined by a rule with few exponents, which the model's card holds.

Not all of a slide's candidates can be looked at again: the detector sees hundreds a tile at so low
a score. The most suspicious are, as many as `count_affordable` says, which no clock has a say in:
the same slide gives the same cells on every machine. All others keep the detector's scores, and are
named by the detector's own thresholds. The two scales don't compare: a table of cells has grades
for those that were looked at only, and a report says how many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs import StrictModel
from models.card import CombinationRule, ModelCard, SecondLookFacts
from pipeline.cells.naming import detection_floors, name_cells, name_places
from pipeline.cells.nms import Rows
from pipeline.geometry import Detections

CROP_COST = 3.2
"""What a pixel of a crop costs, read and graded by a MobileNetV2 in fp32, against a pixel of a tile
that is read and screened by the default model in int8: 4.3 ms a crop of 128 px, 196 ms a tile of
1536 px, of processor time on two shared cores of an AMD EPYC; in int8 a crop costs half as much
(benchmarks/bench_second_look.py). A fixed figure, whatever runs here."""

LEAST_CELLS = 200
"""Candidates that are looked at even where a slide has few tiles; and of one tile, those below the
detector's own thresholds that are kept until all are known."""

SPARE = 8
"""How many times as many candidates of a tile are kept as a tile has a share in all looks."""

LEAST = 1e-30
"""Shares and probabilities may be 0; something has to be left to tell classes apart by."""


class SecondLookSettings(StrictModel):
    """Whether and at how much a grader looks again; for models that have one.

    Attributes:
        enabled: whether it does.
        cells: the most suspicious candidates of a slide that it looks at; None for as many as cost
            ``share``, and 200 at least.
        share: of the detector's work on the slide.
        batch_size: crops at once; None for 16 on a CPU, 128 on a GPU.
    """

    enabled: bool = True
    cells: int | None = Field(None, ge=1)
    share: float = Field(0.1, gt=0, le=10)
    batch_size: int | None = Field(None, ge=1)


@dataclass(frozen=True)
class LookThresholds:
    """Where cells begin to count on either side of a look; each (C,).

    Attributes:
        alone: score from which on the detector alone reports a class.
        own: the detector's own thresholds, by which its scores weigh alike.
        after: score from which on a class is reported after the look.
        balance: the look's own thresholds, by which scores after it weigh alike.
        abnormal: which classes are abnormal.
        floor: score of the detector, of any class, from which on a place is a candidate.
        kept: score from which on no finding is thinned out; None for ``alone``.
    """

    alone: NDArray[np.float32]
    own: NDArray[np.float32]
    after: NDArray[np.float32]
    balance: NDArray[np.float32]
    abnormal: NDArray[np.bool_]
    floor: float
    kept: float | None = None

    @classmethod
    def of(
        cls,
        card: ModelCard,
        facts: SecondLookFacts,
        threshold: float | None = None,
        kept: float | None = None,
    ) -> LookThresholds:
        """Those of a model, or with one score for all classes on both sides.

        ``kept`` is the score from which on all is kept, whatever is asked for; see
        `pipeline.cells.found`.
        """
        names = card.detector.classes
        own = np.array([card.thresholds[name] for name in names], np.float32)
        balance = np.array([facts.thresholds[name] for name in names], np.float32)
        asked = None if threshold is None else np.full_like(own, threshold)
        alone, after = (own, balance) if asked is None else (asked, asked)
        # No look lifts a score above the best of its place: below all thresholds nothing counts.
        floor = min(facts.floor, float(alone.min()), float(after.min()), kept or 1)
        abnormal = np.array(card.detector.is_abnormal)
        return cls(alone, own, after, balance, abnormal, floor, kept)

    @property
    def certain(self) -> NDArray[np.float32]:
        """(C,) scores down to which findings count even where nobody looks again."""
        down_to = self.alone if self.kept is None else np.full_like(self.own, self.kept)
        return detection_floors(down_to, self.own, self.abnormal)

    @property
    def floors(self) -> NDArray[np.float32]:
        """(C,) scores down to which the detector has to look, so that all candidates are seen."""
        return detection_floors(np.full_like(self.own, self.floor), self.own, self.abnormal)


def count_affordable(settings: SecondLookSettings, tiles: int, tile: int, crop: int) -> int:
    """How many candidates of a slide are looked at again, at most.

    By what crops and tiles were measured to cost (`CROP_COST`), not by what they cost here and now:
    so it depends on slide and settings alone.

    Args:
        settings: how many are wanted.
        tiles: that are screened.
        tile: side of one in pixels.
        crop: likewise.
    """
    if settings.cells is not None:
        return settings.cells
    affordable = settings.share * tiles * tile**2 / (CROP_COST * crop**2)
    return max(LEAST_CELLS, math.floor(affordable))


def count_in_tiles(count: int, tile: int, crop: int) -> int:
    """So many tiles cost as much as looking at ``count`` candidates; sides in pixels."""
    return math.ceil(count * CROP_COST * crop**2 / tile**2)


def thin_out(
    cells: Detections,
    certain: NDArray[np.floating],
    abnormal: NDArray[np.bool_],
    most: int,
) -> Detections:
    """A tile's findings without those that no second look will come to.

    A detector that looks down to the candidates' floor finds thousands a tile; a slide of thousands
    of tiles could not hold them all.

    Args:
        cells: of one tile, with the scores of all classes where these are known.
        certain: (C,) scores from which on a finding stays.
        abnormal: (C,) which classes are abnormal.
        most: of the others the most suspicious stay.
    """
    doubtful = np.flatnonzero(cells.scores < certain[cells.labels])
    if len(doubtful) <= most:
        return cells
    order = np.argsort(-suspicion(cells[doubtful], abnormal), kind="stable")
    kept = np.ones(len(cells), bool)
    kept[doubtful[order[most:]]] = False
    return cells[kept]


def keep_of_tile(count: int, tiles: int) -> int:
    """Findings of a tile below the detector's own thresholds that are kept; see `thin_out`."""
    return max(LEAST_CELLS, math.ceil(SPARE * count / max(tiles, 1)))


def suspicion(cells: Detections, abnormal: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(N,) best score of an abnormal class at each place."""
    if cells.class_scores is None:
        return np.where(abnormal[cells.labels], cells.scores, 0).astype(np.float32)
    return np.asarray(cells.class_scores[:, abnormal].max(axis=1, initial=0))


def find_candidates(
    found: Detections,
    floor: float,
    abnormal: NDArray[np.bool_],
    iou: float,
    balance: NDArray[np.floating],
) -> Detections:
    """The places of a slide where the detector saw anything, one row a place.

    Args:
        found: without doubles within a class.
        floor: least score, of any class, of a candidate.
        abnormal: (C,) which classes are abnormal.
        iou: boxes of two classes that overlap by more are one place.
        balance: (C,) the detector's own thresholds.

    Returns:
        From top to bottom, with the scores of all classes at each place.
    """
    places = name_cells(found, np.full(len(abnormal), floor), abnormal, iou, balance)
    return places[np.lexsort((places.boxes[:, 0], places.boxes[:, 1]))]


def choose(candidates: Detections, abnormal: NDArray[np.bool_], count: int) -> Rows:
    """Rows of the ``count`` most suspicious candidates, ascending.

    Of equally suspicious ones those of the better score; then by place, so that nothing depends on
    the order in which they were found.
    """
    left, top = candidates.boxes[:, 0], candidates.boxes[:, 1]
    order = np.lexsort((left, top, -candidates.scores, -suspicion(candidates, abnormal)))
    return np.sort(order[:count])


def regrade(
    candidates: Detections,
    rows: Rows,
    probabilities: NDArray[np.float32],
    abnormal: NDArray[np.bool_],
    rule: CombinationRule,
) -> Detections:
    """The candidates with the scores of both, and with grades, where the grader looked.

    Args:
        candidates: with the scores of all classes.
        rows: of those that were looked at.
        probabilities: (len(rows), C + 1) what the grader says of them.
        abnormal: (C,) which classes are abnormal.
        rule: how scores are combined.
    """
    assert candidates.class_scores is not None
    scores = candidates.class_scores.copy()
    grades = np.full((len(candidates), len(abnormal) + 1), np.nan, np.float32)
    scores[rows] = combine(scores[rows], probabilities, abnormal, rule)
    grades[rows] = probabilities
    return replace(candidates, class_scores=scores, grades=grades)


def name_by(
    cells: Detections,
    thresholds: NDArray[np.floating],
    abnormal: NDArray[np.bool_],
    balance: NDArray[np.floating],
) -> Detections:
    """Those of the places that are reported, each by its name and that name's score.

    Args:
        cells: with the scores of all classes.
        thresholds: (C,) score from which on a class is reported.
        abnormal: (C,) which classes are abnormal.
        balance: (C,) scores that weigh alike; see `pipeline.cells.naming`.
    """
    assert cells.class_scores is not None
    labels = name_places(cells.class_scores, thresholds, abnormal, balance)
    rows = np.flatnonzero(labels >= 0)
    kept = cells[rows]
    assert kept.class_scores is not None
    scores = kept.class_scores[np.arange(len(rows)), labels[rows]]
    return replace(kept, labels=labels[rows], scores=scores)


def combine(
    class_scores: NDArray[np.floating],
    probabilities: NDArray[np.floating],
    is_abnormal: NDArray[np.bool_],
    rule: CombinationRule,
) -> NDArray[np.float32]:
    """Scores of all classes, from the detector's and what the grader says of the same places.

    With ``any`` the detector's best score at a place, ``share_c = s_c / any`` and ``q_c`` the
    grader's probability of a class if there is a cell at all::

        base     = any * (1 - p_background) ** background
        abnormal = base * max_abnormal(share) ** share * sum_abnormal(q) ** evidence
        class c  = base * share_c ** share * q_c ** grade

    Then the abnormal classes are scaled so that the largest of them is ``abnormal``: the grade
    moves no cell between normal and abnormal. Probabilities are multiplied by the rule's weights
    before, where it has some.

    Args:
        class_scores: (N, C) the detector's, in 0..1.
        probabilities: (N, C + 1) the grader's, background last; rows sum to one.
        is_abnormal: (C,) which classes are abnormal.
        rule: the exponents.

    Returns:
        (N, C) in 0..1; 0 where the detector saw nothing.
    """
    said = probabilities.astype(np.float64)
    if rule.weights is not None:
        said = said * np.array(rule.weights)
        said /= np.maximum(said.sum(axis=1, keepdims=True), LEAST)
    scores, grades = class_scores.astype(np.float64), said[:, :-1]
    best = scores.max(axis=1, initial=0, keepdims=True)
    cell = grades.sum(axis=1, keepdims=True)  # 1 - p_background, exact where that is nearly 1
    share = np.maximum(scores / np.maximum(best, LEAST), LEAST)
    grade = np.maximum(grades / np.maximum(cell, LEAST), LEAST)
    values = share**rule.share * grade**rule.grade
    if is_abnormal.any():
        seen = share[:, is_abnormal].max(axis=1, keepdims=True)
        sure = np.minimum(grade[:, is_abnormal].sum(axis=1, keepdims=True), 1)
        level = seen**rule.share * sure**rule.evidence
        values[:, is_abnormal] *= level / values[:, is_abnormal].max(axis=1, keepdims=True)
    base = best * np.minimum(cell, 1) ** rule.background
    return np.asarray(base * values, np.float32)
