"""What a model's cells look like, from its annotated fields: for its card."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from data.fields.fieldset import FieldSet
from data.fields.images import ImageError
from models.card import DomainFacts
from pipeline.cells.domain import MOST_CELLS
from pipeline.cells.domain_facts import describe_domain, look_at_field
from pipeline.cells.looks import LOOKS
from scripts.slides import images_of

MOST_FIELDS = 500
"""Fields that are looked at, spread evenly over a set: more hardly change how they vary."""


def measure_domain(
    train: FieldSet, val: FieldSet, found: Sequence[NDArray[np.float64]], data: str
) -> DomainFacts:
    """Describes the looks of a model's cells, for its card.

    What it learned from is described by the annotated cells, so that no detector has to look at
    these fields; what it found on the validation fields helps to choose how far is too far. Fields
    without a scale, and images that can't be read, are passed over.

    Args:
        train: fields that the model learned from.
        val: fields that it was validated on.
        found: of each of these, (N, 2) centres of the cells that the model reports, in its pixels.
        data: what the training fields are called.

    Raises:
        ConfigError: there are too few fields.
    """
    annotated = [_middles(field.nuclei[~field.crowd]) for field in train.fields]
    own, apart = _look(train, annotated), _look(val, found)
    wholes = [train.fields[index].group("slide") for index in own]
    told = data or "the training fields"
    try:
        return describe_domain(list(own.values()), wholes, list(apart.values()), told)
    except ValueError as error:
        raise ConfigError(f"what the model's cells look like: {error}") from error


def _look(
    fields: FieldSet, centers: Sequence[NDArray[np.float64]]
) -> dict[int, NDArray[np.float64]]:
    """Looks of the cells of some fields, by the field's number."""
    images, looks = images_of(fields), {}
    for index in _spread(len(fields.fields), MOST_FIELDS):
        field, chosen = fields.fields[index], centers[index]
        if field.mpp is None:
            continue
        chosen = chosen[_spread(len(chosen), MOST_CELLS)]
        try:
            cells = look_at_field(images, index, field, chosen)
        except ImageError:
            continue  # training and evaluation tell of it
        looks[index] = cells.reshape(-1, len(LOOKS))
    return looks


def _middles(nuclei: NDArray[np.float32]) -> NDArray[np.float64]:
    return nuclei.astype(np.float64).reshape(-1, 2)


def _spread(count: int, most: int) -> list[int]:
    """Numbers below ``count``, evenly spread; all where there are no more than ``most``."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
