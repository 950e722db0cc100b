"""Stain templates: a crop takes on the colours that another field might have had.

After RandStainNA (Shen et al., MICCAI 2022, arXiv 2206.12694): a space of colours is drawn, then
for each of its channels a mean and a standard deviation, from how these differ between training
images; the crop is shifted and stretched to them, as Reinhard's transfer does. Ours: statistics are
those of crops; hue, an angle, is turned and never stretched; a contrast is at most doubled or
halved; and a crop goes a part of the way, since which of both dyes a cell took is not the
laboratory's doing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs import StrictModel
from data.crops.stains import Pixels, StainStep

Space = Literal["lab", "hsv", "hed"]
Floats = NDArray[np.float32]
Three = tuple[float, float, float]

LEARNED_FROM = 200
"""Crops that statistics are learned from."""

MOST_STRETCH = 2.0
"""A crop of glass alone has hardly a contrast; stretched to that of a field it would be noise."""

_EVERY = 4

_HED = np.linalg.inv([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""From optical densities to haematoxylin, eosin and DAB (Ruifrok and Johnston 2001)."""


class SpaceStatistics(StrictModel):
    """How crops differ in a space's three channels.

    Attributes:
        mean: of the crops' means; of hue the mean direction in degrees.
        mean_sd: standard deviation of these between crops.
        sd: mean of the crops' standard deviations; of hue of no meaning.
        sd_sd: standard deviation of these between crops.
    """

    mean: Three
    mean_sd: Three
    sd: Three
    sd_sd: Three


class TemplateSettings(StrictModel):
    """How crops are changed to random templates.

    Attributes:
        spaces: of which one is drawn a crop: L*a*b*, hue-saturation-value, or densities of
            haematoxylin, eosin and DAB.
        probability: of a crop to be changed.
        strength: share of the way to the template; 1 is RandStainNA's.
        statistics: of each space, lab's on 0..100 and -128..127, hsv's in degrees and 0..1, hed's
            as optical densities to base e; None: learned from the run's first crops.
    """

    spaces: tuple[Space, ...] = Field(("lab", "hsv", "hed"), min_length=1)
    probability: float = Field(0.5, gt=0, le=1)
    strength: float = Field(0.4, gt=0, le=1)
    statistics: Mapping[Space, SpaceStatistics] | None = None


class StainTemplate(StainStep):
    """Shifts and stretches the channels of a crop to a template that is drawn.

    Args:
        statistics: of every space that may be drawn.
        strength: share of the way.
        p: probability.
    """

    def __init__(
        self, statistics: Mapping[Space, SpaceStatistics], strength: float = 0.4, p: float = 0.5
    ) -> None:
        super().__init__(p=p)
        self.statistics, self.strength = statistics, strength

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """A space, and (3,) means and standard deviations of its channels."""
        space = list(self.statistics)[rng.integers(len(self.statistics))]
        known = self.statistics[space]
        return {
            "space": space,
            "mean": rng.normal(known.mean, known.mean_sd),
            "sd": np.maximum(rng.normal(known.sd, known.sd_sd), 0),
        }

    def apply(
        self,
        img: Pixels,
        space: Space,
        mean: NDArray[np.float64],
        sd: NDArray[np.float64],
        **_: Any,
    ) -> Pixels:
        """Moves (H, W, 3) uint8 RGB to the template."""
        into, back = SPACES[space]
        values = into(img)
        own_mean, own_sd = describe(values, space)
        stretch = np.clip(sd / np.maximum(own_sd, 1e-6), 1 / MOST_STRETCH, MOST_STRETCH)
        stretch **= self.strength
        shift = mean - own_mean
        if space == "hsv":
            stretch[0], shift[0] = 1.0, _turned(shift[0])
        moved = (values - own_mean) * stretch + own_mean + self.strength * shift
        return back(moved.astype(np.float32))


def describe(values: Floats, space: Space) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3,) means and standard deviations of the channels of (H, W, 3) values of a space.

    Of every fourth row and column, which tells as much. The mean of hue is a direction, to which
    grey pixels, whose hue means nothing, add little.
    """
    rows = values[::_EVERY, ::_EVERY].reshape(-1, 3)
    mean, sd = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    if space == "hsv":
        angle = np.exp(1j * np.radians(rows[:, 0]))
        mean[0] = np.degrees(np.angle((angle * rows[:, 1]).sum())) % 360
        sd[0] = 0.0
    return mean, sd


def learn_statistics(
    crops: Iterable[Pixels], spaces: Iterable[Space]
) -> dict[Space, SpaceStatistics]:
    """How (H, W, 3) uint8 RGB crops differ in each space."""
    images = list(crops)
    return {space: _statistics(images, space) for space in spaces}


def _statistics(images: list[Pixels], space: Space) -> SpaceStatistics:
    described = [describe(SPACES[space][0](image), space) for image in images]
    means, sds = (np.array(part) for part in zip(*described, strict=True))
    centre = means.mean(axis=0)
    if space == "hsv":
        direction = np.exp(1j * np.radians(means[:, 0])).sum()
        centre[0] = np.degrees(np.angle(direction)) % 360
        means[:, 0] = centre[0] + _turned(means[:, 0] - centre[0])
    spreads = (means - centre).std(axis=0), sds.mean(axis=0), sds.std(axis=0)
    mean, mean_sd, sd, sd_sd = (tuple(np.round(part, 4).tolist()) for part in (centre, *spreads))
    return SpaceStatistics(mean=mean, mean_sd=mean_sd, sd=sd, sd_sd=sd_sd)


def _turned(degrees: Any) -> Any:
    """The same turn as -180..180."""
    return (degrees + 180) % 360 - 180


def _to_lab(image: Pixels) -> Floats:
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))


def _from_lab(values: Floats) -> Pixels:
    values[..., 0] = values[..., 0].clip(0, 100)
    return _as_bytes(cv2.cvtColor(values, cv2.COLOR_LAB2RGB))


def _to_hsv(image: Pixels) -> Floats:
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV))


def _from_hsv(values: Floats) -> Pixels:
    values[..., 0] %= 360
    values[..., 1:] = values[..., 1:].clip(0, 1)
    return _as_bytes(cv2.cvtColor(values, cv2.COLOR_HSV2RGB))


def _to_hed(image: Pixels) -> Floats:
    density = -np.log((image.astype(np.float32) + 1) / 256)
    return np.asarray(cv2.transform(density, _HED.T.astype(np.float32)))


def _from_hed(values: Floats) -> Pixels:
    density = cv2.transform(values, np.linalg.inv(_HED).T.astype(np.float32))
    return _as_bytes((256 * np.exp(-np.maximum(density, 0)) - 1) / 255)


def _as_bytes(values: Any) -> Pixels:
    return np.asarray((values * 255).round().clip(0, 255), np.uint8)


SPACES: Mapping[Space, tuple[Callable[[Pixels], Floats], Callable[[Floats], Pixels]]] = {
    "lab": (_to_lab, _from_lab),
    "hsv": (_to_hsv, _from_hsv),
    "hed": (_to_hed, _from_hed),
}
"""From RGB to each space, and back."""
