"""How random samples are drawn: each from a generator of its own, and around what can't be read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from data.crops.augment import AugmentSettings, build_augmentation
from data.fields.fieldset import Field, FieldSet
from data.fields.images import FieldImages, ImageError
from data.fields.regions import downsample_of

Sample = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True)
class Steered:
    """Which crop is asked for, and what steers where it lies.

    Attributes:
        index: of the crop in its epoch.
        factors: (C,) how many times as often each class is to come; None: as ever.
    """

    index: int
    factors: NDArray[np.float64] | None


ATTEMPTS = 20
"""How often a crop is drawn anew where an image can't be read."""


class DrawnDataset(Dataset[Sample], ABC):
    """Random augmented crops, for one epoch; a subclass says how one is drawn.

    Item i of epoch e is a function of (seed, e, i) alone, whatever worker draws it. In the place of
    an image that can't be read another is drawn; a target's "unreadable" tells which fields are
    its.

    Args:
        fields: the annotated fields.
        images: their pixels, shared by all epochs.
        mpp: of the crops.
        augment: how pixels are changed.
        side: of a crop in px.
        length: crops an epoch.
        seed: of everything random.
        epoch: which one.
    """

    def __init__(
        self,
        fields: FieldSet,
        images: FieldImages,
        mpp: float,
        augment: AugmentSettings,
        side: int,
        length: int,
        seed: int,
        epoch: int,
    ) -> None:
        self.fields = fields.fields
        self.mpp = mpp
        self.length = length
        self.seed = seed
        self.epoch = epoch
        self._images = images
        self._downsample = [downsample_of(field, mpp) for field in self.fields]
        self._augment = build_augmentation(augment, side=side)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.length:
            raise IndexError(index)  # without it, iterating would never end
        return draw_readable(self._sample, self.fields, (self.seed, self.epoch, index))

    @abstractmethod
    def _sample(self, rng: np.random.Generator) -> Sample:
        """A crop by a generator.

        Raises:
            ImageError: its image can't be read.
        """


def draw_readable(
    sample: Callable[[np.random.Generator], Sample], fields: Sequence[Field], key: tuple[int, ...]
) -> Sample:
    """A random sample; another, where its image can't be read.

    Args:
        sample: draws one from a generator.
        fields: whose images are drawn from.
        key: seed, epoch and number of the sample, of which alone it is a function.

    Returns:
        The sample; its target's "unreadable" tells which fields' images could not be read.

    Raises:
        ImageError: none of `ATTEMPTS` images could.
    """
    unreadable: set[int] = set()
    for attempt in range(ATTEMPTS):
        # The first attempt has no number: crops stay what they were before there were others.
        rng = np.random.default_rng((*key, attempt)[: len(key) + (attempt > 0)])
        try:
            pixels, target = sample(rng)
        except ImageError as error:
            unreadable |= {i for i, field in enumerate(fields) if field.image == error.path}
            last = error
        else:
            return pixels, target | unreadable_fields(unreadable)
    raise last


def unreadable_fields(indices: set[int]) -> dict[str, Tensor]:
    """What a target says of fields that couldn't be read; nothing where all could."""
    return {"unreadable": torch.tensor(sorted(indices))} if indices else {}
