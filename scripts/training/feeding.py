"""What a run is fed with: each process its share of the crops, and of the validation fields."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from data.crops.augment import AugmentSettings
from data.crops.dataset import CropDataset, WholeFieldDataset, collate
from data.crops.drawing import Sample, Steered
from data.crops.grades import (
    GradeDataset,
    GradeSamples,
    GradeSettings,
    PlacesDataset,
    collate_grades,
)
from data.crops.sampling import CropSettings
from data.crops.unlabelled import Unlabelled as Asked
from data.crops.unlabelled import UnlabelledDataset, WithUnlabelled
from data.fields.fieldset import FieldSet
from data.fields.images import FieldImages
from models.grader import GraderConfig
from scripts.slides import images_of
from scripts.training.loop import LoopSettings
from scripts.training.unlabelled import Unlabelled

Steer = Callable[[int], NDArray[np.float64] | None]
"""From a batch of the run to the factors by which its classes are drawn, if there are any yet."""


class ShareSampler(Sampler[int | Steered | Asked]):
    """The crops of one process: of each round of batches its own, in order.

    All processes together see in a round what one process with a larger batch would see.

    Args:
        steps: batches.
        batch_size: crops a batch.
        rank, ranks: which process, of how many.
        steer: tells what steers the crops of each batch of the epoch; None for nothing.
        unlabelled: crops of images without annotations that follow in each batch.
    """

    def __init__(
        self,
        steps: int,
        batch_size: int,
        rank: int = 0,
        ranks: int = 1,
        steer: Steer | None = None,
        unlabelled: int = 0,
    ) -> None:
        self.steps, self.batch_size, self.rank, self.ranks = steps, batch_size, rank, ranks
        self.steer, self.unlabelled = steer, unlabelled
        self.start = 0

    def __len__(self) -> int:
        return self.steps * (self.batch_size + self.unlabelled)

    def __iter__(self) -> Iterator[int | Steered | Asked]:
        for step in range(self.start, self.steps):
            place = step * self.ranks + self.rank
            factors = None if self.steer is None else self.steer(step)
            for index in range(place * self.batch_size, (place + 1) * self.batch_size):
                yield index if factors is None else Steered(index, factors)
            for index in range(place * self.unlabelled, (place + 1) * self.unlabelled):
                yield Asked(index)


class CropLoader(DataLoader[Sample]):
    """Loads an epoch's crops; goes on in the middle of it, where a checkpoint says so."""

    sampler: ShareSampler
    _served = 0
    _batches: Any = None

    def __iter__(self) -> Any:
        self._served = self.sampler.start
        self._batches = super().__iter__()
        for batch in self._batches:
            self._served += 1
            yield batch
        self.sampler.start = 0

    def close(self) -> None:
        """Ends the processes that prepare crops, if they are still at it.

        They heed no signal, and one that is left over keeps the run's process from ending: where a
        run fails, what is kept of the failure keeps the batches too, and these their processes.
        """
        shut_down = getattr(self._batches, "_shutdown_workers", None)  # not where there are none
        if shut_down is not None:
            shut_down()

    def state_dict(self) -> dict[str, int]:
        """How many batches were served; Lightning keeps it in its checkpoints."""
        return {"served": self._served}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Begins after those batches."""
        self.sampler.start = state_dict["served"]


class RunData(LightningDataModule, ABC):
    """Crops to train on, drawn anew each epoch, and fields to validate on.

    Args:
        loop: how many crops, and by how many processes.
        steer: tells what steers the crops of each batch of the run; None for nothing.
        unlabelled: crops of images without annotations in each batch, beside the others.
    """

    def __init__(self, loop: LoopSettings, steer: Steer | None = None, unlabelled: int = 0) -> None:
        super().__init__()
        self.steer, self.unlabelled = steer, unlabelled
        self.allow_zero_length_dataloader_with_multiple_devices = True  # more processes than fields
        self.loop = loop
        self._loader: CropLoader | None = None

    @abstractmethod
    def crops(self, length: int, epoch: int) -> Dataset[Sample]:
        """An epoch's crops; a function of the seed and the epoch only, so resuming is exact."""

    @abstractmethod
    def fields(self) -> Dataset[Sample]:
        """The validation fields."""

    @abstractmethod
    def collate(self, samples: list[Sample]) -> Any:
        """A batch of crops, or of one field."""

    def train_dataloader(self) -> CropLoader:
        """This epoch's crops, those of this process."""
        loop, (rank, ranks) = self.loop, self._place()
        epoch = self.trainer.current_epoch if self.trainer else 0
        crops = self.crops(loop.steps * loop.batch_size * ranks, epoch)
        self.close()
        steer, more = self._steer_of(epoch), self.unlabelled
        self._loader = CropLoader(
            crops,
            loop.batch_size + more,
            sampler=ShareSampler(loop.steps, loop.batch_size, rank, ranks, steer, more),
            collate_fn=self.collate,
            num_workers=loop.workers,
            worker_init_fn=_leave_interrupts_alone,
            # Else each epoch would draw from the run's own generator.
            generator=torch.Generator(),
        )
        return self._loader

    def _steer_of(self, epoch: int) -> Steer | None:
        """What steers the batches of an epoch."""
        steer, first = self.steer, epoch * self.loop.steps
        return None if steer is None else lambda batch: steer(first + batch)

    def close(self) -> None:
        """Ends what still prepares crops, however the run ended."""
        if self._loader is not None:
            self._loader.close()

    def val_dataloader(self) -> DataLoader[Sample]:
        """Every validation field, whole; each process has its share."""
        fields: Any = self.fields()
        rank, ranks = self._place()
        own = Subset(fields, range(rank, len(fields), ranks))
        return DataLoader(own, batch_size=1, collate_fn=self.collate, generator=torch.Generator())

    def _place(self) -> tuple[int, int]:
        """Which process this is, of how many."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


class FieldsData(RunData):
    """What a detector is fed with: crops of fields, unlabelled ones too, and whole fields.

    Args:
        train: fields to learn from.
        val: fields to judge by.
        mpp: of the detector.
        crops: how crops are drawn.
        augment: how they are changed.
        loop: how many of them.
        cache: a folder for decoded blocks of slides.
        steer: see `RunData`.
        unlabelled: images without annotations; None for none.
        views: whether there are two views of every crop.
    """

    def __init__(
        self,
        train: FieldSet,
        val: FieldSet,
        mpp: float,
        crops: CropSettings,
        augment: AugmentSettings,
        loop: LoopSettings,
        cache: Path | None = None,
        steer: Steer | None = None,
        unlabelled: Unlabelled | None = None,
        views: bool = False,
    ) -> None:
        super().__init__(loop, steer, unlabelled.crops if unlabelled else 0)
        self.views = views
        self.train_fields, self.val_fields = train, val
        self._others = unlabelled
        self.mpp, self.settings, self.augment = mpp, crops, augment
        self._train_images, self._val_images = images_of(train, cache), images_of(val)

    def crops(self, length: int, epoch: int) -> CropDataset | WithUnlabelled:
        """See `RunData`."""
        crops = CropDataset(
            self.train_fields,
            self._train_images,
            self.mpp,
            self.settings,
            self.augment,
            length,
            self.loop.seed,
            epoch,
            self.views,
        )
        if self._others is None:
            return crops
        others = UnlabelledDataset(
            self._others.fields,
            self._others.images,
            self.mpp,
            self.settings,
            self._others.strong,
            length // self.loop.batch_size * self._others.crops,
            self.loop.seed,
            epoch,
            first=len(self.train_fields.fields),
        )
        return WithUnlabelled(crops, others)

    def fields(self) -> WholeFieldDataset:
        """See `RunData`."""
        return WholeFieldDataset(self.val_fields, self._val_images, self.mpp)

    def collate(self, samples: list[Sample]) -> Any:
        """Lists, as detectors take them."""
        return collate(samples)


class GradesData(RunData):
    """What a grader is fed with: crops of single cells, and all places of whole fields.

    Args:
        train: fields to learn from, slides cut into parts.
        samples: places on them.
        val: fields to judge by.
        centers: for each of these (N, 2) places, x and y in its pixels.
        grader: for the size and scale of crops.
        crops: how places are drawn.
        augment: how crops are changed.
        loop: how many of them.
        cache: a folder for decoded blocks of slides.
    """

    def __init__(
        self,
        train: FieldSet,
        samples: GradeSamples,
        val: FieldSet,
        centers: Sequence[NDArray[np.floating]],
        grader: GraderConfig,
        crops: GradeSettings,
        augment: AugmentSettings,
        loop: LoopSettings,
        cache: Path | None = None,
    ) -> None:
        super().__init__(loop)
        self.train_fields, self.samples = train, samples
        self.settings, self.augment = crops, augment
        self.crop = grader.size, grader.mpp
        self._images = images_of(train, cache)
        self._val = PlacesDataset(val, images_of(val), centers, self.crop)

    def crops(self, length: int, epoch: int) -> GradeDataset:
        """See `RunData`."""
        return GradeDataset(
            self.train_fields,
            self._images,
            self.samples,
            self.crop,
            self.settings,
            self.augment,
            length,
            self.loop.seed,
            epoch,
        )

    def fields(self) -> PlacesDataset:
        """See `RunData`."""
        return self._val

    def collate(self, samples: list[Sample]) -> Any:
        """One tensor of crops, and their targets; the places of one field are one sample."""
        if "index" in samples[0][1]:
            return samples[0][0], [samples[0][1]]
        return collate_grades(samples)


def whole_fields(fields: FieldSet, images: FieldImages, mpp: float) -> DataLoader[Sample]:
    """Fields to judge a detector of this scale by, one a batch; of small size, or cut."""
    whole = WholeFieldDataset(fields, images, mpp)
    return DataLoader(whole, batch_size=1, collate_fn=collate, generator=torch.Generator())


def _leave_interrupts_alone(_: int) -> None:
    """What asks a run to stop reaches the workers too; when they end is for their parent to say."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
