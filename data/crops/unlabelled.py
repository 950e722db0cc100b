"""Crops of images that nobody annotated, each in two views: as it is, and strongly changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import albumentations as A
import numpy as np
import torch
from torch.utils.data import Dataset

from data.crops.augment import AugmentSettings, build_augmentation
from data.crops.dataset import CropDataset, to_sample
from data.crops.drawing import DrawnDataset, Sample, Steered, draw_readable
from data.crops.sampling import CropSettings, WindowSampler
from data.fields.fieldset import FieldSet
from data.fields.images import FieldImages

STREAM = 2**40
"""Beside the seed: else these crops would be drawn by the annotated ones' generators."""


@dataclass(frozen=True)
class Unlabelled:
    """Asks for an unlabelled crop of an epoch.

    Attributes:
        index: of the crop.
    """

    index: int


class UnlabelledDataset(DrawnDataset):
    """Random crops in two views, for one epoch; see `DrawnDataset`.

    A crop is turned and flipped as a whole, so that places of both views are the same. The strong
    view is the sample, without boxes; its target has the other as "weak".

    Args:
        fields: without annotations.
        images: their pixels, shared by all epochs.
        mpp: of the crops.
        crops: their size and scale; all else of it is of annotated ones.
        strong: how the strong view is changed; see `check_strong`.
        length: crops an epoch.
        seed: of everything random.
        epoch: which one.
        first: what a field's index in targets begins with, beside those of annotated fields.
    """

    def __init__(
        self,
        fields: FieldSet,
        images: FieldImages,
        mpp: float,
        crops: CropSettings,
        strong: AugmentSettings,
        length: int,
        seed: int,
        epoch: int = 0,
        first: int = 0,
    ) -> None:
        super().__init__(fields, images, mpp, strong, crops.size, length, seed, epoch)
        drawn = CropSettings(size=crops.size, scale=crops.scale, around_cells=0)
        self.size, self.first = crops.size, first
        self._windows = WindowSampler(fields, images, self._downsample, drawn)

    def __getitem__(self, index: int) -> Sample:
        """The strong view, whose target has the weak one."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        key = (self.seed, self.epoch, STREAM, index)
        pixels, target = draw_readable(self._sample, self.fields, key)
        shifted = {n: target[n] + self.first for n in ("field", "unreadable") if n in target}
        return pixels, target | shifted

    def _sample(self, rng: np.random.Generator) -> Sample:
        index, window = self._windows.draw(rng)
        image = self._images.crop(index, (self.size, self.size), window)
        image = np.rot90(image, int(rng.integers(4)))
        if rng.random() < 0.5:
            image = image[:, ::-1]
        image = np.ascontiguousarray(image)
        self._augment.set_random_seed(int(rng.integers(2**31)))
        none: Any = np.zeros((0, 4)), np.zeros(0, np.int64)
        strong = self._augment(image=image, bboxes=none[0], labels=none[1])["image"]
        weak, _ = to_sample(image, *none)
        pixels, target = to_sample(strong, *none)
        return pixels, target | {"weak": weak, "field": torch.tensor(index)}


class WithUnlabelled(Dataset[Sample]):
    """Annotated crops by their indices, and others by `Unlabelled`.

    Args:
        crops: annotated ones.
        unlabelled: the others.
    """

    def __init__(self, crops: CropDataset, unlabelled: UnlabelledDataset) -> None:
        self.crops, self.unlabelled = crops, unlabelled

    def __len__(self) -> int:
        return len(self.crops) + len(self.unlabelled)

    def __getitem__(self, index: int | Steered | Unlabelled) -> Sample:
        if isinstance(index, Unlabelled):
            return self.unlabelled[index.index]
        return self.crops[index]


def check_strong(settings: AugmentSettings) -> None:
    """Makes sure that a strong view shows every place where the weak one does.

    Raises:
        ValueError: a transform moves pixels.
    """
    for step in build_augmentation(settings).transforms:
        if not isinstance(step, A.ImageOnlyTransform) and step.p > 0:
            raise ValueError(
                f"{type(step).__name__} moves pixels, so places of the two views would not be the "
                "same; leave it out (flips: false): both views are flipped and turned alike"
            )
