"""Training from tars without an index: a stream, put where the data modules have a planned data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import IterableDataset

from datamodules.stream import StreamedSamples


class StreamedExamples(IterableDataset[Any]):
    """A stream, transformed; its place is sought and told as that of a `PlannedBatchSampler`.

    Args:
        stream: The samples of this process.
        transform: As for `ShardSamples`.
    """

    def __init__(self, stream: StreamedSamples, transform: Any) -> None:
        super().__init__()
        self.stream, self.transform = stream, transform
        self.num_samples, self.seed = stream.samples, stream.seed
        self.size = stream.batch_size * stream.world_size

    def set_epoch(self, epoch: int) -> None:
        """Stream this epoch from the next iteration on."""
        self.stream.set_epoch(epoch)

    def seek(self, epoch: int, samples: int) -> int:
        """Begin the next iteration behind the batches that hold the first samples of an epoch.

        Exact with the same processes, workers and batch size; others make another order.

        Returns:
            The batch that it begins at.
        """
        start = min(-(-samples // self.size), self.stream.steps)
        self.stream.seek(epoch * self.stream.steps + start)
        return start

    def __len__(self) -> int:
        return len(self.stream)

    def __iter__(self) -> Iterator[Any]:
        epoch = self.stream.epoch
        for sample in self.stream:
            yield self.transform(sample.jpg, sample.record, sample.key, epoch, sample.where)
