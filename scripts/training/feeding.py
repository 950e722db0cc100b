"""What a run is fed with: each process its share of the crops, and of the validation fields."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Sampler, Subset

from data.crops.augment import AugmentSettings
from data.crops.dataset import CropDataset, Sample, WholeFieldDataset, collate
from data.crops.sampling import CropSettings
from data.fields.fieldset import FieldSet
from data.fields.images import FieldImages
from scripts.slides import images_of
from scripts.training.loop import LoopSettings


class ShareSampler(Sampler[int]):
    """The crops of one process: of each round of batches its own, in order.

    All processes together see in a round what one process with a larger batch would see.

    Args:
        steps: batches.
        batch_size: crops a batch.
        rank, ranks: which process, of how many.
    """

    def __init__(self, steps: int, batch_size: int, rank: int = 0, ranks: int = 1) -> None:
        self.steps, self.batch_size, self.rank, self.ranks = steps, batch_size, rank, ranks
        self.start = 0

    def __len__(self) -> int:
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[int]:
        for step in range(self.start, self.steps):
            first = (step * self.ranks + self.rank) * self.batch_size
            yield from range(first, first + self.batch_size)


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


class FieldsData(LightningDataModule):
    """Crops to train on, drawn anew each epoch, and whole fields to validate on.

    Args:
        train: fields to learn from.
        val: fields to judge by.
        mpp: of the detector.
        crops: how crops are drawn.
        augment: how they are changed.
        loop: how many of them.
        cache: a folder for decoded blocks of slides.
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
    ) -> None:
        super().__init__()
        self.train_fields, self.val_fields = train, val
        self.allow_zero_length_dataloader_with_multiple_devices = True  # more processes than fields
        self.mpp, self.crops, self.augment, self.loop = mpp, crops, augment, loop
        self._train_images, self._val_images = images_of(train, cache), images_of(val)
        self._loader: CropLoader | None = None

    def train_dataloader(self) -> CropLoader:
        """This epoch's crops; they depend on the seed and the epoch only, so resuming is exact."""
        loop, (rank, ranks) = self.loop, self._place()
        crops = CropDataset(
            self.train_fields,
            self._train_images,
            self.mpp,
            self.crops,
            self.augment,
            loop.steps * loop.batch_size * ranks,
            loop.seed,
            self.trainer.current_epoch if self.trainer else 0,
        )
        self.close()
        self._loader = CropLoader(
            crops,
            loop.batch_size,
            sampler=ShareSampler(loop.steps, loop.batch_size, rank, ranks),
            collate_fn=collate,
            num_workers=loop.workers,
            worker_init_fn=_leave_interrupts_alone,
            # Else each epoch would draw from the run's own generator.
            generator=torch.Generator(),
        )
        return self._loader

    def close(self) -> None:
        """Ends what still prepares crops, however the run ended."""
        if self._loader is not None:
            self._loader.close()

    def val_dataloader(self) -> DataLoader[Sample]:
        """Every validation field, whole; each process has its share."""
        return whole_fields(self.val_fields, self._val_images, self.mpp, *self._place())

    def _place(self) -> tuple[int, int]:
        """Which process this is, of how many."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def whole_fields(
    fields: FieldSet, images: FieldImages, mpp: float, rank: int = 0, ranks: int = 1
) -> DataLoader[Sample]:
    """Fields to judge by, one a batch.

    Args:
        fields: of small size, or cut.
        images: their pixels.
        mpp: of the detector.
        rank: which process takes its share of them.
        ranks: of how many.
    """
    whole = WholeFieldDataset(fields, images, mpp)
    own = Subset(whole, range(rank, len(whole), ranks))
    return DataLoader(own, batch_size=1, collate_fn=collate, generator=torch.Generator())


def _leave_interrupts_alone(_: int) -> None:
    """What asks a run to stop reaches the workers too; when they end is for their parent to say."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
