"""A drawing laid on its image: coordinates in pixels, marks grown to boxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from data.annotations.areas import covering, outside
from data.annotations.classes import IGNORE, REGION
from data.annotations.drawing import Drawing, Outline, Remark, rectangle
from data.annotations.images import ImageInfo
from data.annotations.scaling import placement, settle_mpp
from data.annotations.settings import AnnotationSettings

Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class Placed:
    """What is drawn, in pixels of the image.

    Attributes:
        size: (2,) width and height of the image.
        mpp: µm per pixel, None where nobody says.
        boxes: (N, 4) xyxy, not clipped.
        nuclei: (N, 2).
        outlines: of the shapes that are more than a box, by their index.
        scanned: (4,) xyxy of what was scanned; all of the image where nobody says.
        remarks: how scale and frame were settled, where that was odd.
    """

    size: NDArray[np.int64]
    mpp: float | None
    boxes: Boxes
    nuclei: NDArray[np.float64]
    outlines: dict[int, Outline]
    scanned: NDArray[np.int64]
    remarks: tuple[Remark, ...] = ()

    def clipped(self, boxes: Boxes) -> Boxes:
        """The parts of boxes that lie on the image."""
        return boxes.clip(0, np.tile(self.size, 2))

    @property
    def middles(self) -> NDArray[np.float64]:
        """(N, 2) middles of the boxes."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    def are_beyond(self) -> NDArray[np.bool_]:
        """Which boxes lie wholly outside of the image."""
        beyond = (self.boxes[:, 2:] <= 0) | (self.boxes[:, :2] >= self.size)
        return np.any(beyond, axis=1)

    def are_elsewhere(self) -> NDArray[np.bool_]:
        """Which boxes lie wholly outside of what was scanned."""
        beyond = (self.boxes[:, 2:] <= self.scanned[:2]) | (self.boxes[:, :2] >= self.scanned[2:])
        return np.any(beyond, axis=1)

    def are_thin(self) -> NDArray[np.bool_]:
        """Which boxes are at most 1 px wide or high on the image."""
        clipped = self.clipped(self.boxes)
        return np.any(clipped[:, 2:] - clipped[:, :2] <= 1, axis=1)

    def outline(self, index: int) -> Outline:
        """The outline of a shape, or its box as one."""
        return self.outlines.get(index, (rectangle(self.boxes[index].reshape(2, 2)),))


def place(drawing: Drawing, info: ImageInfo, settings: AnnotationSettings) -> Placed:
    """Lays a drawing on its image.

    The image's own µm per pixel goes before the file's, and that before the settings'.

    Raises:
        ConfigError: the image's facts don't suffice, or a mark has no size.
    """
    resized = float(drawing.place(info)[0].mean()) if drawing.place else 1.0
    stated = drawing.mpp / resized if drawing.mpp else None
    mpp, told = settle_mpp(drawing, stated, info, settings)
    (scale, offset), moved = placement(drawing, info, mpp, settings)
    boxes = drawing.boxes * np.tile(scale, 2) + np.tile(offset, 2)
    if drawing.marks.any():
        half = _mark_side(drawing, settings, mpp) / 2
        boxes = boxes + np.outer(drawing.marks, [-half, -half, half, half])
    return Placed(
        size=np.array([info.width, info.height]),
        mpp=mpp,
        boxes=boxes,
        nuclei=drawing.nuclei * scale + offset,
        outlines={i: tuple(r * scale + offset for r in o) for i, o in drawing.outlines.items()},
        scanned=np.array(info.bounds or (0, 0, info.width, info.height)),
        remarks=(*told, *moved),
    )


def ignored_areas(placed: Placed, targets: NDArray[np.object_]) -> Boxes:
    """Areas (K, 4) that are neither cell nor background: each once, on the image.

    An outline that is to be ignored is ignored with all of its box, unless it has holes. Regions,
    where there are any, leave everything outside of them to be ignored.
    """
    found = np.concatenate([np.zeros((0, 4)), *_areas(placed, targets)])
    found = placed.clipped(found)
    found = found[(found[:, 2:] > found[:, :2]).all(1)]
    _, first = np.unique(found, axis=0, return_index=True)
    return found[np.sort(first)]


def _areas(placed: Placed, targets: NDArray[np.object_]) -> Iterator[Boxes]:
    width, height = placed.size.tolist()
    for index in np.flatnonzero(targets == IGNORE).tolist():
        has_holes = len(placed.outlines.get(index, ())) > 1
        alone = placed.boxes[index : index + 1]
        yield covering(placed.outlines[index], width, height) if has_holes else alone
    regions = [placed.outline(index) for index in np.flatnonzero(targets == REGION).tolist()]
    if regions:
        yield outside(regions, width, height)


def _mark_side(drawing: Drawing, settings: AnnotationSettings, mpp: float | None) -> float:
    size = settings.point_size or drawing.mark_um
    if size is None:
        raise ConfigError("cells are marked by points: say by point_size how many µm they measure")
    if mpp is None:
        raise ConfigError("points that stand for cells of some µm need the image's mpp: give it")
    return size / mpp
