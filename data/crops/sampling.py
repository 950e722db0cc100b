"""Where training crops lie: around cells, in what looks like cells, or anywhere.

Few tiles of a slide hold an abnormal cell, so crops are laid where there is something to learn. All
of it is drawn from the generator that comes with each call, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option
from pydantic import model_validator

from configs import ConfigError, StrictModel
from data.fields.fieldset import Field, FieldSet, of_source
from data.fields.images import FieldImages, ImageError
from data.fields.places import Places
from data.fields.rarity import (
    cells_by_class,
    class_weights,
    classes_present,
    factors_of_fields,
    repeat_factors,
)
from data.fields.regions import Window, is_covered

Factors = NDArray[np.float64]

TRIES = 20
"""Places that are drawn before one is taken that is not worth much."""


class GradientSettings(StrictModel):
    """Sampling that follows the gradient: classes that receive little of it are drawn more often.

    A class's factor is min(max_repeat, (1 / (C q)) ** alpha), where q is its share of the gradient
    that the class loss sends back, of C classes that have cells: above 1 below the even share,
    below 1 above it. Ours; of the work that suggested it (Xu et al. 2023) only the title is known.

    Attributes:
        alpha: 0 changes nothing, 1 makes up for the whole difference.
        max_repeat: no class is drawn more often than so many times as often as else.
        interval: batches from one measurement to the next. What was measured by the end of one
            interval steers the one after the next, since crops are prepared ahead: at least
            2 * loop.workers + 2.
        momentum: how much of the share that was known counts beside the new one.
    """

    alpha: float = Option(0.5, ge=0, le=1)
    max_repeat: float = Option(8.0, ge=1)
    interval: int = Option(25, ge=2)
    momentum: float = Option(0.5, ge=0, lt=1)


class CropSettings(StrictModel):
    """How crops are drawn.

    Attributes:
        size: side of a crop in pixels of the model's mpp.
        scale: largest relative change of scale, as 1.2 for 1 / 1.2 to 1.2.
        around_cells: share of crops that are laid around a cell, of a class drawn first.
        class_power: 0 draws the cell's class by its frequency, 1 evenly over classes.
        hard_background: share of crops that show cells, or what looks like some, but none that is
            annotated; of crops laid around cells there are ``around_cells``, of those laid anywhere
            the rest.
        repeat_threshold: share of fields below which a class is rare; crops laid anywhere then
            come more often from fields with rare classes, see `repeat_factors`. None: evenly.
        drawn: share of crops that are drawn by `data.synth`, not cut from a field.
        paste: how many cells of other fields are laid on a crop, on average.
        source_power: of several sources each is drawn from by how many fields it has, to the power
            of 1 - this, times its weight: 0 by their number, 1 evenly over sources. With 0 and no
            weights sources are drawn from as if they were one; else a source is drawn first, then
            a crop of it, its classes and rare fields judged by its own cells.
        batches: "balanced" has every batch hold equally many crops of each source; where these are
            not a multiple of the sources, they take turns with the places that are over. In the
            place of source_power and the sources' weights. None: a crop's source is drawn.
        gradient: how the gradient that each class receives changes all this: the weight of a class
            that crops are laid around is multiplied by its factor, that of a field that crops are
            laid on anywhere by the largest factor of its classes, 1 without a cell. None: not.
        planes: of slides with several focal planes, how many above and below the best-focused one
            a crop may be of, drawn evenly; 0 for that one alone.
    """

    size: int = Option(384, ge=32)
    scale: float = Option(1.2, ge=1, le=2)
    around_cells: float = Option(0.5, ge=0, le=1)
    class_power: float = Option(0.5, ge=0, le=1)
    hard_background: float = Option(0.0, ge=0, le=1)
    repeat_threshold: float | None = Option(None, gt=0, le=1)
    drawn: float = Option(0.0, ge=0, le=1)
    paste: float = Option(0.0, ge=0, le=20)
    source_power: float = Option(0.0, ge=0, le=1)
    batches: Literal["balanced"] | None = None
    gradient: GradientSettings | None = None
    planes: int = Option(0, ge=0, le=20)

    @model_validator(mode="after")
    def _shares_leave_no_less_than_nothing(self) -> CropSettings:
        if self.around_cells + self.hard_background > 1:
            raise ValueError("around_cells and hard_background are shares, together at most 1")
        return self

    @model_validator(mode="after")
    def _balanced_batches_leave_nothing_to_weigh(self) -> CropSettings:
        if self.batches is not None and self.source_power:
            raise ValueError(
                "batches: balanced draws as often from every source, and source_power says "
                "otherwise; leave out one of them"
            )
        return self


class WindowSampler:
    """Draws square windows of fields.

    Args:
        fields: the annotated fields.
        images: their pixels, for surveys.
        downsample: pixels of each field per pixel of a crop.
        settings: how windows are drawn.
        members: indices of the fields that they are drawn from; None for all.

    Raises:
        ConfigError: all of each of these fields is to be ignored.
    """

    def __init__(
        self,
        fields: FieldSet,
        images: FieldImages,
        downsample: list[float],
        settings: CropSettings,
        members: NDArray[np.int64] | None = None,
    ) -> None:
        self._fields = fields.fields
        self._images = images
        self._downsample = downsample
        self._settings = settings
        own = np.arange(len(fields.fields)) if members is None else members
        self._cells = [cells[np.isin(cells[:, 0], own)] for cells in cells_by_class(fields)]
        counts = np.array([len(cells) for cells in self._cells], np.float64)
        self._class_weights = class_weights(counts, settings.class_power)
        self._around = settings.around_cells if self._class_weights.any() else 0.0
        self._open = own[_annotated([fields.fields[i] for i in own])]
        self._shares = None
        judged = replace(fields, fields=tuple(fields.fields[i] for i in own))
        if settings.repeat_threshold is not None:
            factors = repeat_factors(judged, settings.repeat_threshold)[np.isin(own, self._open)]
            self._shares = factors / factors.sum()
        self._present = classes_present(judged)[np.isin(own, self._open)]
        self._places: dict[int, Places | None] = {}
        # Once, for all workers and epochs: what is kept here, processes started later have.
        wanted = self._open.tolist() if self._around < 1 else []
        self._slides = {index for index in wanted if self._survey_slide(index)}

    def draw(
        self, rng: np.random.Generator, factors: Factors | None = None, turn: int = 0
    ) -> tuple[int, Window]:
        """A field's index, and a window of the crop's size times a random scale.

        Args:
            rng: of everything random.
            factors: (C,) how many times as often each class is to come; None: as ever.
            turn: number of the crop, by which sources take turns where there are several.
        """
        place = rng.random()
        if place < self._around:
            weights = self._class_weights
            if factors is not None:
                weights = weights * factors / (weights * factors).sum()
            label = rng.choice(len(self._cells), p=weights)
            index, x, y = self._cells[label][rng.integers(len(self._cells[label]))]
            return self._lay(int(index), (x, y), rng)
        shares = self._shares if factors is None else self._steered(factors)
        if place < self._around + self._settings.hard_background:
            return self._draw_background(shares, rng)
        return self._draw_anywhere(self._draw_field(shares, rng), rng)

    def _steered(self, factors: Factors) -> Factors:
        """(open fields,) shares of the fields, by the largest factor of their classes."""
        shares = factors_of_fields(self._present, factors)
        if self._shares is not None:
            shares = shares * self._shares
        return np.asarray(shares / shares.sum())

    def _draw_field(self, shares: Factors | None, rng: np.random.Generator) -> int:
        if shares is None:
            return int(self._open[rng.integers(len(self._open))])
        return int(rng.choice(self._open, p=shares))

    def _draw_background(
        self, shares: Factors | None, rng: np.random.Generator
    ) -> tuple[int, Window]:
        """A window whose middle is dark, while no annotated cell is near."""
        for _ in range(TRIES):
            index = self._draw_field(shares, rng)
            places = self._places_on(index)
            center = places.draw_background(rng) if places else None
            if center:
                return self._lay(index, center, rng, middle=True)
        return self._draw_anywhere(self._draw_field(shares, rng), rng)

    def _draw_anywhere(self, index: int, rng: np.random.Generator) -> tuple[int, Window]:
        """A window that shows what was annotated and, on a slide, more than glass.

        On an image without ignored areas any window does.
        """
        ignored = self._fields[index].boxes[self._fields[index].crowd]
        places = self._places_on(index) if len(ignored) or index in self._slides else None
        for _ in range(TRIES):
            center = places.draw(rng) if places else None
            index, window = self._lay(index, center, rng, middle=True)
            if not is_covered(window, ignored):
                break
        return index, window

    def _lay(
        self,
        index: int,
        center: tuple[float, float] | None,
        rng: np.random.Generator,
        middle: bool = False,
    ) -> tuple[int, Window]:
        """A window of a field: anywhere, or one that shows ``center``, in its middle or not."""
        field = self._fields[index]
        scale = np.exp(rng.uniform(-1, 1) * np.log(self._settings.scale))
        side = self._settings.size * self._downsample[index] / scale
        side = float(min(side, field.width, field.height))
        x, y = center or (None, None)
        left = _draw_start(rng, x, side, field.width, middle)
        top = _draw_start(rng, y, side, field.height, middle)
        return index, (left, top, left + side, top + side)

    def _survey_slide(self, index: int) -> bool:
        """Surveys a slide; says whether it is one, which images and what can't be opened aren't."""
        try:
            is_slide = self._images.is_slide(index)
        except ImageError:
            return False  # whoever reads a crop of it tells
        return is_slide and self._places_on(index) is not None

    def _places_on(self, index: int) -> Places | None:
        """Where windows of a field may lie; None where it can't be read."""
        if index not in self._places:
            self._places[index] = self._find_places(index)
        return self._places[index]

    def _find_places(self, index: int) -> Places | None:
        field = self._fields[index]
        side = self._settings.size * self._downsample[index]
        sides = side / self._settings.scale, side * self._settings.scale
        shortest, longest = (min(one, field.width, field.height) for one in sides)
        try:
            return Places(field, self._images.survey(index), shortest, longest)
        except ImageError:
            return None


