"""Stage 1's data: images with class-free instance masks, from shards of SA-1B or of any annotated images."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from datamodules.base import ShardDataModule
from datamodules.cache.join import CachedCollate, CacheJoin, Missing
from datamodules.streamed import StreamedExamples
from datamodules.transforms import Augmentation, Example, ImageTransform
from phd.batches import ImageBatch
from phd.contract import Contract
from phd.errors import UserError


def collate(examples: list[Example]) -> ImageBatch:
    """Stack examples."""
    return ImageBatch(
        images=torch.stack([example.image for example in examples]),
        content=torch.stack([example.content for example in examples]),
        masks=torch.stack([example.masks for example in examples]),
        valid=torch.stack([example.valid for example in examples]),
        keys=[example.key for example in examples],
    )


class SA1B(ShardDataModule):
    """Batches of images and instance masks.

    Args:
        root: See `ShardDataModule`, as for every setting that is not explained here.
        val_root: See there.
        val_samples: See there.
        batch_size: Images in a batch of one process.
        num_workers: See there.
        max_masks: Instances per image, M; chosen at random for training, the first ones for validation.
        mask_scale: How many times finer than the contract's the grid of the masks is; the model's logits are enlarged
            to it before they are compared, as SAM 2 (arXiv 2408.00714) does at full size.
        augmentation: What to vary in training, or None.
        cache: A teacher cache of these images, joined by key; None for the live teacher.
        cache_missing: What an image without cached features gets: an "error", or the "live" teacher.
        max_shards: See there.
        max_samples: See there.
        samples: See there.
        seed: See there.
        contract: See there.
    """

    forms = ("image", "concept")
    needs = "images with masks"
    least: ClassVar = {**ShardDataModule.least, "max_masks": 1, "mask_scale": 1}

    def __init__(
        self,
        root: str,
        val_root: str | None = None,
        val_samples: int = 64,
        batch_size: int = 8,
        num_workers: int = 0,
        max_masks: int = 16,
        mask_scale: int = 1,
        augmentation: Augmentation | None = None,
        cache: str | None = None,
        cache_missing: Missing = "error",
        max_shards: int | None = None,
        max_samples: int | None = None,
        samples: int | None = None,
        seed: int = 0,
        contract: Contract | None = None,
    ) -> None:
        super().__init__(
            root, val_root, val_samples, batch_size, num_workers, max_shards, max_samples, samples, seed, contract
        )
        self.max_masks, self.mask_scale, self.augmentation = max_masks, mask_scale, augmentation
        self.cache = cache
        self.cache_missing: Missing = cache_missing
        self.cache_join: CacheJoin | None = None

    def setup(self, stage: str) -> None:
        """Open the shards, and the cache.

        Raises:
            UserError: A folder cannot be used, the cache is another one's, or a setting is out of range.
        """
        super().setup(stage)
        self.cache_join = None
        if self.cache is not None:
            self.cache_join = CacheJoin(self.cache, self.cache_missing, self.trained_contract(), self.augmentation)
            for part in (self.train_set, self.val_set):
                if isinstance(part, StreamedExamples):
                    raise UserError(f"{self.root}: has no index to join data.cache by; use `phd shards convert`")
                self.cache_join.check(part.reader, part.first, part.last)

    def transform(self, contract: Contract, train: bool) -> ImageTransform:
        """Varied in training only."""
        augmentation = self.augmentation if train else None
        settings = {"seed": self.seed, "train": train, "mask_scale": self.mask_scale}
        return ImageTransform(contract, augmentation, self.max_masks, **settings)

    def collate(self, train: bool) -> Any:
        """Stacks, and reads what the cache has."""
        return collate if self.cache_join is None else CachedCollate(collate, self.cache_join)
