"""Who reads what of tars without an index, and in which order: pure functions, for `datamodules.stream`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from sys import maxsize

import numpy as np

# A tar by its number, and which of its samples.
Part = tuple[int, range]


def buffered_order(count: int, buffer: int, generator: np.random.Generator) -> np.ndarray:
    """The order in which `count` samples leave a shuffle buffer that they enter one by one.

    Returns:
        A permutation (count,) whose entry n is less than n + buffer.
    """
    choices = generator.random(count)
    held = list(range(min(buffer, count)))
    order = np.empty(count, dtype=np.int64)
    for number in range(count):
        chosen = int(choices[number] * len(held))
        order[number] = held[chosen]
        if number + buffer < count:
            held[chosen] = number + buffer
        else:
            held[chosen] = held[-1]
            held.pop()
    return order


def in_batches(samples: int, batch_size: int, worker: int, workers: int, end: int | None = None) -> int:
    """How many of the samples of a process lie in the batches of one of its workers, who take turns.

    Args:
        samples: Samples of the process; its last batch may be smaller.
        batch_size: Of the others.
        worker: Which worker.
        workers: Of how many.
        end: Only in batches before this one.
    """
    steps = -(-samples // batch_size)
    batches = range(worker, steps if end is None else end, workers)
    missing = steps * batch_size - samples if steps - 1 in batches else 0
    return len(batches) * batch_size - missing


def interval(counts: Sequence[int], tars: Sequence[int], first: int, share: int) -> Iterator[Part]:
    """Samples [first, first + share) of all tars in this order, whose samples were counted."""
    before = 0
    for tar in tars:
        part = range(max(first - before, 0), min(first + share - before, counts[tar]))
        if part:
            yield tar, part
        before += counts[tar]


def cycle(tars: Sequence[int], reader: int, readers: int) -> Iterator[Part]:
    """The part of one reader, again and again: whole tars, or with fewer tars than readers every n-th sample of one."""
    count = len(tars)
    mine, part = tars[reader::readers], range(maxsize)
    if count < readers:
        mine, part = [tars[reader % count]], range(reader // count, maxsize, len(range(reader % count, readers, count)))
    while True:
        yield from ((tar, part) for tar in mine)
