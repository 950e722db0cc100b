"""What a detector finds on annotated fields, and at which places a grader looks again.

A place is one box with the detector's scores of all classes there; it may have been found under
several names. All names of a place get their scores from the same look.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.evaluation import FieldCells
from data.fields.fieldset import Field, FieldSet
from data.fields.images import FieldImages, ImageError, Pixels
from data.fields.regions import downsample_of
from models.card import CombinationRule
from pipeline.cells.second_look import combine
from pipeline.flow import work_ahead
from pipeline.geometry import Detections
from pipeline.network.detector import TileDetector

LOWEST_SCORE = 0.01
"""Detections below it can't move average precision by a visible amount."""


@dataclass(frozen=True)
class Candidates:
    """What a detector found on a field, and where a grader looks again.

    Attributes:
        found: boxes in the field's pixels, with the scores of all classes at their places.
        places: (M,) rows of ``found``, one for each place that is looked at again.
        place_of: (N,) index into ``places`` of each row; -1 for those that are not.
    """

    found: Detections
    places: NDArray[np.intp]
    place_of: NDArray[np.intp]

    @property
    def class_scores(self) -> NDArray[np.float32]:
        """(N, C) the detector's scores."""
        assert self.found.class_scores is not None
        return self.found.class_scores

    @property
    def boxes(self) -> NDArray[np.float64]:
        """(M, 4) boxes of the places."""
        return self.found.boxes[self.places]

    @property
    def centers(self) -> NDArray[np.float64]:
        """(M, 2) their middles, around which crops are cut."""
        return self.found[self.places].centers

    @property
    def scores(self) -> NDArray[np.float32]:
        """(M,) the detector's best score of any class."""
        return self.class_scores[self.places].max(axis=1)

    def rescored(
        self,
        probabilities: NDArray[np.floating],
        abnormal: NDArray[np.bool_],
        rule: CombinationRule,
    ) -> Detections:
        """The same cells with their scores after the second look.

        What lies below the floor keeps the detector's; the rule never raises a score above the
        best one at its place, so that these stay below it too.

        Args:
            probabilities: (M, C + 1) the grader's.
            abnormal: (C,) which classes are abnormal.
            rule: of the combination.
        """
        if not len(self.places):
            return self.found
        looked = combine(self.class_scores[self.places], probabilities, abnormal, rule)
        class_scores = self.class_scores.copy()
        again = self.place_of >= 0
        class_scores[again] = looked[self.place_of[again]]
        found = self.found
        scores = np.where(
            again, class_scores[np.arange(len(found)), found.labels], found.scores
        ).astype(np.float32)
        return Detections(found.boxes, scores, found.labels, class_scores)


def find_candidates(found: Detections, classes: int, floor: float) -> Candidates:
    """Which places of a field are looked at again.

    Args:
        found: on the field.
        classes: how many the detector has.
        floor: least score, of any class, of such a place.
    """
    if found.class_scores is None:  # no runtime of ours leaves them out
        known = np.zeros((len(found), classes), np.float32)
        known[np.arange(len(found)), found.labels] = found.scores
        found = Detections(found.boxes, found.scores, found.labels, known)
    assert found.class_scores is not None
    place_of = np.full(len(found), -1, np.intp)
    rows = np.flatnonzero(found.class_scores.max(axis=1, initial=0) >= floor)
    if not len(rows):
        return Candidates(found, rows, place_of)
    alike = np.concatenate([found.boxes[rows], found.class_scores[rows]], axis=1)
    _, firsts, inverse = np.unique(alike, axis=0, return_index=True, return_inverse=True)
    place_of[rows] = inverse.reshape(-1)
    return Candidates(found, rows[firsts], place_of)


def detect_fields(
    detector: TileDetector, images: FieldImages, fields: FieldSet
) -> Iterator[Detections | ImageError]:
    """What a detector finds on each field, in the field's own pixels, in order.

    Of a field that can't be read the error; whoever needs it raises it.
    """

    def read(index: int) -> tuple[Field, Pixels | ImageError]:
        field = fields.fields[index]
        downsample = downsample_of(field, detector.card.mpp)
        size = (round(field.width / downsample), round(field.height / downsample))
        try:
            return field, images.whole(index, size)
        except ImageError as error:
            return field, error

    def detect(task: tuple[Field, Pixels | ImageError]) -> Detections | ImageError:
        field, pixels = task
        if isinstance(pixels, ImageError):
            return pixels
        cells = detector.detect([pixels])[0]
        height, width = pixels.shape[:2]
        scale = np.tile([field.width / width, field.height / height], 2)
        return cells.placed(cells.boxes * scale)

    lanes = detector.lanes
    with (  # one thread reads: the slides that are open are its own
        work_ahead(read, range(len(fields.fields)), threads=1, ahead=lanes) as tasks,
        work_ahead(detect, tasks, threads=lanes, ahead=lanes) as found,
    ):
        yield from found


def to_field_cells(cells: Detections) -> FieldCells:
    """Detections as the evaluation takes them."""
    return FieldCells(cells.boxes, cells.labels, cells.scores, np.zeros(len(cells), bool))


def truth_of(fields: FieldSet) -> list[FieldCells]:
    """The annotated cells of each field, in its pixels."""
    return [
        FieldCells(field.boxes, field.labels, np.ones(len(field.labels)), field.crowd)
        for field in fields.fields
    ]


def one_a_cell(boxes: NDArray[np.floating], scores: NDArray[np.floating]) -> NDArray[np.intp]:
    """Rows of the places that are left where one cell has one place: the surest of each."""
    from pipeline.cells.nms import greedy_nms

    cells = Detections(
        boxes.astype(np.float64), scores.astype(np.float32), np.zeros(len(scores), np.int64)
    )
    return np.flatnonzero(greedy_nms(cells, 0.5, per_class=False))


def probabilities_of(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """(N, C + 1) probabilities of a grader's logits."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True, initial=-np.inf))
    return powers / powers.sum(axis=1, keepdims=True)


def nothing_found(classes: int) -> Detections:
    """What is known of a field that can't be read."""
    none = Detections.empty()
    return Detections(none.boxes, none.scores, none.labels, np.zeros((0, classes), np.float32))
