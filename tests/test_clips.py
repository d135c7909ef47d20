"""The data module of stage 2, over shards of videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from moving_videos import moving
from raw_samples import contract, write_raw_sa1b
from record_samples import concept_members, concept_record, video_members, video_record, write
from recorder import Stop, fit

from datamodules import Clips
from datamodules.augmentation import Augmentation
from datamodules.convert import convert_sa1b
from datamodules.plan import order
from phd.batches import ClipBatch
from phd.errors import UserError

VIDEOS = 9


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos v0, v1, ... of 2, 3, ... frames."""
    samples = {}
    for number in range(VIDEOS):
        record, frames = moving(2 + number)
        samples[f"v{number}"] = {**frames, "json": json.dumps(record).encode()}
    return write(tmp_path_factory.mktemp("clips") / "shards", samples, form="video")


def clips(root: Path, **settings: Any) -> Clips:
    defaults = {"val_samples": 2, "batch_size": 2, "clip_length": 4, "contract": contract()}
    return Clips(str(root), **{**defaults, **settings})


def opened(root: Path, **settings: Any) -> Clips:
    data = clips(root, **settings)
    data.setup("fit")
    return data


def test_batches(shards: Path):
    batches = list(opened(shards, max_objects=3, augmentation=Augmentation()).train_dataloader())
    assert len(batches) == 3  # 7 videos, the tail of one left out
    for batch in batches:
        assert isinstance(batch, ClipBatch)
        assert (batch.frames.shape, batch.frames.dtype) == ((2, 4, 3, 64, 64), torch.uint8)
        assert (batch.masks.shape, batch.masks.dtype) == ((2, 4, 3, 16, 16), torch.uint8)
        assert (batch.void.shape, batch.void.dtype) == ((2, 4, 16, 16), torch.bool)
        assert batch.labelled.tolist() == [[True] * 4] * 2
        assert batch.content.tolist() == [[64, 64]] * 2
        assert batch.numbers.shape == (2, 4)
        # Every object that is there is to be seen in the first frame.
        assert (batch.masks[:, 0].flatten(2).any(dim=2) == batch.valid).all()
        assert batch.valid[:, 0].all()
    assert [key for batch in batches for key in batch.keys] == [f"v{2 + n}" for n in order(7, 0, 0)[:6]]


def test_validation_does_not_vary(shards: Path):
    data = opened(shards, augmentation=Augmentation(), gaps=(1, 2))
    (first,), (second,) = data.val_dataloader(), data.val_dataloader()
    assert first.keys == ["v0", "v1"]
    assert first.numbers.tolist() == [[0, 4, 0, 4], [0, 4, 8, 4]]  # two and three frames, reflected
    assert torch.equal(first.frames, second.frames)


@pytest.mark.parametrize(("length", "needed", "short"), [(4, 7, 1), (5, 9, 3)])
def test_videos_too_short_for_the_longest_clip_are_named(shards: Path, length: int, needed: int, short: int):
    data = opened(shards, gaps=(2, 3), val_samples=4)
    data.set_clip_length(length, first_epoch=1)
    first, others = f"v4: has 6 frames and a clip of {length} needs {needed}", f"back, as {short} of 5 videos do"
    with pytest.warns(UserWarning, match=f"shards/shard-0.*tar: {first}; .* {others}"):
        data.train_dataloader()
    with pytest.warns(UserWarning, match=r"v0: has 2 frames and a clip of 4 needs 7; .* as 4 of 4 videos do"):
        data.val_dataloader()


def test_videos_that_are_long_enough_are_not(shards: Path, recwarn: pytest.WarningsRecorder):
    opened(shards, gaps=(1, 3), val_samples=4).train_dataloader()
    assert not [each for each in recwarn if "plays to the end" in str(each.message)]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(shards: Path, workers: int):
    def batches(count: int) -> list[ClipBatch]:
        return list(opened(shards, num_workers=count, augmentation=Augmentation(), seed=3).train_dataloader())

    for alone, helped in zip(batches(0), batches(workers), strict=True):
        assert alone.keys == helped.keys
        for name in ("frames", "masks", "numbers", "valid"):
            assert torch.equal(getattr(alone, name), getattr(helped, name)), name


@pytest.mark.parametrize("workers", [0, 1])
def test_the_length_changes_with_the_epoch(shards: Path, tmp_path: Path, workers: int):
    def scheduled() -> Clips:
        data = clips(shards, num_workers=workers)
        data.set_clip_length(6, first_epoch=1)
        data.set_clip_length(3, first_epoch=3)
        return data

    whole = fit(scheduled(), 4)
    lengths = [batch.frames.shape[1] for batch in whole.batches]
    assert lengths == [4] * 3 + [6] * 3 + [6] * 3 + [3] * 3
    # A resumed run takes the length of its epoch, and the same clips.
    before = fit(scheduled(), 4, callbacks=[Stop(tmp_path / "a.ckpt", batch=5)])
    behind = fit(scheduled(), 4, resume=tmp_path / "a.ckpt")
    resumed = before.batches + behind.batches
    assert [batch.keys for batch in resumed] == [batch.keys for batch in whole.batches]
    assert all(torch.equal(one.numbers, two.numbers) for one, two in zip(resumed, whole.batches, strict=True))


def test_the_length_of_validation_stays(shards: Path):
    data = opened(shards)
    data.set_clip_length(2)
    assert next(iter(data.train_dataloader())).frames.shape[1] == 2
    assert next(iter(data.val_dataloader())).frames.shape[1] == 4
    with pytest.raises(UserError, match="a clip of 0 frames is asked for from epoch 2 on"):
        data.set_clip_length(0, first_epoch=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_length": 0}, "data.clip_length is 0"),
        ({"max_objects": 0}, "data.max_objects is 0"),
        ({"gaps": (0, 3)}, r"data.gaps is \[0, 3\]"),
        ({"gaps": (3, 2)}, r"data.gaps is \[3, 2\]"),
        ({"reverse_probability": 1.5}, "data.reverse_probability is 1.5"),
        ({"augmentation": Augmentation(crop_probability=3)}, "augmentation.crop_probability is 3"),
        ({"batch_size": 8}, "7 samples are too few for a batch of 8 on each of 1"),
    ],
)
def test_settings_are_checked(shards: Path, settings: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        opened(shards, **settings)


def test_shards_of_another_kind(tmp_path: Path):
    concepts = write(tmp_path / "concepts", {"a": concept_members(concept_record())}, form="concept")
    with pytest.raises(UserError, match="samples are of the form concept, and Clips needs videos with masks"):
        opened(concepts)
    convert_sa1b(write_raw_sa1b(tmp_path / "raw", 2), tmp_path / "images")
    with pytest.raises(UserError, match="samples are of the form image, and Clips needs"):
        opened(tmp_path / "images")
    masks = {key: {"json": json.dumps(video_record()).encode()} for key in "abc"}
    with pytest.raises(UserError, match="holds masks without frames; convert again with the folder of frames"):
        opened(write(tmp_path / "masks", masks, form="video", images=False))


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_found_in_training_is_named(tmp_path: Path, workers: int):
    members = video_members(video_record())
    cut = {**members, "000004.jpg": members["000004.jpg"][:-40]}
    root = write(tmp_path / "shards", {"good": members, "bad": cut, "last": cut}, form="video")
    data = opened(root, val_samples=1, batch_size=1, num_workers=workers)
    with pytest.raises(UserError) as caught:
        list(data.train_dataloader())
    last = str(caught.value).strip().splitlines()[-1]
    assert "shard-00000" in last
    assert ": frame 4: the image file is truncated" in last
