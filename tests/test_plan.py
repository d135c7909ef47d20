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


def test_seek_begins_behind_the_samples():
    sampler = PlannedBatchSampler(23, 4, seed=2, rank=1, world_size=2)
    straight = [sampler.batch(number) for number in range(6)]
    assert sampler.seek(1, 8) == 1
    assert list(sampler) == straight[3:4]
    sampler.set_epoch(2)
    assert list(sampler) == straight[4:]  # the next epoch is whole again


@pytest.mark.parametrize(
    ("num_samples", "consumed", "size", "first_place", "shown"),
    [
        # 3 batches of 8 hold 24 of 26; of batches of 4 there are 6, and behind 8 samples the last 4 of them.
        (26, 8, 4, 2, [8, 12, 16, 20]),
        # From batches of 4 to batches of 8: 12 consumed, 14 left, one batch of 8; the tail of 6 is left out.
        (26, 12, 8, 2, [12]),
        # 5 of 20 consumed: three batches of 4 behind them, 17 = 5 + 3 * 4, and a tail of 3.
        (20, 5, 4, 2, [5, 9, 13]),
        # 16 left after 4: an epoch of 5 batches has only room for 4 of them at its end, which is all there are.
        (20, 4, 4, 1, [4, 8, 12, 16]),
        (20, 18, 4, 5, []),
    ],
)
def test_seek_with_another_global_batch(num_samples, consumed, size, first_place, shown):
    sampler = PlannedBatchSampler(num_samples, size, seed=4)
    assert sampler.seek(3, consumed) == first_place
    expected = order(num_samples, 4, 3)
    batches = [[number for _, number in batch] for batch in sampler]
    assert batches == [expected[begin : begin + size].tolist() for begin in shown]
    assert first_place + len(batches) == len(sampler)  # the epoch ends with its last place


def resumed_epoch(num_samples, sizes, stops, seed=7):
    """Samples seen in epoch 1 by a run that goes on with (batch size, processes) after so many steps."""
    seen, consumed = [], 0
    for (batch_size, world_size), stop in zip(sizes, stops, strict=True):
        ranks = [PlannedBatchSampler(num_samples, batch_size, seed, rank, world_size) for rank in range(world_size)]
        assert len({rank.seek(1, consumed) for rank in ranks}) == 1
        steps = list(zip(*ranks, strict=True))[:stop]
        seen += [number for step in steps for batch in step for _, number in batch]
        consumed += len(steps) * batch_size * world_size
    return seen


@pytest.mark.parametrize("num_samples", [64, 67, 71])
@pytest.mark.parametrize(
    "sizes",
    [
        [(8, 1), (4, 2), (2, 4)],  # the same global batch
        [(8, 1), (8, 2), (8, 1)],
        [(3, 2), (5, 1), (2, 4)],
        [(1, 1), (7, 1), (1, 1)],
    ],
)
@pytest.mark.parametrize("stops", [(1, 1, None), (2, 3, None), (0, 2, None)])
def test_a_resumed_epoch_neither_repeats_nor_loses(num_samples, sizes, stops):
    seen = resumed_epoch(num_samples, sizes, stops)
    assert seen == order(num_samples, 7, 1)[: len(seen)].tolist()
    last = sizes[-1][0] * sizes[-1][1]
    assert num_samples - len(seen) < last  # the tail


def test_seek_twice_within_an_epoch():
    """What is consumed by a resumed epoch is counted from the epoch's first sample."""
    one = resumed_epoch(50, [(4, 1), (6, 1)], (3, None))
    two = resumed_epoch(50, [(4, 1), (6, 1), (3, 2)], (3, 2, None))
    assert one == two


@pytest.mark.parametrize(("num_samples", "world_size"), [(97, 8), (16, 8), (1000, 7)])
def test_every_rank_makes_the_same_number_of_steps(num_samples, world_size):
    for consumed in range(0, num_samples, 13):
        steps = set()
        for rank in range(world_size):
            sampler = PlannedBatchSampler(num_samples, 2, 0, rank, world_size)
            sampler.seek(0, consumed)
            steps.add(len(list(sampler)))
        assert len(steps) == 1
