"""Samples of WebDataset tars without an index, as a stream whose order is known.

The indexed path (`datamodules.reader`, `datamodules.plan`) is better wherever there is an index. Limits of a stream:

- its order depends on the number of processes and of workers, and is shuffled within a buffer only;
- to resume, it walks over what came before, without reading it where the storage can skip, and never decoding it;
- where the samples of each tar were not counted (a URL, or `samples` given), each reader takes whole tars; one that
  runs out before the others begins them again and one that has more leaves the rest, so an epoch may repeat some
  samples and miss as many.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch.utils.data import IterableDataset, get_worker_info

from datamodules.foreign import IMAGES, RawSample, is_remote, samples_of, shown, tars
from datamodules.reader import Sample, form_check
from datamodules.stream_plan import Part, buffered_order, cycle, in_batches, interval
from phd.errors import UserError


class StreamedSamples(IterableDataset[Sample]):
    """The samples of one process, the same number for every process, in an order that is pure in seed and epoch.

    Every batch comes from one worker, and the workers take turns, as DataLoader has it: give it the same `batch_size`
    and `drop_last`.

    Args:
        urls: Tars by path or URL, with braces (`https://host/shard-{000000..000009}.tar`), or folders of them.
        seed: Of the order.
        samples: How many there are; counted where None, which only tars on a disk allow.
        batch_size: Samples in a batch of one process.
        rank: Which process this is.
        world_size: Of how many.
        shuffle: A new order every epoch, or the order of the tars.
        drop_last: Leave out the batch that is not full; up to `world_size - 1` samples are left out in any case.
        buffer: Samples kept in memory by each worker to choose the next one from.
        form: What the records are: "image" or "concept".

    Raises:
        UserError: There are no tars, too few samples, or `samples` is needed.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        seed: int = 0,
        samples: int | None = None,
        batch_size: int = 1,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        drop_last: bool = True,
        buffer: int = 64,
        form: str = "image",
    ) -> None:
        super().__init__()
        self.tars, self.seed, self.batch_size = tars(urls), seed, batch_size
        self.rank, self.world_size = rank, world_size
        self.shuffle, self.buffer, self.form = shuffle, buffer, form
        self.counts = _count(self.tars) if samples is None else None
        self.samples = sum(self.counts) if self.counts is not None else samples or 0
        share = self.samples // world_size
        self._share = share // batch_size * batch_size if drop_last else share
        if not self._share:
            raise UserError(
                f"{shown(urls)}: {self.samples} samples are too few for a batch of {batch_size} on each of "
                f"{world_size} processes; lower data.batch_size or give more data"
            )
        # Epoch and first batch, in memory where workers that live on see a change.
        self._place = torch.zeros(2, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        """Samples of this process in an epoch."""
        return self._share

    @property
    def steps(self) -> int:
        """Batches of this process in an epoch, as many as of any other."""
        return -(-self._share // self.batch_size)

    @property
    def epoch(self) -> int:
        """The epoch of the next iteration; in a worker, of the present one."""
        return int(self._place[0])

    def set_epoch(self, epoch: int) -> None:
        """Stream this epoch from the next iteration on, from its beginning unless it is the one that was sought."""
        if epoch != self.epoch:
            self.seek(epoch * self.steps)

    def seek(self, batch: int) -> None:
        """Begin the next iteration at this batch, counted over all epochs."""
        self._place[:] = torch.tensor(divmod(batch, self.steps))

    def __iter__(self) -> Iterator[Sample]:
        epoch, start = self._place.tolist()
        info = get_worker_info()
        workers = info.num_workers if info else 1
        # DataLoader asks its first worker first, whose turn the batch `start` may not be.
        worker = ((info.id if info else 0) + start) % workers
        in_worker = partial(in_batches, self._share, self.batch_size, workers=workers)
        share, skip = in_worker(worker=worker), in_worker(worker=worker, end=start)
        reader = self.rank * workers + worker

        order, sequence = np.arange(share), np.arange(len(self.tars))
        if self.shuffle:
            sequence = np.random.default_rng([self.seed, epoch]).permutation(sequence)
            # Not `reader` alone: to numpy, a zero at the end is the same seed as none.
            order = buffered_order(share, self.buffer, np.random.default_rng([self.seed, epoch, 1 + reader]))
        if self.counts is None:
            parts = cycle(sequence.tolist(), reader, self.world_size * workers)
        else:
            first = self.rank * self._share + sum(in_worker(worker=other) for other in range(worker))
            parts = interval(self.counts, sequence.tolist(), first, share)

        needed = np.ones(share, dtype=bool)
        needed[order[:skip]] = False
        inputs = self._inputs(parts, needed)
        held: dict[int, RawSample] = {}
        for number in order[skip:].tolist():
            while number not in held:
                entered, sample = next(inputs)
                held[entered] = sample
            yield self._parsed(held.pop(number))

    def _inputs(self, parts: Iterator[Part], needed: np.ndarray) -> Iterator[tuple[int, RawSample]]:
        """The needed samples of these parts, numbered as they follow each other."""
        number = idle = 0
        for tar, part in parts:
            first = number
            if self.counts is not None and not needed[first : first + len(part)].any():
                number += len(part)
                continue
            with closing(samples_of(self.tars[tar], partial(_is_needed, needed, part, first))) as samples:
                for place, sample in enumerate(samples):
                    if place >= part.stop or number == len(needed):
                        break
                    if place in part:
                        if needed[number]:
                            yield number, sample
                        number += 1
            if number == len(needed):
                return
            if self.counts is not None and number < first + len(part):
                raise UserError(
                    f"{shown(self.tars[tar])}: holds fewer samples than were counted; was it changed? start again"
                )
            idle = idle + 1 if number == first else 0
            if idle > len(self.tars):
                raise UserError(
                    f"{shown(self.tars[tar])}: has no sample for one of the workers; lower data.num_workers"
                )

    def _parsed(self, sample: RawSample) -> Sample:
        """A sample of its members.

        Raises:
            UserError: One is missing, or the JSON is none or of another form.
        """
        image = next((sample.members[name] for name in IMAGES if name in sample.members), None)
        text = sample.members.get("json")
        if image is None or text is None:
            raise UserError(
                f"{sample.where}: has no {'image' if image is None else '.json'} beside it; pack the members of each "
                f"sample one after the other, or convert with `phd shards convert`"
            )
        try:
            record = json.loads(text)
        except ValueError as error:
            raise UserError(f"{sample.where}: .json is no JSON ({error}); pack the tar again") from error
        form_check(self.form)(record, sample.where)
        return Sample(sample.key, image, record, sample.where)


def _is_needed(needed: np.ndarray, part: range, first: int, place: int) -> bool:
    """Whether the sample at a place in a tar is one of the needed ones; the part's first one has the number `first`."""
    if place not in part:
        return False
    number = first + part.index(place)
    return number < len(needed) and bool(needed[number])


def _count(urls: list[str]) -> list[int]:
    """Samples of each tar.

    Raises:
        UserError: One is not on a disk, or damaged.
    """
    for url in filter(is_remote, urls):
        raise UserError(f"{shown(url)}: samples behind a URL cannot be counted; say how many there are in data.samples")
    followed = track(urls, "count samples", console=Console(stderr=True), transient=True)
    return [sum(1 for _ in samples_of(tar, lambda _: False)) for tar in followed]
