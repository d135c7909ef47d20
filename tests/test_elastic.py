"""A run that was stopped goes on at the same sample, whatever workers, processes and batch size it has then."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from raw_samples import contract, write_raw_sa1b
from recorder import Recorder, Stop, fit

from datamodules import SA1B
from datamodules.convert import convert_sa1b
from datamodules.plan import order
from datamodules.transforms import Augmentation
from phd.errors import UserError

HELD_OUT, TRAINED, SEED = 3, 26, 9


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elastic")
    convert_sa1b(write_raw_sa1b(folder / "raw", HELD_OUT + TRAINED), folder / "shards", samples_per_shard=20)
    return folder / "shards"


def data(shards: Path, batch_size: int = 4, **settings: Any) -> SA1B:
    return SA1B(str(shards), val_samples=HELD_OUT, batch_size=batch_size, seed=SEED, **settings)


def planned(epoch: int) -> list[str]:
    return [f"sa_{HELD_OUT + number}" for number in order(TRAINED, SEED, epoch)]


def keys(*models: Recorder) -> list[str]:
    return [key for model in models for _, batch in model.trained for key in batch]


def cut(samples: list[str], size: int) -> list[str]:
    """Without the tail that fills no batch."""
    return samples[: len(samples) // size * size]


@pytest.mark.parametrize("scheduled", [False, True], ids=["", "scheduled"])
@pytest.mark.parametrize("limit", [{}, {"max_steps": 18}], ids=["epochs", "steps"])
@pytest.mark.parametrize(
    "stop",
    [{"batch": 1}, {"batch": 4}, {"batch": 6}, {"batch": 8}, {"batch": 12}, {"epoch": 1}, {"validation": 2}],
    ids=str,
)
def test_the_same_batches(shards: Path, tmp_path: Path, stop: dict[str, int], limit: dict[str, int], scheduled: bool):
    """26 samples are 6 batches of 4 in each of 3 epochs."""
    options = {"epochs": 3, "scheduled": scheduled, **limit}
    before = fit(data(shards), callbacks=[Stop(tmp_path / "a.ckpt", **stop)], **options)
    behind = fit(data(shards), resume=tmp_path / "a.ckpt", **options)
    assert keys(before, behind) == [key for epoch in range(3) for key in cut(planned(epoch), 4)]
    assert [epoch for epoch, _ in before.trained + behind.trained] == [epoch for epoch in range(3) for _ in range(6)]


@pytest.mark.parametrize("scheduled", [False, True], ids=["", "scheduled"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("batch", [2, 5, 6, 9], ids=["first", "near the end", "at the end", "second"])
def test_another_batch_size(shards: Path, tmp_path: Path, batch: int, size: int, scheduled: bool):
    """Behind the samples consumed, in batches of the new size; the epochs behind are as those of a new run."""
    before = fit(data(shards), 3, scheduled, callbacks=[Stop(tmp_path / "a.ckpt", batch=batch)])
    behind = fit(data(shards, size), 3, scheduled, resume=tmp_path / "a.ckpt")
    epoch, consumed = (batch // 6, batch % 6 * 4)
    expected = cut(planned(epoch)[consumed:], size) + [
        key for later in range(epoch + 1, 3) for key in cut(planned(later), size)
    ]
    assert keys(behind) == expected
    assert keys(before)[epoch * 24 :] == planned(epoch)[:consumed]
    # Lightning agrees on where epochs end: it validates behind each of them, with at most one exception, the epoch of
    # which less than a batch was left.
    whole = [later for later in range(epoch, 3) if later > epoch or len(planned(epoch)) - consumed >= size]
    assert behind.validated == [f"sa_{number}" for number in range(HELD_OUT)] * len(whole)
    assert {epoch for epoch, _ in behind.trained} == set(whole)


def test_three_sizes_within_an_epoch(shards: Path, tmp_path: Path):
    first = fit(data(shards), 1, callbacks=[Stop(tmp_path / "a.ckpt", batch=2)])
    second = fit(data(shards, 3), 1, resume=tmp_path / "a.ckpt", callbacks=[Stop(tmp_path / "b.ckpt", batch=4)])
    third = fit(data(shards, 5), 1, resume=tmp_path / "b.ckpt")
    assert [len(batch) for model in (first, second, third) for _, batch in model.trained] == [4, 4, 3, 3, 5, 5]
    assert keys(first, second, third) == planned(0)[:24]


def test_other_workers_give_the_same_pixels(shards: Path, tmp_path: Path):
    def varied(workers: int) -> SA1B:
        return data(shards, augmentation=Augmentation(), num_workers=workers)

    straight = fit(varied(0), 2)
    before = fit(varied(1), 2, callbacks=[Stop(tmp_path / "a.ckpt", batch=3)])
    behind = fit(varied(2), 2, resume=tmp_path / "a.ckpt")
    assert keys(before, behind) == keys(straight)
    for one, two in zip(before.batches + behind.batches, straight.batches, strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.masks, two.masks)


class Process:
    """What a data module asks of the trainer of one of several processes."""

    overfit_batches = limit_val_batches = 0

    def __init__(self, rank: int, world_size: int) -> None:
        self.global_rank, self.world_size = rank, world_size
        self.callbacks: list[Any] = []


def ranks(shards: Path, batch_size: int, world_size: int, state: dict[str, int], **settings: Any) -> list[list[Any]]:
    """The batches of every process behind a checkpoint."""
    found = []
    for rank in range(world_size):
        module = data(shards, batch_size, contract=contract(), **settings)
        process: Any = Process(rank, world_size)
        module.trainer = process
        module.setup("fit")
        module.load_state_dict(state)
        found.append([batch.keys for batch in module.train_dataloader()])
    return found


@pytest.mark.parametrize(("batch_size", "world_size"), [(4, 1), (2, 2), (1, 4)])
def test_another_number_of_processes(shards: Path, batch_size: int, world_size: int):
    state = {"epoch": 1, "samples": 8, "num_samples": TRAINED, "seed": SEED}
    parts = ranks(shards, batch_size, world_size, state)
    assert {len(batches) for batches in parts} == {4}
    together = [list(itertools.chain(*step)) for step in zip(*parts, strict=True)]
    assert together == [planned(1)[first : first + 4] for first in (8, 12, 16, 20)]


def test_more_processes_with_their_own_batches(shards: Path):
    state = {"epoch": 0, "samples": 8, "num_samples": TRAINED, "seed": SEED}
    parts = ranks(shards, 4, 3, state)  # 18 left, batches of 12
    assert list(itertools.chain(*itertools.chain(*parts))) == planned(0)[8:20]
    assert [len(batches) for batches in parts] == [1, 1, 1]


def test_fewer_shards_than_processes_and_workers(shards: Path):
    """Two shards, five processes with two workers each."""
    state = {"epoch": 0, "samples": 0}
    parts = ranks(shards, 2, 5, state, num_workers=2)
    assert [len(batches) for batches in parts] == [2] * 5
    together = [list(itertools.chain(*step)) for step in zip(*parts, strict=True)]
    assert list(itertools.chain(*together)) == planned(0)[:20]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_samples": 20}, "num_samples 26 in the checkpoint, 20 now"),
        ({"seed": 1}, "seed 9 in the checkpoint, 1 now"),
    ],
)
def test_another_order_within_an_epoch(shards: Path, settings: dict[str, int], message: str):
    def resumed(samples: int) -> SA1B:
        given = {"val_samples": HELD_OUT, "seed": SEED, "contract": contract(), **settings}
        module = SA1B(str(shards), **given)
        module.setup("fit")
        module.load_state_dict({"epoch": 1, "samples": samples, "num_samples": TRAINED, "seed": SEED})
        return module

    with pytest.raises(UserError, match=f"written within an epoch of another order of samples .{message}"):
        resumed(8).train_dataloader()
    assert resumed(0).train_dataloader()  # between two epochs it does no harm


def test_the_state_is_that_of_a_batch_that_was_consumed(shards: Path, tmp_path: Path):
    """Workers have fetched more by then."""
    fit(data(shards, num_workers=2), 1, callbacks=[Stop(tmp_path / "a.ckpt", batch=2)])
    state = torch.load(tmp_path / "a.ckpt", weights_only=True)["SA1B"]
    assert state == {"epoch": 0, "samples": 8, "num_samples": TRAINED, "seed": SEED}


def test_a_second_fit_begins_anew(shards: Path):
    module = data(shards)
    assert keys(fit(module, 1)) == keys(fit(module, 1)) == planned(0)[:24]