class SourceSampler:
    """Draws a source, then a window of it; see `CropSettings`, source_power and batches.

    Args:
        fields: the annotated fields of all sources.
        images: their pixels, for surveys.
        downsample: pixels of each field per pixel of a crop.
        settings: how windows are drawn.
    """

    def __init__(
        self,
        fields: FieldSet,
        images: FieldImages,
        downsample: list[float],
        settings: CropSettings,
    ) -> None:
        shares = source_shares(fields, settings)
        self._balanced = settings.batches is not None
        self._shares = np.array(list(shares.values()))
        self._samplers = [
            WindowSampler(fields, images, downsample, settings, np.array(of_source(fields, name)))
            for name in shares
        ]

    def draw(
        self, rng: np.random.Generator, factors: Factors | None = None, turn: int = 0
    ) -> tuple[int, Window]:
        """As `WindowSampler.draw`; factors change nothing between sources."""
        count = len(self._samplers)
        source = turn % count if self._balanced else rng.choice(count, p=self._shares)
        return self._samplers[source].draw(rng, factors)


def build_sampler(
    fields: FieldSet, images: FieldImages, downsample: list[float], settings: CropSettings
) -> WindowSampler | SourceSampler:
    """What draws windows of fields: from all alike, or source by source where these are weighed.

    Raises:
        ConfigError: there is nothing to learn from, or nothing to balance.
    """
    sources = {field.source for field in fields.fields}
    weights = [fields.weights.get(name, 1.0) for name in sources]
    if settings.batches is not None and (problem := imbalance(weights)):
        raise ConfigError(problem)
    weighed = settings.source_power or settings.batches or len(set(weights)) > 1
    if len(sources) > 1 and weighed:
        return SourceSampler(fields, images, downsample, settings)
    return WindowSampler(fields, images, downsample, settings)


