"""Focal planes in a report: which were read, and how many cells were found in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import ConfigDict, Field

from configs import StrictModel
from pipeline.cells.classes import CellClass, is_abnormal
from pipeline.geometry import Detections
from pipeline.slides.slide import Slide


class PlaneRead(StrictModel):
    """A focal plane of a slide with several, and whether it was looked at."""

    model_config = ConfigDict(allow_inf_nan=False)

    number: int = Field(ge=1, description="in the file's order; cells are told by it")
    name: str = Field(description="as the file or its order tells it")
    z_um: float | None = Field(
        description="where it lies along the optical axis, in µm; null where the file doesn't say"
    )
    tiles: int = Field(ge=0, description="tiles that were screened in it; 0: not looked at")


class PlaneFacts(PlaneRead):
    """A focal plane, and what was found in it."""

    cells: int = Field(ge=0, description="reported cells whose best score is of this plane")
    abnormal_cells: int = Field(ge=0, description="those of them of abnormal classes")


def describe_planes(slide: Slide, tiles: Mapping[int, int]) -> tuple[PlaneRead, ...]:
    """The planes of a slide; none where it has one, or where nobody knows what was read of which.

    Args:
        slide: an open one.
        tiles: how many were read, by the plane's index.
    """
    if not tiles:
        return ()
    return tuple(
        PlaneRead(number=n + 1, name=plane.name, z_um=plane.z_um, tiles=tiles.get(n, 0))
        for n, plane in enumerate(slide.planes)
    )


def count_planes(
    planes: Sequence[PlaneRead], cells: Detections, classes: Sequence[CellClass]
) -> tuple[PlaneFacts, ...] | None:
    """How many of the reported cells are of which plane; None for a slide of one plane."""
    if not planes:
        return None
    found = np.zeros(0, np.intp) if cells.planes is None else cells.planes.astype(np.intp)
    abnormal = is_abnormal(cells, classes)[: len(found)]
    every, suspect = (np.bincount(some, minlength=len(planes)) for some in (found, found[abnormal]))
    return tuple(
        PlaneFacts(**plane.model_dump(), cells=int(every[n]), abnormal_cells=int(suspect[n]))
        for n, plane in enumerate(planes)
    )
