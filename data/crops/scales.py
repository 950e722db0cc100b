"""Places of annotated fields, shown larger or smaller than they are, for a network of scale."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option

from configs import StrictModel
from data.crops.augment import AugmentSettings, build_augmentation
from data.fields.fieldset import Field
from data.fields.images import FieldImages
from data.fields.regions import downsample_of
from data.resample import resample

LEAST_SIDE = 96
"""Shortest side in model pixels of a place that still says something."""


class ScaleDraws(StrictModel):
    """How places are drawn.

    Attributes:
        per_field: places a field.
        reach: greatest magnification, and its inverse the least, as a logarithm.
        coarser: greatest factor, as a logarithm, by which a half of the places lost detail before:
            what a slide shows at a scale depends on the one that it was scanned at.
        side: of a place in model pixels, as far as the field has them.
        augment: how places are changed beside.
    """

    per_field: int = Option(12, ge=1)
    reach: float = Option(0.9, gt=0, le=2)
    coarser: float = Option(0.7, ge=0, le=2)
    side: int = Option(448, ge=LEAST_SIDE)
    augment: AugmentSettings = AugmentSettings()


@dataclass(frozen=True)
class ScaledPlace:
    """A place of a field.

    Attributes:
        pixels: (H, W, 3) RGB.
        magnification: natural logarithm of how much larger things are shown than at the mpp that
            was asked for.
        field: index of the field.
    """

    pixels: NDArray[np.uint8]
    magnification: float
    field: int


def draw_places(
    fields: tuple[Field, ...], images: FieldImages, mpp: float, draws: ScaleDraws, seed: int
) -> Iterator[ScaledPlace]:
    """Places of every field, each at a magnification of its own, augmented.

    Magnifications of a field are spread evenly over ``draws.reach``, each drawn within its share.

    Args:
        fields: whose mpp is known.
        images: their pixels.
        mpp: µm per pixel at which things are shown in their size.
        draws: how many, and how far.
        seed: of all that is random.

    Raises:
        ConfigError: a field's mpp is not known.
        ImageError: an image can't be read.
    """
    augment = build_augmentation(draws.augment, seed)
    rng = np.random.default_rng(seed)
    for index, field in enumerate(fields):
        shares = (np.arange(draws.per_field) + rng.random(draws.per_field)) / draws.per_field
        for magnification in (2 * shares - 1) * draws.reach:
            lost = math.exp(rng.uniform(0, draws.coarser)) if rng.random() < 0.5 else 1.0
            where = (rng.random(), rng.random())
            shown = cut_place(field, index, images, mpp, magnification, draws.side, where, lost)
            pixels = augment(image=shown, bboxes=np.zeros((0, 4)), labels=[])["image"]
            yield ScaledPlace(pixels, float(magnification), index)


def cut_place(
    field: Field,
    index: int,
    images: FieldImages,
    mpp: float,
    magnification: float,
    side: int,
    where: tuple[float, float] = (0.5, 0.5),
    lost: float = 1.0,
) -> NDArray[np.uint8]:
    """A place of a field, magnified.

    Args:
        field: the field.
        index: of the field among those of ``images``.
        images: their pixels.
        mpp: µm per pixel at which things are shown in their size.
        magnification: natural logarithm of how much larger they are shown.
        side: of the place in pixels; less where the field has fewer.
        where: 0..1 in x and y: at the left or top border, or at the other.
        lost: factor by which the field is made coarser first.

    Returns:
        (H, W, 3) RGB.
    """
    downsample = downsample_of(field, mpp) * math.exp(-magnification)
    width, height = (min(side, int(extent / downsample)) for extent in (field.width, field.height))
    reach = np.array([width, height]) * downsample
    corner = np.array(where) * (np.array([field.width, field.height]) - reach)
    box = tuple(np.concatenate([corner, corner + reach]).tolist())
    if lost == 1.0:
        return images.crop(index, (width, height), box)
    coarse = tuple(max(1, round(extent / lost)) for extent in reach.tolist())
    return resample(images.crop(index, coarse, box), (width, height))