def source_shares(fields: FieldSet, settings: CropSettings) -> dict[str, float]:
    """Share of the crops that is drawn from each source: weight * fields ** (1 - power).

    Of balanced batches the same of each.
    """
    counts = Counter(field.source for field in fields.fields)
    if settings.batches is not None:
        return dict.fromkeys(counts, 1 / len(counts))
    power = settings.source_power
    wanted = {
        name: fields.weights.get(name, 1.0) * count ** (1 - power) for name, count in counts.items()
    }
    return {name: share / sum(wanted.values()) for name, share in wanted.items()}


def imbalance(weights: Sequence[float]) -> str | None:
    """Why batches can't be balanced over sources with these weights; None where they can."""
    if len(weights) < 2:
        return "data.crops.batches: balanced needs several sources in data.train, and there is one"
    if len(set(weights)) > 1:
        return (
            "data.crops.batches: balanced draws as often from every source, and the weight of "
            "those in data.train says otherwise; leave out one of them"
        )
    return None


def _annotated(fields: Sequence[Field]) -> NDArray[np.int64]:
    """Indices of the fields of which not everything is to be ignored.

    Raises:
        ConfigError: there is none.
    """
    wholes = [(0.0, 0.0, float(f.width), float(f.height)) for f in fields]
    judged = [
        not is_covered(whole, field.boxes[field.crowd])
        for whole, field in zip(wholes, fields, strict=True)
    ]
    if not any(judged):
        source = fields[0].source if fields else ""
        of = f" of the source {source}" if source else ""
        raise ConfigError(
            f"there is nothing to learn from: all of every image{of} is to be ignored"
        )
    return np.flatnonzero(judged)


def _draw_start(
    rng: np.random.Generator, center: float | None, side: float, length: int, middle: bool
) -> float:
    """Start of a window of ``side`` in 0..length, anywhere, or so that it shows ``center``."""
    if center is None:
        return float(rng.uniform(0, length - side))
    offset = 0.5 * side if middle else rng.uniform(0.1, 0.9) * side
    return float(np.clip(center - offset, 0, length - side))
