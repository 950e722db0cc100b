"""Quality of the picture: what of a slide is out of focus, too dark, under a pen or in bubbles.

Nothing is left out for it that foreground has not left out: cells there are counted as any others,
and the report says how many they are. Each fault has an area, a share and a limit above which it is
warned of. The limits are no findings: how much of a fault a lab's slides may have, the lab decides.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from configs import Doubt, StrictModel
from pipeline.geometry import Detections, Rect
from pipeline.tiles.deposit import Deposit
from pipeline.tiles.faults import Faults
from pipeline.tiles.focus import SIDE
from pipeline.tiles.plausible import Focus
from pipeline.tiles.sharpness import LEAST_SHARP

Mask = NDArray[np.bool_]

FaultName = Literal["out_of_focus", "dark", "ink", "bubbles"]
"""What may be wrong with a part of a picture, in the order of report and legend."""

_TOLD: Mapping[FaultName, tuple[str, str, str]] = {
    "out_of_focus": (
        "out-of-focus-areas",
        "of what could be measured is out of focus",
        "cells there are missed and misjudged",
    ),
    "dark": (
        "dark-areas",
        "of the specimen lets too little light pass, too thick or overstained",
        "cells there can hardly be seen",
    ),
    "ink": (
        "pen-marks",
        "of the specimen and the pen's marks is covered by a pen",
        "what does not show through was not screened",
    ),
    "bubbles": (
        "bubbles",
        "of the specimen and the bubbles lies in bubbles or at the edge of the coverslip",
        "cells there are distorted, or none are seen",
    ),
}
"""Code, what is wrong, and what that means for the cells."""


class QualitySettings(StrictModel):
    """What is told of a picture's quality. All of it is measured in any case, for rescoring.

    Attributes:
        enabled: without, nothing is told of it.
        least_sharp: sharpness below which a square of 128 µm is out of focus.
        out_of_focus: share of what could be measured above which that is warned of.
        dark: share of the specimen that lets too little light pass, likewise.
        ink: share of specimen and pen marks that the marks cover, likewise.
        bubbles: share of specimen and bubbles that lies in bubbles and at edges, likewise.
    """

    enabled: bool = True
    least_sharp: float = Field(LEAST_SHARP, gt=0, lt=1)
    out_of_focus: float = Field(0.1, ge=0, le=1)
    dark: float = Field(0.25, ge=0, le=1)
    ink: float = Field(0.05, ge=0, le=1)
    bubbles: float = Field(0.05, ge=0, le=1)

    def limit_of(self, fault: FaultName) -> float:
        """Share above which a fault is warned of."""
        limit: float = getattr(self, fault)
        return limit


class _Part(StrictModel):
    """A part of the report: strict JSON, so no NaN and no infinity."""

    model_config = ConfigDict(allow_inf_nan=False)


class Fault(_Part):
    """A fault of the picture; its area is `area.*_mm2`."""

    share: float | None = Field(
        ge=0,
        le=1,
        description="out of focus: of what could be measured; dark: of the specimen; ink, bubbles: "
        "of the specimen and these; null of nothing",
    )
    limit: float = Field(description="share above which it is warned of")
    cells: int = Field(ge=0, description="reported cells whose centre lies in it")
    abnormal_cells: int = Field(ge=0, description="those of them that are abnormal")


class Quality(_Part):
    """How well the picture shows the specimen; null where a fault was not looked for."""

    measured_mm2: float = Field(ge=0, description="area whose sharpness could be measured")
    least_sharp: float = Field(description="sharpness below which a square is out of focus")
    out_of_focus: Fault | None = Field(None, description="squares of 128 µm that are blurred")
    dark: Fault | None = Field(None, description="too thick or overstained")
    ink: Fault | None = Field(None, description="covered by a pen")
    bubbles: Fault | None = Field(None, description="in bubbles, at edges of the coverslip")


@dataclass(frozen=True)
class FaultMap:
    """Where a fault is: square (row, column) starts at (column, row) * ``side``, in level-0 px."""

    mask: Mask
    side: float

    def area_px0(self, bounds: Rect) -> float:
        """Area within bounds, in level-0 pixels."""
        height, width = (
            np.diff((np.arange(count + 1) * self.side).clip(low, high))
            for count, low, high in zip(
                self.mask.shape, (bounds.y, bounds.x), (bounds.bottom, bounds.right), strict=True
            )
        )
        return float(height @ self.mask @ width)

    def holds(self, points: NDArray[np.float64]) -> Mask:
        """Says (N,) which level-0 points (N, 2) lie in it."""
        columns, rows = np.floor(points / self.side).astype(np.int64).T
        height, width = self.mask.shape
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        return np.asarray(inside & self.mask[rows.clip(0, height - 1), columns.clip(0, width - 1)])


@dataclass(frozen=True)
class PictureQuality:
    """What is known of a picture's quality.

    Attributes:
        maps: where each fault is; those that were looked for.
        measured: where sharpness was; None where it was not looked at.
    """

    maps: Mapping[FaultName, FaultMap]
    measured: FaultMap | None = None

    @property
    def focus(self) -> Focus | None:
        """How many squares are out of focus, of how many; None where none was measured."""
        if self.measured is None or not self.measured.mask.any():
            return None
        return Focus(int(self.maps["out_of_focus"].mask.sum()), int(self.measured.mask.sum()))


def find_faults(
    deposit: Deposit | None, faults: Faults | None, settings: QualitySettings
) -> PictureQuality:
    """Where each fault of a picture is.

    Args:
        deposit: where the specimen lies; None where nobody looked.
        faults: what was seen; likewise.
        settings: what counts as one.
    """
    if not settings.enabled or deposit is None:
        return PictureQuality({})
    faults = faults or Faults()
    maps: dict[FaultName, FaultMap] = {}
    hidden = np.zeros_like(deposit.mask)
    if faults.ink is not None:
        hidden |= _with_border(faults.ink)
    measured = None
    dark = None
    if deposit.thick is not None:
        dark = deposit.thick & deposit.mask
        dark &= ~faults.ink if faults.ink is not None else True
        hidden |= deposit.thick
    if faults.sharpness is not None:
        # What lets no light pass says nothing of focus, nor does the soft border of ink.
        seen = np.isfinite(faults.sharpness) & ~_mostly(hidden, faults.sharpness.shape)
        side = SIDE * deposit.side
        measured = FaultMap(seen, side)
        if seen.any():
            blurred = seen & (faults.sharpness < settings.least_sharp)
            maps["out_of_focus"] = FaultMap(blurred, side)
    small: dict[FaultName, Mask | None] = {
        "dark": dark,
        "ink": faults.ink,
        "bubbles": faults.bubbles,
    }
    maps |= {n: FaultMap(mask, deposit.side) for n, mask in small.items() if mask is not None}
    return PictureQuality(maps, measured)


def measure_faults(
    quality: PictureQuality,
    deposit: Deposit | None,
    bounds: Rect,
    mpp: float,
    cells: Detections,
    abnormal: Mask,
    settings: QualitySettings,
) -> tuple[Quality | None, dict[str, float]]:
    """How large each fault is, and how many cells lie in it.

    Args:
        quality: where they are.
        deposit: where the specimen lies.
        bounds: the scanned part of the slide.
        mpp: µm per level-0 pixel.
        cells: at or above threshold, in level-0 pixels.
        abnormal: (N,) which of them are.
        settings: with the limits.

    Returns:
        The report's part, None where nobody looked; and what `AreaFacts` says of it.
    """
    if not quality.maps or deposit is None:
        return None, {}
    mm2 = (mpp / 1000) ** 2
    measured = quality.measured.area_px0(bounds) * mm2 if quality.measured else 0.0
    specimen = FaultMap(deposit.mask, deposit.side).area_px0(bounds) * mm2
    facts: dict[str, Fault] = {}
    areas: dict[str, float] = {}
    for name, where in quality.maps.items():
        area = where.area_px0(bounds) * mm2
        if name == "out_of_focus":
            of = measured
        elif name == "dark":
            of = specimen
        else:
            both = FaultMap(where.mask | deposit.mask, where.side)
            of = both.area_px0(bounds) * mm2
        inside = where.holds(cells.centers)
        facts[name] = Fault(
            share=round(min(1.0, area / of), 4) if of else None,
            limit=settings.limit_of(name),
            cells=int(inside.sum()),
            abnormal_cells=int((inside & abnormal).sum()),
        )
        areas[f"{name}_mm2"] = round(area, 6)
    told = Quality(measured_mm2=round(measured, 6), least_sharp=settings.least_sharp, **facts)
    return told, areas


def warn_of_quality(
    quality: Quality | None, areas: Mapping[str, float], known: Collection[str]
) -> list[Doubt]:
    """A warning for each fault whose share is above its limit.

    Args:
        quality: of the report.
        areas: as of `measure_faults`.
        known: codes of what is known of the slide: of one that is out of focus as a whole, or dark
            or inverted, its parts need no word.
    """
    if quality is None or "too-dark" in known:
        return []
    doubts = []
    for name, (code, what, so) in _TOLD.items():
        fault: Fault | None = getattr(quality, name)
        if fault is None or fault.share is None or fault.share <= fault.limit:
            continue
        if name == "out_of_focus" and "out-of-focus" in known:
            continue
        cells = f"{fault.cells:,} of the reported cells lie there"
        if fault.abnormal_cells:
            cells += f", {fault.abnormal_cells:,} of them abnormal"
        text = f"{fault.share:.0%} {what} ({areas[f'{name}_mm2']:.2f} mm², more than "
        text += f"{fault.limit:.0%}): {so}; {cells}"
        doubts.append(Doubt(code=code, text=text))
    return doubts


def _with_border(mask: Mask) -> Mask:
    """A mask and the squares beside it."""
    return np.asarray(cv2.dilate(mask.view(np.uint8), np.ones((3, 3), np.uint8)), bool)


def _mostly(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """Which squares of `SIDE` smaller ones a side a mask covers by half or more."""
    rows, columns = (SIDE * count for count in shape)
    whole = np.zeros((rows, columns), bool)
    part = mask[:rows, :columns]
    whole[: part.shape[0], : part.shape[1]] = part
    count = whole.reshape(shape[0], SIDE, shape[1], SIDE).sum(axis=(1, 3))
    return np.asarray(count >= SIDE * SIDE / 2)
