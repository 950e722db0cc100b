"""``cells.ann.dcm``: the cells as Microscopy Bulk Simple Annotations (PS3.3, A.87 and C.37.1).

One group a class, in the order of the model's classes, each cell a RECTANGLE in pixels of the total
pixel matrix of the slide's finest level, origin at the top left of its top left pixel: the frame of
cells.csv. Within a group cells keep the order of cells.csv. Numbers go from arrays to the file
without an object a cell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.cells.classes import (
    HIGH_GRADE,
    LOW_GRADE,
    abnormal_scores,
    class_colors,
    find_category,
    level_scores,
)
from pipeline.geometry import Boxes, Detections
from pipeline.objects.codes import (
    ABNORMAL_STRUCTURE,
    ANATOMICAL,
    ARTIFICIAL_INTELLIGENCE,
    CELL,
    NO_UNITS,
    SCORE,
    SCORE_ABNORMAL,
    SCORE_HIGH,
    SCORE_LOW,
    Code,
)
from pipeline.objects.dicom import Maker, coded, image_of, parameters_of, save, shared_of
from pipeline.objects.source import Header
from pipeline.objects.text import free_text, long_string
from pipeline.reports.report import SlideReport

FILE = "cells.ann.dcm"

SINGLE_UP_TO = 2**17
"""Longest side, in pixels, of slides whose corners are written in single precision. There it errs
by 1/256 px at most, less than the 0.01 px of cells.csv; larger ones are written in double."""

_DECIMALS, _SCORE_DECIMALS = 2, 4
"""As in cells.csv, so that both say the same whichever is made from the other."""


def write_annotations(report: SlideReport, source: Header, folder: Path) -> bool:
    """Writes the cells, unless there are none: DICOM knows no annotations without one.

    Args:
        report: with its cells.
        source: the image that they lie on.
        folder: for the file.

    Returns:
        Whether it was written.

    Raises:
        OSError: it can't be written.
    """
    if not len(report.cells):
        return False
    from highdicom.ann import MicroscopyBulkSimpleAnnotations

    maker = Maker.of(report)
    derived = "" if report.source else "; derived identity"
    instance = MicroscopyBulkSimpleAnnotations(
        source_images=[image_of(source)],
        annotation_coordinate_type="2D",
        pixel_origin_interpretation="VOLUME",
        annotation_groups=_groups(report, maker),
        series_number=1,
        series_description=long_string(f"Cells found by {maker.name}"),
        content_label="CELLS",
        content_description=long_string(f"Unverified; found by a program{derived}"),
        **shared_of(maker),
    )
    save(instance, folder / FILE)
    return True


def _groups(report: SlideReport, maker: Maker) -> list[Any]:
    """A group for each class that has cells."""
    from highdicom import UID, AlgorithmIdentificationSequence
    from highdicom.ann import AnnotationGroup
    from highdicom.color import CIELabColor

    cells, classes = report.cells, report.model.classes
    is_long = max(report.slide.width, report.slide.height) > SINGLE_UP_TO
    precision: type[np.floating[Any]] = np.float64 if is_long else np.float32
    algorithm = AlgorithmIdentificationSequence(
        name=maker.name,
        version=maker.version,
        family=coded(ARTIFICIAL_INTELLIGENCE),
        source=maker.name,
        parameters={free_text(k): free_text(v) for k, v in parameters_of(report).items()},
    )
    groups: list[Any] = []
    colors = class_colors(classes)
    for label, one in enumerate(classes):
        own = cells[cells.labels == label]
        if not len(own):
            continue
        category = find_category(one.name)
        meaning = f"{one.name}: {category.meaning}" if category else one.name
        groups.append(
            AnnotationGroup(
                number=len(groups) + 1,
                uid=UID(),
                label=long_string(one.name),
                description=free_text(meaning),
                annotated_property_category=coded(
                    ABNORMAL_STRUCTURE if one.abnormal else ANATOMICAL
                ),
                annotated_property_type=coded(CELL),
                graphic_type="RECTANGLE",
                graphic_data=cast(Any, corners(own.boxes, precision)),
                algorithm_type="AUTOMATIC",
                algorithm_identification=algorithm,
                measurements=_measurements(own, report),
                display_color=CIELabColor.from_rgb(*colors[label]),
            )
        )
    return groups


def corners(boxes: Boxes, precision: type[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """(N, 4, 2) corners of (N, 4) boxes: from the top left one clockwise, as seen."""
    left, top, right, bottom = boxes.round(_DECIMALS).astype(precision).T
    flat = np.stack([left, top, right, top, right, bottom, left, bottom], axis=1)
    return flat.reshape(-1, 4, 2)


def _measurements(cells: Detections, report: SlideReport) -> list[Any]:
    """The score by which each cell is called and, where they are known, those of the levels."""
    from highdicom.ann import Measurements

    classes = report.model.classes
    columns: list[tuple[Code, NDArray[np.float32]]] = [(SCORE, cells.scores)]
    if cells.class_scores is not None:
        columns += [
            (SCORE_ABNORMAL, abnormal_scores(cells, classes)),
            (SCORE_LOW, level_scores(cells, classes, LOW_GRADE)),
            (SCORE_HIGH, level_scores(cells, classes, HIGH_GRADE)),
        ]
    return [
        Measurements(coded(name), values.round(_SCORE_DECIMALS), coded(NO_UNITS))
        for name, values in columns
    ]
