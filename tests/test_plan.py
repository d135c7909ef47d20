import itertools

import numpy as np
import pytest

from datamodules.plan import PlannedBatchSampler, cuts, order
from phd.errors import UserError


def test_order_is_a_pure_function_of_seed_and_epoch():
    first = order(50, seed=3, epoch=7)
    np.random.default_rng(0).random(5)  # no hidden state to disturb
    assert (order(50, seed=3, epoch=7) == first).all()
    assert sorted(first) == list(range(50))
    assert (order(50, seed=3, epoch=8) != first).any()
    assert (order(50, seed=4, epoch=7) != first).any()
    # Seed and epoch are not added up.
    assert (order(50, seed=7, epoch=3) != first).any()


def test_order_without_shuffle():
    assert order(4, seed=3, epoch=7, shuffle=False).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("num_samples", "batch_size", "world_size", "drop_last", "expected"),
    [
        (10, 4, 1, True, [0, 4, 8]),
        (10, 4, 1, False, [0, 4, 8, 10]),
        (8, 4, 1, False, [0, 4, 8]),
        (3, 4, 1, False, [0, 3]),
        (10, 2, 2, True, [0, 4, 8]),
        (10, 2, 2, False, [0, 4, 8, 10]),
        (9, 2, 2, False, [0, 4, 9]),  # the one left over would leave a rank without a batch
        (3, 4, 2, False, [0, 3]),
        (5, 1, 2, False, [0, 2, 5]),
    ],
)
def test_cuts(num_samples, batch_size, world_size, drop_last, expected):
    assert cuts(num_samples, batch_size, world_size, drop_last).tolist() == expected


@pytest.mark.parametrize(("num_samples", "batch_size", "world_size", "drop_last"), [(7, 4, 2, True), (1, 4, 2, False)])
def test_too_few_samples(num_samples, batch_size, world_size, drop_last):
    with pytest.raises(UserError, match=f"{num_samples} samples are too few for a batch of 4 on each of 2"):
        cuts(num_samples, batch_size, world_size, drop_last)


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize(
    ("num_samples", "batch_size", "world_size"), [(37, 4, 1), (37, 3, 2), (41, 2, 4), (16, 4, 4), (9, 1, 2)]
)
def test_ranks_divide_the_epoch(num_samples, batch_size, world_size, drop_last):
    if drop_last and num_samples < batch_size * world_size:
        pytest.skip("too few for one batch")
    ranks = [
        list(PlannedBatchSampler(num_samples, batch_size, 5, rank, world_size, drop_last=drop_last))
        for rank in range(world_size)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    assert all(batches for batches in itertools.chain(*ranks))
    seen = [number for batches in ranks for batch in batches for _, number in batch]
    assert len(seen) == len(set(seen))
    size = batch_size * world_size
    assert len(seen) == (num_samples // size * size if drop_last else num_samples)
    if drop_last:
        assert all(len(batch) == batch_size for batch in itertools.chain(*ranks))


def test_global_batches_do_not_depend_on_the_number_of_ranks():
    one = list(PlannedBatchSampler(32, 8, seed=1))
    two = [list(PlannedBatchSampler(32, 4, seed=1, rank=rank, world_size=2)) for rank in range(2)]
    assert [first + second for first, second in zip(*two, strict=True)] == one


def test_every_entry_carries_its_epoch():
    sampler = PlannedBatchSampler(10, 4, seed=2)
    first = list(sampler)
    assert list(sampler) == first  # nobody said that the epoch is over
    sampler.set_epoch(3)
    third = list(sampler)
    assert {epoch for batch in third for epoch, _ in batch} == {3}
    assert [number for batch in third for _, number in batch] == order(10, 2, 3)[:8].tolist()
    assert first != third


def test_a_batch_is_addressed_by_one_integer():
    sampler = PlannedBatchSampler(23, 4, seed=2, rank=1, world_size=2)
    assert len(sampler) == 2
    straight = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        straight += list(sampler)
    assert [sampler.batch(number) for number in range(6)] == straight
    sampler.seek(3)
    assert list(sampler) == straight[3:4]
    sampler.set_epoch(2)
    assert list(sampler) == straight[4:]
