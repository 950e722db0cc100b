"""What the report page shows: the whole slide at low resolution, suspicious cells close up.

Pictures are taken while the slide is open and carried as JPEG bytes, so that a page can be written
without the slide.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.cells.classes import CellClass, is_abnormal, order_by_severity
from pipeline.errors import ReadError
from pipeline.geometry import Detections, Size

if TYPE_CHECKING:
    from pipeline.slides.slide import Slide

OVERVIEW_PIXELS = 1600
"""Longest side of the overview."""

GALLERY_LIMIT = 60
"""Cells shown close up; every cell is in cells.csv."""

CROP_UM = 64.0
"""Side of a close-up: a cell with its neighbours. Larger boxes get a larger one."""

CROP_PIXELS = 256
"""Largest side of a close-up in pixels."""

THREADS = 2
"""That take pictures at once."""


@dataclass(frozen=True)
class Overview:
    """The whole slide as a JPEG; one of its pixels is ``downsample`` level-0 pixels."""

    jpeg: bytes
    size: Size
    downsample: float


@dataclass(frozen=True)
class Crop:
    """A square close-up of one cell.

    Attributes:
        jpeg: the picture.
        cell: the cell's row in the detections that the crops were chosen from.
        x, y, side: the square in level-0 pixels.
    """

    jpeg: bytes
    cell: int
    x: float
    y: float
    side: float


@dataclass(frozen=True)
class Pictures:
    """Everything that the page of one slide shows."""

    overview: Overview | None = None
    crops: tuple[Crop, ...] = ()


def take_pictures(
    slide: Slide,
    cells: Detections,
    classes: Sequence[CellClass],
    limit: int = GALLERY_LIMIT,
    first: NDArray[np.intp] | None = None,
) -> Pictures:
    """Takes the overview, and close-ups of the most suspicious cells.

    Args:
        slide: an open slide.
        cells: level-0 boxes, in the order of the report (`most_suspicious_first`).
        classes: what the cells' labels mean.
        limit: how many close-ups at most.
        first: rows of cells that carry the suggestion, best first; they come before the others.
    """
    chosen = choose_gallery(cells, classes, limit, first).tolist()
    with ThreadPoolExecutor(THREADS) as pool:
        overview = pool.submit(_take_overview, slide)
        crops = list(pool.map(lambda cell: _take_crop(slide, cells, cell), chosen))
    return Pictures(overview.result(), tuple(crop for crop in crops if crop is not None))


def choose_gallery(
    cells: Detections,
    classes: Sequence[CellClass],
    limit: int,
    first: NDArray[np.intp] | None = None,
) -> NDArray[np.int64]:
    """Rows of the abnormal cells to show: those that carry the suggestion, then the others.

    The others come by turns, the best of each class, most severe first: taking turns keeps a rare
    severe class in sight when a common mild one has better scores. For the same reason the first
    leave them a third of the places.
    """
    first = np.zeros(0, np.intp) if first is None else first
    rest = by_turns(cells, classes, first)
    kept = max(limit - len(rest), limit - limit // 3)
    shown = first[:kept]
    return np.concatenate([shown, rest[: limit - len(shown)]]).astype(np.int64)


def by_turns(
    cells: Detections, classes: Sequence[CellClass], without: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Rows of the abnormal cells but some: the best of each class in turn, most severe first."""
    candidates = np.setdiff1d(np.flatnonzero(is_abnormal(cells, classes)), without)
    labels, scores = cells.labels[candidates], cells.scores[candidates]
    severity = np.argsort(order_by_severity(classes))
    by_class = np.lexsort((candidates, -scores, severity[labels]))
    sorted_severity = severity[labels][by_class]
    first_of_class = np.searchsorted(sorted_severity, sorted_severity)
    turn = np.arange(len(by_class)) - first_of_class
    by_turn = by_class[np.lexsort((sorted_severity, turn))]
    return candidates[by_turn].astype(np.int64)


def _take_overview(slide: Slide) -> Overview:
    downsample = max(1.0, max(slide.size.width, slide.size.height) / OVERVIEW_PIXELS)
    image, _ = slide.overview(downsample)
    return Overview(_encode(image, 82), Size(image.shape[1], image.shape[0]), downsample)


def _take_crop(slide: Slide, cells: Detections, cell: int) -> Crop | None:
    """A close-up centred on a cell; None where the slide can't be read there."""
    x_min, y_min, x_max, y_max = cells.boxes[cell]
    side = max(CROP_UM / slide.mpp, 1.5 * (x_max - x_min), 1.5 * (y_max - y_min))
    pixels = min(CROP_PIXELS, max(1, round(side)))
    x, y = (x_min + x_max - side) / 2, (y_min + y_max - side) / 2
    try:
        seen = slide.on_plane(cells.plane_of(cell))
        image = seen.read_region(x, y, Size(pixels, pixels), side / pixels)
    except ReadError:
        return None
    return Crop(_encode(image, 85), cell, x, y, side)


def _encode(image: NDArray[np.uint8], quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()
