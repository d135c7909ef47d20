import json
import pickle

import lightning as L
import numpy as np
import pytest
import torch
from raw_samples import annotation, contract, image_bytes, rectangle, write_raw_sa1b
from recorder import Recorder, fit

from datamodules import SA1B
from datamodules.convert import convert_sa1b
from datamodules.labelled import labelled_images
from datamodules.plan import PlannedBatchSampler, order
from datamodules.reader import ShardReader
from datamodules.transforms import Augmentation
from datamodules.writer import new_shards
from phd.batches import ImageBatch
from phd.errors import UserError


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sa1b")
    convert_sa1b(write_raw_sa1b(folder / "raw", 23), folder / "shards", samples_per_shard=7)
    return folder / "shards"


def opened(root, **settings):
    data = SA1B(str(root), **{"contract": contract(), "val_samples": 5, "batch_size": 4, **settings})
    data.setup("fit")
    return data


def test_batches(shards):
    data = opened(shards, max_masks=3, augmentation=Augmentation())
    batches = list(data.train_dataloader())
    assert len(batches) == len(data.train_dataloader()) == 4  # 18 samples, the tail of 2 left out
    for batch in batches:
        assert (batch.images.shape, batch.images.dtype) == ((4, 3, 64, 64), torch.uint8)
        assert (batch.masks.shape, batch.masks.dtype) == ((4, 3, 16, 16), torch.uint8)
        assert batch.content.tolist() == [[64, 64]] * 4
        assert batch.valid.tolist() == [[True, True, False]] * 4
        assert (batch.masks.flatten(2).any(dim=2) == batch.valid).all()
        assert len(batch.keys) == 4


def test_validation_is_held_out_and_whole(shards):
    data = opened(shards)
    validated = [key for batch in data.val_dataloader() for key in batch.keys]
    assert validated == [f"sa_{number}" for number in range(5)]
    trained = {key for epoch in range(3) for key in keys_of(data, epoch)}
    assert trained == {f"sa_{number}" for number in range(5, 23)}


def keys_of(data, epoch):
    loader = data.train_dataloader()
    loader.batch_sampler.set_epoch(epoch)
    return [key for batch in loader for key in batch.keys]


def test_validation_set_of_its_own(shards):
    data = opened(shards, val_root=str(shards), val_samples=100)
    assert (len(data.train_set), len(data.val_set)) == (23, 23)
    assert len(opened(shards, val_root=str(shards), val_samples=9).val_set) == 9


def test_limits(shards):
    assert len(opened(shards, max_samples=6).train_set) == 6
    assert len(opened(shards, max_samples=600).train_set) == 18
    assert len(opened(shards, max_shards=2).train_set) == 9


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_follows_the_plan(shards, workers):
    model = fit(SA1B(str(shards), val_samples=5, batch_size=4, num_workers=workers, seed=9))
    assert all(isinstance(batch, ImageBatch) for batch in model.batches)
    for epoch in (0, 1):
        planned = [f"sa_{5 + number}" for number in order(18, seed=9, epoch=epoch)[:16]]
        assert [key for at, keys in model.trained for key in keys if at == epoch] == planned
    assert model.validated == [f"sa_{number}" for number in range(5)] * 2


def test_overfitting_sees_the_same_batches(shards):
    model = fit(SA1B(str(shards), val_samples=5, batch_size=4), overfit_batches=2)
    assert len(model.trained) == 4
    assert [keys for epoch, keys in model.trained if epoch == 0] == [
        keys for epoch, keys in model.trained if epoch == 1
    ]


def test_every_worker_count_gives_the_same_pixels(shards):
    def batches(workers):
        return list(opened(shards, augmentation=Augmentation(), num_workers=workers).train_dataloader())

    for alone, helped in zip(batches(0), batches(2), strict=True):
        assert alone.keys == helped.keys
        assert (alone.images == helped.images).all()
        assert (alone.masks == helped.masks).all()


def test_ranks_divide_the_batches(shards):
    data = opened(shards)
    whole = list(PlannedBatchSampler(18, 4, seed=0))
    parts = []
    for rank in range(2):
        data.batch_size = 2

        class Pretend:
            global_rank, world_size, overfit_batches = rank, 2, 0

        data.trainer = Pretend()  # pyright: ignore[reportAttributeAccessIssue]
        parts.append([batch.keys for batch in data.train_dataloader()])
    joined = [first + second for first, second in zip(*parts, strict=True)]
    assert joined == [[f"sa_{5 + number}" for _, number in batch] for batch in whole]


