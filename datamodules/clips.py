"""Stage 2's data: clips of videos with the masks of a few objects."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch.utils.data import DataLoader

from datamodules.augmentation import Augmentation
from datamodules.base import ShardDataModule, ShardSamples
from datamodules.clip_transform import ClipChoice, ClipExample, ClipTransform
from datamodules.plan import Entry, PlannedBatchSampler
from datamodules.reader import ShardReader
from datamodules.video_record import frame_extension
from phd.batches import ClipBatch
from phd.contract import Contract
from phd.errors import UserError


class ShardClips(ShardSamples):
    """Clips of videos; indexed by epoch, number and length of the clip."""

    def __getitem__(self, entry: Entry) -> ClipExample:
        epoch, number, length = entry
        number += self.first

        def read(frames: list[int]) -> list[bytes]:
            return self.reader.members(number, [frame_extension(frame) for frame in frames])

        record, where = self.reader.record(number), self.reader.where(number)
        return self.transform(record, read, self.reader.key(number), epoch, length, where)


class ClipBatchSampler(PlannedBatchSampler):
    """Every entry carries the length of the clip, so that workers that live on need not be told of a change.

    Attributes:
        lengths: Frames of a clip from an epoch on, by epoch.
    """

    lengths: dict[int, int]

    def entry(self, epoch: int, number: int) -> Entry:
        """Epoch, sample and length."""
        since = max(first for first in self.lengths if first <= epoch)
        return epoch, number, self.lengths[since]


def collate(examples: list[ClipExample]) -> ClipBatch:
    """Stack examples."""
    names = ("frames", "content", "masks", "labelled", "valid", "void", "numbers")
    tensors = {name: torch.stack([getattr(example, name) for example in examples]) for name in names}
    return ClipBatch(**tensors, keys=[example.key for example in examples])


class Clips(ShardDataModule):
    """Batches of clips.

    A training clip begins at a random frame that shows an object. From frame to frame it steps over a number of
    labelled frames that is drawn from `gaps`; one that does not fit into its video is reflected in time (it plays to
    the end, then back), and a run warns of videos in which none fits. A validation clip begins at the first frame that
    shows an object, has `clip_length` frames in every epoch and steps by the smallest gap.

    Args:
        root: See `ShardDataModule`, as for every setting that is not explained here.
        val_root: See there.
        val_samples: See there.
        batch_size: Clips in a batch of one process.
        num_workers: See there.
        clip_length: Frames of a clip, T; see also `set_clip_length`.
        max_objects: Objects per clip, M, of those visible in its first frame; chosen at random for training, the
            first ones for validation.
        gaps: Smallest and largest step from frame to frame.
        reverse_probability: Of a training clip that runs backwards.
        returning: Share of training clips that are chosen, of twelve at random, for objects that come back after they
            were away or mostly hidden; these objects are chosen first.
        labelled_only: Whether clips consist of labelled frames; otherwise steps count all stored frames, and
            `ClipBatch.labelled` tells which have masks.
        augmentation: What to vary in training, alike for all frames of a clip; or None.
        max_shards: See there.
        max_samples: See there.
        seed: See there.
        contract: See there.
    """

    forms = ("video",)
    needs = "videos with masks"
    least: ClassVar = {**ShardDataModule.least, "clip_length": 1, "max_objects": 1}

    def __init__(
        self,
        root: str,
        val_root: str | None = None,
        val_samples: int = 64,
        batch_size: int = 1,
        num_workers: int = 0,
        clip_length: int = 8,
        max_objects: int = 3,
        gaps: tuple[int, int] = (1, 3),
        reverse_probability: float = 0.5,
        returning: float = 0.0,
        labelled_only: bool = True,
        augmentation: Augmentation | None = None,
        max_shards: int | None = None,
        max_samples: int | None = None,
        seed: int = 0,
        contract: Contract | None = None,
    ) -> None:
        super().__init__(
            root, val_root, val_samples, batch_size, num_workers, max_shards, max_samples, None, seed, contract
        )
        self.clip_length, self.max_objects, self.gaps = clip_length, max_objects, gaps
        self.reverse_probability, self.returning, self.labelled_only = reverse_probability, returning, labelled_only
        self.augmentation = augmentation
        self._lengths = {0: clip_length}

    def set_clip_length(self, length: int, first_epoch: int = 0) -> None:
        """Give training clips this many frames from an epoch on, until the next such epoch.

        A pure function of the epoch, so that a resumed run has it too. Call it for every change before the training
        begins, for instance in the stage's `setup`; later it counts from the next epoch that is planned.

        Args:
            length: Frames.
            first_epoch: Counted from 0.

        Raises:
            UserError: There would be no frame.
        """
        if length < 1:
            raise UserError(f"a clip of {length} frames is asked for from epoch {first_epoch} on; give at least 1")
        self._lengths[first_epoch] = length

    def transform(self, contract: Contract, train: bool) -> ClipTransform:
        """Varied in training only."""
        choice = ClipChoice(
            self.max_objects, self.gaps, self.reverse_probability, self.labelled_only, returning=self.returning
        )
        return ClipTransform(contract, self.augmentation if train else None, choice, self.seed, train)

    def stored(self, reader: ShardReader, transform: Any, first: int, last: int) -> ShardClips:
        """The clips of samples [first, last).

        Raises:
            UserError: The shards hold masks only.
        """
        if reader.manifest.get("images") is False:
            raise UserError(f"{reader.root}: holds masks without frames; convert again with the folder of frames")
        return ShardClips(reader, transform, first, last)

    def sampler(self, num_samples: int, rank: int, world_size: int, train: bool) -> ClipBatchSampler:
        """The batches of one rank."""
        sampler = ClipBatchSampler(
            num_samples, self.batch_size, self.seed, rank, world_size, self.shuffles(train), drop_last=train
        )
        sampler.lengths = self._lengths if train else {0: self.clip_length}
        return sampler

    def collate(self, train: bool) -> Any:
        """Stacks."""
        return collate

    def train_dataloader(self) -> DataLoader[Any]:
        """As every data module's; warns of videos too short for the longest clip."""
        self._warn_of_short_videos(self.train_set, max(self._lengths.values()))
        return super().train_dataloader()

    def val_dataloader(self) -> DataLoader[Any]:
        """As every data module's; warns of videos too short for a clip."""
        self._warn_of_short_videos(self.val_set, self.clip_length)
        return super().val_dataloader()

    def _warn_of_short_videos(self, videos: Any, length: int) -> None:
        needed = 1 + (length - 1) * self.gaps[0]
        # A sample has a member for each frame, and its record.
        stored = {number: len(videos.reader.extensions_of(number)) - 1 for number in range(videos.first, videos.last)}
        short = [number for number, frames in stored.items() if frames < needed]
        if short:
            first, frames = videos.reader.where(short[0]), stored[short[0]]
            self.warn(
                f"{first}: has {frames} frames and a clip of {length} needs {needed}; it plays to the end and back, as "
                f"{len(short)} of {len(stored)} videos do; lower data.clip_length or what callbacks.ClipLength sets, "
                f"or leave them out"
            )
