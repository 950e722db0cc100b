"""What a detector finds on annotated fields, and at which places a grader looks again.

A place is one cell as screening sees it: findings of several names that overlap are one, with the
best score of each class. After the look each class has its score there, whatever the detector
called it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.evaluation import MAX_DETECTIONS, FieldCells
from data.fields.fieldset import Field, FieldSet
from data.fields.images import FieldImages, ImageError, Pixels
from data.fields.regions import downsample_of
from models.card import CombinationRule, ModelCard
from pipeline.cells.second_look import combine
from pipeline.cells.second_look import find_candidates as find_places
from pipeline.flow import work_ahead
from pipeline.geometry import Detections
from pipeline.network.detector import TileDetector, own_thresholds

LOWEST_SCORE = 0.01
"""Detections below it can't move average precision by a visible amount."""

ONE_CELL = 0.5
"""IoU above which findings of two classes are of one cell, as screening's stitcher has it."""


@dataclass(frozen=True)
class Candidates:
    """What a detector found on a field, and where a grader looks again.

    Attributes:
        found: what it found, in the field's pixels.
        places: (M,) one row a cell, with the scores of all classes; what is looked at again.
        rest: of ``found`` what lies below the floor in every class.
    """

    found: Detections
    places: Detections
    rest: Detections

    @property
    def class_scores(self) -> NDArray[np.float32]:
        """(M, C) the detector's scores at the places."""
        assert self.places.class_scores is not None
        return self.places.class_scores

    @property
    def scores(self) -> NDArray[np.float32]:
        """(M,) the detector's best score of any class."""
        return self.class_scores.max(axis=1, initial=0)

    def rescored(
        self,
        probabilities: NDArray[np.floating],
        abnormal: NDArray[np.bool_],
        rule: CombinationRule,
    ) -> Detections:
        """What there is after the second look: each place under every name, with its score.

        What lies below the floor keeps the detector's score. The rule never raises a score above
        the best one at its place, so that nothing from below the floor could have risen above it.

        Args:
            probabilities: (M, C + 1) the grader's.
            abnormal: (C,) which classes are abnormal.
            rule: of the combination.
        """
        scores = combine(self.class_scores, probabilities, abnormal, rule)
        rows, labels = np.nonzero(scores >= LOWEST_SCORE)
        named = Detections(
            self.places.boxes[rows], scores[rows, labels], labels.astype(np.int64), scores[rows]
        )
        return Detections.concatenate([named, self.rest])


def find_candidates(found: Detections, card: ModelCard, floor: float) -> Candidates:
    """Which places of a field are looked at again.

    Args:
        found: on the field, with the scores of all classes.
        card: of the model.
        floor: least score, of any class, of such a place.
    """
    assert found.class_scores is not None
    abnormal = np.array(card.detector.is_abnormal)
    places = find_places(found, floor, abnormal, ONE_CELL, own_thresholds(card))
    return Candidates(found, places, found[found.class_scores.max(axis=1, initial=0) < floor])


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


def strongest(found: Detections, cells: int = 0) -> Detections:
    """The best 1,000 detections of a field, or ten for each of its cells where that is more.

    At the lowest scores a detector finds something at every place, and COCO's rules know a limit
    too.
    """
    limit = max(MAX_DETECTIONS, 10 * cells)
    return found[np.argsort(-found.scores, kind="stable")[:limit]]


def to_field_cells(cells: Detections) -> FieldCells:
    """Detections as the evaluation takes them."""
    return FieldCells(cells.boxes, cells.labels, cells.scores, np.zeros(len(cells), bool))


def truth_of(fields: FieldSet) -> list[FieldCells]:
    """The annotated cells of each field, in its pixels."""
    return [
        FieldCells(field.boxes, field.labels, np.ones(len(field.labels)), field.crowd)
        for field in fields.fields
    ]


def nothing_found(classes: int) -> Detections:
    """What is known of a field that can't be read."""
    none = Detections.empty()
    return Detections(none.boxes, none.scores, none.labels, np.zeros((0, classes), np.float32))
