"""The worst errors as pictures: abnormal cells that were missed, and the surest false alarms."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import from_numpy
from torchvision.ops import box_iou

from data.evaluation import FALSE_ALARM, FieldCells, partners
from data.fields.fieldset import Field
from data.fields.images import FieldImages
from pipeline.cells.classes import name_classes, order_by_severity
from pipeline.reports.pictures import CROP_PIXELS, CROP_UM
from scripts.evaluation.evidence import Evidence
from scripts.slides import images_of

LIMIT = 24
"""Pictures of each kind."""

SAME_CELL = 0.5
"""IoU from which on two boxes are of one cell, as everywhere."""


@dataclass(frozen=True)
class Error:
    """A cell that was missed, or a false alarm.

    Attributes:
        field: its index.
        box: (4,) xyxy in the field.
        label: what it is, or what it was taken for.
        score: of a false alarm; of a missed cell the best that any abnormal class had there, 0
            where it had none.
        note: what else is known of it.
    """

    field: int
    box: NDArray[np.float64]
    label: int
    score: float
    note: str


@dataclass(frozen=True)
class Box:
    """A box in a picture: left, top, width, height in percent; ``main`` is the error itself."""

    frame: tuple[float, float, float, float]
    label: int
    marked: bool
    main: bool
    title: str


@dataclass(frozen=True)
class ErrorPicture:
    """A close-up of an error, with everything marked and reported around it.

    Attributes:
        jpeg: the picture, square.
        bar: width of 10 µm in it in percent; None where the scale is unknown.
    """

    error: Error
    jpeg: bytes
    boxes: Sequence[Box]
    bar: float | None


def missed_cells(evidence: Evidence) -> list[Error]:
    """Abnormal cells that nothing abnormal was reported for: severe ones first, then the unseen."""
    errors = [error for index in range(len(evidence.truth)) for error in _missed(evidence, index)]
    classes = name_classes(evidence.classes, evidence.abnormal)
    rank = np.argsort(order_by_severity(classes))
    return sorted(errors, key=lambda error: (rank[error.label], error.score))


def false_alarms(evidence: Evidence) -> list[Error]:
    """What was reported as abnormal where no abnormal cell is left to find: the surest first."""
    errors = [error for index in range(len(evidence.truth)) for error in _alarms(evidence, index)]
    return sorted(errors, key=lambda error: -error.score)


def take_pictures(
    evidence: Evidence, errors: Sequence[Error], limit: int = LIMIT
) -> list[ErrorPicture]:
    """Close-ups of the first errors, in order."""
    images = images_of(evidence.fields)
    return [_take_picture(evidence, images, error) for error in errors[:limit]]


def _missed(evidence: Evidence, index: int) -> Iterator[Error]:
    truth, found = evidence.truth[index], evidence.found[index]
    reported = evidence.reported[index]
    cells, alarms = _abnormal(evidence, truth), _abnormal(evidence, reported)
    hit = partners([cells], [alarms])[0]
    for row in np.setdiff1d(np.flatnonzero(~cells.crowd), hit).tolist():
        there = _at(cells.boxes[row], found)
        suspected = _abnormal(evidence, there)
        score = float(suspected.scores.max(initial=0.0))
        note = _note(evidence, _at(cells.boxes[row], reported))
        yield Error(index, cells.boxes[row], int(cells.labels[row]), score, note)


def _alarms(evidence: Evidence, index: int) -> Iterator[Error]:
    truth, reported = evidence.truth[index], evidence.reported[index]
    cells, alarms = _abnormal(evidence, truth), _abnormal(evidence, reported)
    for row in np.flatnonzero(partners([cells], [alarms])[0] == FALSE_ALARM).tolist():
        there = _at(alarms.boxes[row], truth[~truth.crowd])
        names = sorted({evidence.classes[label] for label in there.labels})
        note = f"marked {', '.join(names)}" if names else "no cell marked"
        score = float(alarms.scores[row])
        yield Error(index, alarms.boxes[row], int(alarms.labels[row]), score, note)


def _abnormal(evidence: Evidence, cells: FieldCells) -> FieldCells:
    """Those of abnormal classes, and crowds."""
    return cells[np.array(evidence.abnormal)[cells.labels] | cells.crowd]


def _at(box: NDArray[np.floating], cells: FieldCells) -> FieldCells:
    """The cells that lie where a box lies."""
    pair = (from_numpy(np.asarray(b, np.float64).reshape(-1, 4)) for b in (box, cells.boxes))
    return cells[np.flatnonzero(box_iou(*pair).numpy()[0] >= SAME_CELL)]


def _note(evidence: Evidence, reported: FieldCells) -> str:
    """What is reported where a cell was missed; an abnormal one found a neighbour instead."""
    rows = zip(reported.labels, reported.scores, strict=True)
    told = (
        f"{evidence.classes[label]} {score:.2f}{' found its neighbour' * evidence.abnormal[label]}"
        for label, score in rows
    )
    return ", ".join(told) or "nothing reported"


def _take_picture(evidence: Evidence, images: FieldImages, error: Error) -> ErrorPicture:
    field = evidence.fields.fields[error.field]
    window = _window(field, error.box)
    side = window[2] - window[0]
    pixels = max(1, min(CROP_PIXELS, round(side)))
    image = images.crop(error.field, (pixels, pixels), window)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=85, optimize=True)
    bar = None if field.mpp is None else round(100 * 10 / field.mpp / side, 2)
    return ErrorPicture(error, stream.getvalue(), list(_boxes(evidence, error, window)), bar)


def _window(field: Field, box: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """A square around a box: it in the middle, or as near to it as the field's edges let."""
    x_min, y_min, x_max, y_max = box.tolist()
    own = max(x_max - x_min, y_max - y_min)
    wanted = max(1.5 * own, 3 * own if field.mpp is None else CROP_UM / field.mpp)
    side = min(wanted, field.width, field.height)
    x = min(max((x_min + x_max - side) / 2, 0.0), field.width - side)
    y = min(max((y_min + y_max - side) / 2, 0.0), field.height - side)
    return x, y, x + side, y + side


def _boxes(
    evidence: Evidence, error: Error, window: tuple[float, float, float, float]
) -> Iterator[Box]:
    """What is marked and what is reported in a window; ignored regions are neither."""
    x, y, right, bottom = window
    percent = 100 / (right - x)
    truth = evidence.truth[error.field]
    for cells, marked in ((truth[~truth.crowd], True), (evidence.reported[error.field], False)):
        for box, label, score in zip(cells.boxes, cells.labels, cells.scores, strict=True):
            left, top, to_right, to_bottom = box.tolist()
            if to_right <= x or to_bottom <= y or left >= right or top >= bottom:
                continue
            name = evidence.classes[label]
            frame = (left - x, top - y, to_right - left, to_bottom - top)
            yield Box(
                frame=tuple(round(value * percent, 2) for value in frame),
                label=int(label),
                marked=marked,
                main=np.array_equal(box, error.box),
                title=f"marked {name}" if marked else f"reported {name} {score:.2f}",
            )