def test_augmentation_is_for_training_only(shards):
    data = opened(shards, augmentation=Augmentation(horizontal_flip=1.0), val_root=str(shards))
    plain = opened(shards, val_root=str(shards))
    (trained, *_), (validated, *_), (expected, *_) = (
        data.train_dataloader(),
        data.val_dataloader(),
        plain.val_dataloader(),
    )
    assert (validated.images == expected.images).all()
    number = int(trained.keys[0].removeprefix("sa_"))
    assert (trained.images[0] != plain.val_set[0, number].image).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "data.batch_size is 0"),
        ({"val_samples": 0}, "data.val_samples is 0"),
        ({"max_masks": 0}, "data.max_masks is 0"),
        ({"max_samples": 0}, "data.max_samples is 0"),
        ({"num_workers": -1}, "data.num_workers is -1"),
        ({"seed": -1}, "data.seed is -1"),
        ({"val_samples": 23}, "holds out 23 of its 23 samples and leaves none"),
        ({"max_shards": 5}, "max_shards is 5 but the folder has 4 shards"),
        ({"val_root": "nowhere"}, "nowhere: no such folder"),
        ({"augmentation": Augmentation(brightness=2)}, "augmentation.brightness is 2"),
    ],
)
def test_settings_are_checked(shards, settings, message):
    with pytest.raises(UserError, match=message):
        opened(shards, **settings)


def test_fewer_samples_than_a_batch(shards):
    with pytest.raises(UserError, match="18 samples are too few for a batch of 32 on each of 1"):
        opened(shards, batch_size=32)  # in setup, before a run writes anything
    # The tail of validation is kept, but every process needs a sample.
    assert len(opened(shards, batch_size=18).val_dataloader()) == 1


def test_a_model_without_contract(shards):
    class Bare(Recorder):
        def __init__(self):
            super().__init__()
            self.contract = None

    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(UserError, match=r"data\.contract is not given and the model has none"):
        trainer.fit(Bare(), SA1B(str(shards)))


def test_no_work_before_setup():
    SA1B("/nowhere", batch_size=0)


def damaged(folder):
    """Shards whose second sample is a truncated JPEG; the converter would have refused it."""
    jpg = image_bytes(np.zeros((20, 30, 3), dtype=np.uint8))
    record = {"image": {"height": 20, "width": 30}, "annotations": [annotation(4, rectangle(20, 30, 2, 3, 5, 6))]}
    with new_shards(folder, "sa1b") as writer:
        for number in range(4):
            members = {"jpg": jpg[:-30] if number == 1 else jpg, "json": json.dumps(record).encode()}
            writer.write(f"sa_{number}", members)
    return folder


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_found_in_training_is_named(tmp_path, workers):
    data = opened(damaged(tmp_path / "shards"), val_samples=1, batch_size=1, num_workers=workers)
    with pytest.raises(UserError) as caught:
        list(data.train_dataloader())
    # A worker's message comes with its traceback; the last line is ours.
    last = str(caught.value).strip().splitlines()[-1]
    assert "shard-000000.tar: sa_1: the image file is truncated" in last


def test_labelled_images(shards):
    images = labelled_images(ShardReader(shards))
    assert len(images) == 23
    first = next(iter(images))
    assert (first.key, first.image.shape, first.image.dtype) == ("sa_0", (40, 60, 3), np.uint8)
    assert first.image.flags["C_CONTIGUOUS"]
    assert first.ids == [0, 1]
    assert [mask["size"] for mask in first.masks] == [[40, 60]] * 2
    few = labelled_images(ShardReader(shards), max_images=3)
    assert len(few) == len(list(few)) == 3


def test_labelled_images_leave_out_crowds_and_name_damage(tmp_path):
    jpg = image_bytes(np.zeros((20, 30, 3), dtype=np.uint8))
    mask = rectangle(20, 30, 2, 3, 5, 6)
    with new_shards(tmp_path / "shards", "coco") as writer:
        for key, masks in {
            "good": [annotation(4, mask, iscrowd=1), annotation(5, mask, iscrowd=0)],
            "bad": [annotation(6, mask.T)],
        }.items():
            record = {"image": {"height": 20, "width": 30}, "annotations": masks}
            writer.write(key, {"jpg": jpg, "json": json.dumps(record).encode()})
    images = iter(labelled_images(ShardReader(tmp_path / "shards")))
    assert next(images).ids == [5]
    with pytest.raises(UserError, match=r"shard-000000.tar: bad: annotation 6: the RLE has size \[30, 20\]"):
        next(images)


def test_the_data_set_travels_to_a_worker(shards):
    data = opened(shards)
    data.train_set[0, 3]
    copy = pickle.loads(pickle.dumps(data.train_set))
    assert (copy[0, 3].image == data.train_set[0, 3].image).all()
