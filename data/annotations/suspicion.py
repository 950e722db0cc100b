"""Whether boxes lie on their images, and nuclei in them: told, or refused where most don't."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from configs.doubts import with_code
from data.annotations.drawing import Drawing
from data.annotations.images import ImageInfo
from data.annotations.log import Log
from data.annotations.placing import Placed, place
from data.annotations.settings import AnnotationSettings

MOST_OUTSIDE = 0.5
"""Share of the boxes of an image, or of a set, that may lie outside; above it they are refused."""

FEWEST = 3
"""Boxes of one image from which on it is refused by itself; fewer count for the set only."""

_ROUNDED = 1.0
"""Pixels by which a nucleus may lie off its box: both may be rounded."""


@dataclass(frozen=True)
class Outside:
    """Boxes of cells that lie outside of their image, or nuclei outside of their boxes.

    Attributes:
        path: the annotation file.
        image: as it is called there.
        count: how many lie outside.
        of: how many there are.
        hint: what would bring them inside.
    """

    path: Path
    image: str
    count: int
    of: int
    hint: str = ""

    @property
    def is_too_many(self) -> bool:
        """Whether these can hardly be right."""
        return self.count > MOST_OUTSIDE * self.of


def find_outside(
    path: Path,
    drawing: Drawing,
    placed: Placed,
    cells: NDArray[np.bool_],
    info: ImageInfo,
    settings: AnnotationSettings,
) -> Outside:
    """Counts the boxes of cells (N,) outside; of 1 px they stand for none, in some tools."""
    cells = cells & ((placed.boxes[:, 2:] - placed.boxes[:, :2]) > 1).all(axis=1)
    outside = cells & placed.are_elsewhere()
    found = Outside(path, drawing.image, int(outside.sum()), int(cells.sum()))
    if not found.is_too_many or drawing.place or info.bounds is None or not any(info.bounds[:2]):
        return found
    moved = any(remark.code == "frame-qupath" for remark in placed.remarks)
    other = "slide" if moved else "bounds"
    again = place(drawing, info, settings.model_copy(update={"frame": other}))
    count = int((cells & again.are_elsewhere()).sum())
    if count >= found.count:
        return found
    hint = f"; with frame={other} it would be {count}"
    return Outside(found.path, found.image, found.count, found.of, hint)


def check_outside(found: list[Outside], log: Log) -> None:
    """Takes note of boxes outside.

    Raises:
        ConfigError: more than `MOST_OUTSIDE` of one image, or of all.
    """
    if one := _to_refuse(found):
        text = (
            f"{one.path}: {one.image}: {one.count} of {one.of} boxes lie outside of the image, or "
            f"of what was scanned{one.hint}; are they of another image, at another scale, or in "
            "another frame?"
        )
        raise ConfigError(with_code(text, "boxes-elsewhere"))
    whole = sum(one.of for one in found)
    text = f"of {whole} boxes lie outside of their image, or of what was scanned of it"
    for one in found:
        log.add("boxes-outside", text, one.path, one.count)


def nuclei_outside(placed: Placed) -> NDArray[np.bool_]:
    """(N,) nuclei outside of the boxes of their cells, by more than rounding does."""
    low, high = placed.boxes[:, :2] - _ROUNDED, placed.boxes[:, 2:] + _ROUNDED
    return np.asarray(((placed.nuclei < low) | (placed.nuclei > high)).any(axis=1))


def check_nuclei(found: list[Outside], log: Log) -> None:
    """Takes note of nuclei outside of the boxes of their cells.

    Raises:
        ConfigError: more than `MOST_OUTSIDE` of one image, or of all.
    """
    if one := _to_refuse(found):
        text = (
            f"{one.path}: {one.image}: {one.count} of {one.of} nuclei lie outside of the boxes of "
            "their cells; are they at another scale, or in another frame?"
        )
        raise ConfigError(with_code(text, "nuclei-elsewhere"))
    text = "nuclei lie outside of the boxes of their cells, whose middles are taken"
    for one in found:
        log.add("nuclei-outside", text, one.path, one.count)


def _to_refuse(found: list[Outside]) -> Outside | None:
    """The image to name where too many of one, or of all, are outside; None where they aren't."""
    several = [one for one in found if one.is_too_many and one.of >= FEWEST]
    whole = Outside(Path(), "", sum(one.count for one in found), sum(one.of for one in found))
    if several or whole.is_too_many:
        return (several or [one for one in found if one.count])[0]
    return None
