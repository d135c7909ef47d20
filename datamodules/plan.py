"""Which samples, in which order, in which batch: pure functions of seed and epoch.

Batches are planned for all ranks together and then divided, so the order of samples depends neither on ranks nor on
workers. A batch is addressed by one integer, and every entry carries its epoch, so that a worker needs no state of
its own: this is what an exact resume needs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from phd.errors import UserError

# Epoch and sample number, and what a stage adds.
Entry = tuple[int, ...]


def order(num_samples: int, seed: int, epoch: int, shuffle: bool = True) -> np.ndarray:
    """The order of an epoch, a permutation (num_samples,) of the sample numbers."""
    if not shuffle:
        return np.arange(num_samples)
    return np.random.default_rng([seed, epoch]).permutation(num_samples)


def cuts(num_samples: int, batch_size: int, world_size: int, drop_last: bool) -> np.ndarray:
    """Where the global batches of an epoch begin and end, (batches + 1,).

    Every rank must get as many batches as the others, none of them empty. A tail with fewer samples than ranks
    therefore joins the batch before.

    Raises:
        UserError: There are too few samples for one batch.
    """
    size = batch_size * world_size
    if num_samples < (size if drop_last else world_size):
        raise UserError(
            f"{num_samples} samples are too few for a batch of {batch_size} on each of {world_size} processes; "
            f"lower data.batch_size or give more data"
        )
    edges = np.arange(0, num_samples + 1, size)
    tail = num_samples - edges[-1]
    if drop_last or not tail:
        return edges
    return np.append(edges, num_samples) if tail >= world_size else np.append(edges[:-1], num_samples)


class PlannedBatchSampler(Sampler[list[Entry]]):
    """Batches of (epoch, sample number) for one rank.

    A batch that all ranks take together is one place of an epoch. An epoch that was interrupted goes on behind the
    samples that were consumed, also where a place now holds another number of samples (see `seek`). Lightning does not
    call `set_epoch` of a batch sampler, and where it miscounts epochs that is as well; `datamodules.place` does.

    Args:
        num_samples: Size of the data set.
        batch_size: Samples in a batch of one rank.
        seed: Of the order.
        rank: Which part of each global batch is ours.
        world_size: In how many parts a global batch is divided.
        shuffle: A new order every epoch, or the order of the data set.
        drop_last: Leave out the tail that does not fill a global batch.

    Attributes:
        epoch: That the next iteration plans.
        size: Samples in a global batch.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        drop_last: bool = True,
    ) -> None:
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.rank, self.world_size, self.shuffle = rank, world_size, shuffle
        self.size = batch_size * world_size
        self.cuts = cuts(num_samples, batch_size, world_size, drop_last)
        self.epoch = 0
        # Of the next iteration: the place it begins at, and how many samples later than usual each place begins.
        self._start = self._shift = 0

    def __len__(self) -> int:
        return len(self.cuts) - 1

    def set_epoch(self, epoch: int) -> None:
        """Plan this epoch from the next iteration on."""
        self.epoch = epoch

    def seek(self, epoch: int, samples: int) -> int:
        """Begin the next iteration behind the first samples of an epoch.

        The order of an epoch depends on nothing but the seed, so that the samples consumed are its first ones whatever
        the size of a global batch was. What is left is divided into batches of the size of now; these are the last
        places of the epoch, so that it ends with the same number as every other one. Less than a global batch
        is left out at its end, as always (`drop_last`).

        Args:
            epoch: To go on with.
            samples: Consumed by all ranks in this epoch.

        Returns:
            The place that it begins at.
        """
        self.epoch = epoch
        self._start = len(self) - (self.num_samples - samples) // self.size
        self._shift = samples - self._start * self.size
        return self._start

    def batch(self, number: int) -> list[Entry]:
        """The batch with this number, counted over all epochs."""
        epoch, place = divmod(number, len(self))
        return self._part(order(self.num_samples, self.seed, epoch, self.shuffle), epoch, place, 0)

    def __iter__(self) -> Iterator[list[Entry]]:
        # A generator, so that only the iterator that is used takes the start: with workers, DataLoader makes two.
        start, shift, epoch = self._start, self._shift, self.epoch
        self._start = self._shift = 0
        samples = order(self.num_samples, self.seed, epoch, self.shuffle)
        for place in range(start, len(self)):
            yield self._part(samples, epoch, place, shift)

    def _part(self, samples: np.ndarray, epoch: int, place: int, shift: int) -> list[Entry]:
        both = samples[self.cuts[place] + shift : self.cuts[place + 1] + shift]
        return [self.entry(epoch, int(number)) for number in np.array_split(both, self.world_size)[self.rank]]

    def entry(self, epoch: int, number: int) -> Entry:
        """What the data set is asked for."""
        return epoch, number
