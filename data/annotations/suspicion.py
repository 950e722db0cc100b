"""Whether annotations are of these images at all: told, or refused where most lie elsewhere."""

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


@dataclass(frozen=True)
class Outside:
    """Boxes of cells that lie outside of their image, or of what was scanned of it.

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
        """Whether these can hardly be annotations of this image."""
        return self.count > MOST_OUTSIDE * self.of


def find_outside(
    path: Path,
    drawing: Drawing,
    placed: Placed,
    cells: NDArray[np.bool_],
    info: ImageInfo,
    settings: AnnotationSettings,
) -> Outside:
    """Counts the boxes of cells (N,) that lie outside; those of 1 px stand for none at all."""
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
    several = [one for one in found if one.is_too_many and one.of >= FEWEST]
    whole = Outside(Path(), "", sum(one.count for one in found), sum(one.of for one in found))
    if several or whole.is_too_many:
        raise _refusal((several or [one for one in found if one.count])[0])
    text = f"of {whole.of} boxes lie outside of their image, or of what was scanned of it"
    for one in found:
        log.add("boxes-outside", text, one.path, one.count)


def _refusal(one: Outside) -> ConfigError:
    text = (
        f"{one.path}: {one.image}: {one.count} of {one.of} boxes lie outside of the image, or of "
        f"what was scanned{one.hint}; are they of another image, at another scale, or in another "
        "frame?"
    )
    return ConfigError(with_code(text, "boxes-elsewhere"))
