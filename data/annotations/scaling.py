"""How wide a pixel is, and where coordinates begin: what the image says against what files say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from data.annotations.drawing import Drawing, Placement, Remark
from data.annotations.images import ImageInfo

if TYPE_CHECKING:
    from data.annotations.settings import AnnotationSettings

SANE_MPP = (0.05, 5.0)
"""Finest and coarsest µm per pixel that a microscope gives; the pipeline's own limits."""

TOLERANCE = 0.05
"""Relative difference of two mpp above which they are not the same."""


def settle_mpp(
    drawing: Drawing, stated: float | None, info: ImageInfo, settings: AnnotationSettings
) -> tuple[float | None, list[Remark]]:
    """µm per pixel of an image, and what others say that isn't believed.

    The image's own goes before the annotation file's, and that before the settings': annotations
    may be drawn on a copy, or by a tool that didn't know the scale.

    Args:
        drawing: what is drawn on it.
        stated: µm per pixel of the image as the annotation file says.
        info: what the image says.
        settings: what the user says of images that carry none.
    """
    remarks = []
    if stated is not None and not SANE_MPP[0] <= stated <= SANE_MPP[1]:
        remarks.append(_unused("the annotations state an absurd", stated, None))
        stated = None
    mpp = info.mpp or stated or settings.mpp
    if stated and info.mpp and _differ(stated, info.mpp):
        remarks.append(_unused("the annotations state", stated, f"the image's {info.mpp:g}"))
    if settings.mpp and mpp and _differ(settings.mpp, mpp):
        whose = "the image's" if info.mpp else "the annotations'"
        remarks.append(_unused("the settings state", settings.mpp, f"{whose} {mpp:g}"))
    if drawing.mpp_by_the_way and stated and not info.mpp:
        text = f"the image carries no µm per pixel; the annotations' {stated:.4g} is used"
        remarks.append(Remark("annotation-mpp-used", text))
    return mpp, remarks


def axis_mpp(info: ImageInfo, mpp: float | None) -> NDArray[np.float64] | None:
    """(2,) µm per pixel in x and in y: the scanner's where both are sane, else one for both."""
    try:
        values = [float(info.properties[f"openslide.mpp-{axis}"]) for axis in "xy"]
    except (KeyError, ValueError):
        values = []
    low, high = SANE_MPP
    if values and info.mpp and all(low <= value <= high for value in values):
        return np.array(values)
    return None if mpp is None else np.array([mpp, mpp])


def placement(
    drawing: Drawing, info: ImageInfo, mpp: float | None, settings: AnnotationSettings
) -> tuple[Placement, list[Remark]]:
    """Scale and offset of a drawing's coordinates, and what a person should know of them.

    Raises:
        ConfigError: the image's facts don't suffice.
    """
    if drawing.place:
        if settings.frame == "auto":
            return drawing.place(info), []
        text = f"frame: {settings.frame}: these places aren't pixels of the image"
        return drawing.place(info), [Remark("annotation-setting-idle", text)]
    scale = np.ones(2)
    if drawing.in_um:
        per_pixel = axis_mpp(info, mpp)
        if per_pixel is None:
            raise ConfigError("places are in µm: the image's mpp is needed: give it")
        scale = 1 / per_pixel
    if settings.frame == "bounds" and info.bounds is None:
        text = "frame: bounds: the image does not say what was scanned; (0, 0) is its own corner"
        return (scale, np.zeros(2)), [Remark("frame-without-bounds", text)]
    frame = drawing.frame if settings.frame == "auto" else settings.frame
    if frame == "slide" or info.bounds is None or not any(info.bounds[:2]):
        return (scale, np.zeros(2)), []
    x, y = info.bounds[:2]
    text = f"(0, 0) is taken for the corner of what was scanned (bounds): moved by {x}, {y} px"
    return (scale, np.array([x, y], np.float64)), [Remark("frame-qupath", text)]


def _unused(what: str, mpp: float, instead: str | None) -> Remark:
    rest = f"{instead} is used" if instead else "it is not used"
    return Remark("annotation-mpp", f"{what} {mpp:.4g} µm per pixel; {rest}")


def _differ(first: float, second: float) -> bool:
    return not abs(first - second) <= TOLERANCE * max(first, second)
