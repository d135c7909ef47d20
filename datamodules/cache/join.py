"""Joins cached teacher features to the batches of a data module, by key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from datamodules.augmentation import Augmentation
from datamodules.cache.reader import CacheReader
from datamodules.reader import ShardReader
from datamodules.shards import sha256
from phd.batches import ImageBatch
from phd.contract import Contract
from phd.errors import UserError

Missing = Literal["error", "live"]
DIGITS = 16


def image_digest(jpg: bytes) -> str:
    """What a cache remembers of an image file, to tell it from another one with the same key."""
    return sha256(jpg)[:DIGITS]


def refuse_geometry(folder: str, augmentation: Augmentation | None) -> None:
    """Raise if images would be mirrored or cropped.

    The features of a ViT do not follow: a flipped feature map is not the map of the flipped image. Colours may vary:
    the student then sees them change, and learns the teacher's features of the clean image.

    Raises:
        UserError: Names the settings.
    """
    geometric = ("horizontal_flip", "crop_probability")
    active = [name for name in geometric if augmentation is not None and getattr(augmentation, name) > 0]
    if active:
        said = " and ".join(f"data.augmentation.{name} ({getattr(augmentation, name)})" for name in active)
        raise UserError(
            f"data.cache {folder}: cannot go with {said}: cached features are those of the whole, unflipped image; "
            f"set them to 0, or leave out data.cache"
        )


class CacheJoin:
    """A cache as a data module uses it.

    Args:
        folder: Of the cache.
        missing: What a sample without features gets: an error, or the live teacher (for its whole batch).
        contract: Of the model that is trained.
        augmentation: Of the training images.

    Raises:
        UserError: The cache cannot be used with this model or these settings.
    """

    def __init__(self, folder: str, missing: Missing, contract: Contract, augmentation: Augmentation | None) -> None:
        refuse_geometry(folder, augmentation)
        self.reader = CacheReader(folder, partial=missing == "live")
        self.reader.require_contract(contract)
        self.missing = missing

    @property
    def complete(self) -> bool:
        """Whether no batch will ever need the teacher's trunk."""
        return self.missing == "error"

    def check(self, images: ShardReader, first: int, last: int) -> None:
        """Check, before the training begins, that the cache was made from these samples.

        A shard that the cache was made from needs no more than a look at its name. Of any other one, such as the same
        images in shards of another size, the keys are compared, and the first image.

        Raises:
            UserError: A sample has no features and none may be missing, or its features are of another image.
        """
        absent: list[str] = []
        begin = 0
        for shard in images.shards:
            numbers = range(max(first, begin), min(last, begin + shard.samples))
            begin += shard.samples
            if shard.index_sha256 in self.reader.bound:
                continue
            cached = [number for number in numbers if images.key(number) in self.reader]
            absent += [images.key(number) for number in numbers if images.key(number) not in self.reader]
            if cached and self.reader.digest(images.key(cached[0])) != image_digest(images.member(cached[0], "jpg")):
                raise UserError(
                    f"{self.reader.root}: the features of {images.key(cached[0])} were made from another image than "
                    f"{images.where(cached[0])}; build a cache of these shards"
                )
        if absent and self.missing == "error":
            raise UserError(
                f"{self.reader.root}: has no features for {len(absent)} of {last - first} samples of {images.root}, "
                f"the first is {absent[0]}; build a cache of these shards, or set data.cache_missing to live"
            )


class CachedCollate:
    """Stacks examples and reads their features, straight into the tensors of the batch.

    Args:
        collate: Makes the batch without features.
        join: The cache.
    """

    def __init__(self, collate: Callable[[list[Any]], ImageBatch], join: CacheJoin) -> None:
        self.collate, self.join = collate, join

    def __call__(self, examples: list[Any]) -> ImageBatch:
        """The batch; without features where one sample has none.

        Raises:
            UserError: A sample has no features and none may be missing, or the cache is damaged.
        """
        batch = self.collate(examples)
        cached = self.join.reader.read(batch.keys)
        if cached is None and self.join.missing == "error":
            key = next(key for key in batch.keys if key not in self.join.reader)
            raise UserError(f"{self.join.reader.root}: has no features of {key}; build a cache of these shards")
        return replace(batch, cached=cached)
