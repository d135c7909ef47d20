"""Stage 1's data: images with class-free instance masks, from shards of SA-1B or of any COCO file."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from datamodules.labelled import labelled_images
from datamodules.plan import PlannedBatchSampler
from datamodules.reader import ShardReader
from datamodules.transforms import Augmentation, Example, ImageTransform
from phd.batches import ImageBatch
from phd.contract import Contract
from phd.errors import UserError

__all__ = ["SA1B", "ShardImages", "collate", "labelled_images"]


class ShardImages(Dataset[Example]):
    """Samples [first, last) of a reader, transformed; indexed by (epoch, number)."""

    def __init__(self, reader: ShardReader, transform: ImageTransform, first: int, last: int) -> None:
        self.reader, self.transform = reader, transform
        self.first, self.last = first, last

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, entry: tuple[int, int]) -> Example:
        epoch, number = entry
        sample = self.reader.read(self.first + number)
        where = self.reader.where(self.first + number)
        return self.transform(sample.jpg, sample.record, sample.key, epoch, where)


def collate(examples: list[Example]) -> ImageBatch:
    """Stack examples."""
    return ImageBatch(
        images=torch.stack([example.image for example in examples]),
        content=torch.stack([example.content for example in examples]),
        masks=torch.stack([example.masks for example in examples]),
        valid=torch.stack([example.valid for example in examples]),
        keys=[example.key for example in examples],
    )


class SA1B(LightningDataModule):
    """Batches of images and instance masks, at the contract of the model that is trained.

    Use it with `Trainer(use_distributed_sampler=False)`: the plan divides the batches among the processes.

    Args:
        root: Shards to train on.
        val_root: Shards to validate on; the first `val_samples` of `root` are held out where None.
        val_samples: How many samples to validate on; at most all of `val_root`.
        batch_size: Images in a batch of one process.
        num_workers: Loading processes for each training process.
        max_masks: Instances per image, M; chosen at random for training, the first ones for validation.
        augmentation: What to vary in training, or None.
        max_shards: Use only the first shards of `root`.
        max_samples: Use only the first training samples.
        seed: Of order, choice and augmentation.
        contract: Image size, resize rule and mask grid; the trained model's where None.
    """

    def __init__(
        self,
        root: str,
        val_root: str | None = None,
        val_samples: int = 64,
        batch_size: int = 8,
        num_workers: int = 0,
        max_masks: int = 16,
        augmentation: Augmentation | None = None,
        max_shards: int | None = None,
        max_samples: int | None = None,
        seed: int = 0,
        contract: Contract | None = None,
    ) -> None:
        super().__init__()
        self.root, self.val_root, self.val_samples = root, val_root, val_samples
        self.batch_size, self.num_workers, self.max_masks = batch_size, num_workers, max_masks
        self.augmentation, self.max_shards, self.max_samples = augmentation, max_shards, max_samples
        self.seed, self.contract = seed, contract
        self.train_images: ShardImages
        self.val_images: ShardImages
        self._first_batch = (0, 0)

    def setup(self, stage: str) -> None:
        """Open the shards and divide them.

        Raises:
            UserError: A folder is not finished or too small, or a setting is out of range.
        """
        least = {"val_samples": 1, "batch_size": 1, "max_masks": 1, "max_samples": 1, "num_workers": 0, "seed": 0}
        for name, minimum in least.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise UserError(f"data.{name} is {value}; give at least {minimum}")
        contract = self._contract()
        reader = ShardReader(Path(self.root), self.max_shards)
        held_out = 0 if self.val_root else self.val_samples
        last = len(reader) if self.max_samples is None else min(len(reader), held_out + self.max_samples)
        if last <= held_out:
            raise UserError(
                f"{self.root}: data.val_samples holds out {held_out} of its {len(reader)} samples and leaves "
                f"none to train on; lower data.val_samples or name a data.val_root"
            )
        val_reader = ShardReader(Path(self.val_root)) if self.val_root else reader
        self.train_images = ShardImages(reader, self._transform(contract, train=True), held_out, last)
        validation = self._transform(contract, train=False)
        self.val_images = ShardImages(val_reader, validation, 0, min(self.val_samples, len(val_reader)))

    def state_dict(self) -> dict[str, int]:
        """Where the next training batch lies: its epoch, and its place in the plan of that epoch."""
        assert self.trainer is not None, "Lightning asks while it saves a checkpoint"
        loop = self.trainer.fit_loop
        progress, epoch = loop.epoch_loop.batch_progress, loop.epoch_progress.current.ready - 1
        if progress.is_last_batch:
            return {"epoch": epoch + 1, "batch": 0}
        return {"epoch": epoch, "batch": progress.current.ready}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Begin there; Lightning makes its iterator before it restores the epoch."""
        self._first_batch = state_dict["epoch"], state_dict["batch"]

    def train_dataloader(self) -> DataLoader[Example]:
        """Batches in a new order every epoch; the tail that fills no batch on all ranks is left out."""
        return self._loader(self.train_images, train=True)

    def val_dataloader(self) -> DataLoader[Example]:
        """Every validation sample once, in the order of the shards."""
        return self._loader(self.val_images, train=False)

    def test_dataloader(self) -> DataLoader[Example]:
        """The same as for validation."""
        return self.val_dataloader()

    def _contract(self) -> Contract:
        if self.contract is not None:
            return self.contract
        contract = getattr(getattr(self.trainer, "lightning_module", None), "contract", None)
        if not isinstance(contract, Contract):
            raise UserError("data.contract is not given and the model has none; give SA1B(contract=...)")
        return contract

    def _transform(self, contract: Contract, train: bool) -> ImageTransform:
        augmentation = self.augmentation if train else None
        return ImageTransform(contract, augmentation, self.max_masks, seed=self.seed, train=train)

    def _loader(self, images: ShardImages, train: bool) -> DataLoader[Example]:
        trainer = self.trainer
        sampler = PlannedBatchSampler(
            len(images),
            self.batch_size,
            self.seed,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            # To overfit some batches is to see the same ones every epoch.
            shuffle=train and not getattr(trainer, "overfit_batches", 0),
            drop_last=train,
        )
        if train:
            sampler.epoch, sampler.start = self._first_batch
        return DataLoader(
            images,
            batch_sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )
