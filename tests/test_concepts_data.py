"""The data module of stage 3, over shards of images with phrases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from raw_samples import annotation, contract, image_bytes, write_raw_sa1b
from record_samples import HEIGHT, WIDTH, concept_members, concept_record, mask, phrase, write
from recorder import fit

from datamodules import SA1B, Concepts
from datamodules.augmentation import Augmentation
from datamodules.convert import convert_sa1b
from datamodules.plan import order
from phd.batches import ConceptBatch
from phd.errors import UserError

IMAGES = 9


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image n has n % 4 objects of one phrase, and two negatives; image 0 has no phrase at all."""
    rng = np.random.default_rng(0)
    samples = {}
    for number in range(IMAGES):
        count = number % 4
        record = {
            "image": {"file_name": f"{number}.jpg", "height": HEIGHT, "width": WIDTH},
            "annotations": [annotation(n, mask(7 * n // 2, 8 * n)) for n in range(count)],
            "phrases": [phrase(f"thing {number}", list(range(count))), phrase("cow", []), phrase("horse", [])],
        }
        record["phrases"][2]["hard"] = True
        if number == 0:
            record["phrases"] = []
        jpg = image_bytes(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        samples[f"c{number}"] = {"jpg": jpg, "json": json.dumps(record).encode()}
    return write(tmp_path_factory.mktemp("concepts") / "shards", samples, form="concept")


def opened(root: Path, **settings: Any) -> Concepts:
    defaults = {"val_samples": 4, "batch_size": 2, "contract": contract(60, 30)}
    data = Concepts(str(root), **{**defaults, **settings})
    data.setup("fit")
    return data


def test_finer_masks_in_training_alone(shards: Path):
    data = opened(shards, mask_scale=3)
    assert next(iter(data.train_dataloader())).masks.shape[-2:] == (90, 90)
    assert {tuple(batch.masks.shape[-2:]) for batch in data.val_dataloader()} == {(30, 30)}
    with pytest.raises(UserError, match=r"data\.mask_scale is 0; give at least 1"):
        opened(shards, mask_scale=0)


def test_validation_batches(shards: Path):
    first, second = opened(shards).val_dataloader()
    assert isinstance(first, ConceptBatch)
    assert first.keys == ["c0", "c1"]
    # Image 0 has no phrase; the phrases with instances come first, then the hard negative.
    assert first.phrases == ["thing 1", "horse", "cow"]
    assert first.image_index.tolist() == [1, 1, 1]
    assert first.phrase_index.tolist() == [0]
    assert second.keys == ["c2", "c3"]
    assert second.phrases == ["thing 2", "horse", "cow", "thing 3", "horse", "cow"]
    assert second.image_index.tolist() == [0, 0, 0, 1, 1, 1]
    assert second.phrase_index.tolist() == [0, 0, 3, 3, 3]
    assert second.hard.tolist() == [False, True, False] * 2
    assert second.exhaustive.tolist() == [True] * 6
    # 6 x 5 pixels (columns x rows) on a canvas 2 times as wide and 3 times as high.
    thing = [[0, 0, 12, 15], [16, 9, 28, 24], [32, 21, 44, 36]]
    assert second.boxes.tolist() == [*thing[:2], *thing]
    assert (second.masks.shape, second.masks.dtype) == ((5, 30, 30), torch.uint8)
    assert torch.equal(second.masks[:2], second.masks[2:4])
    assert (second.images.shape, second.images.dtype) == ((2, 3, 60, 60), torch.uint8)
    assert second.content.tolist() == [[60, 60]] * 2


def test_a_batch_without_phrases(shards: Path):
    (batch,) = opened(shards, val_samples=1).val_dataloader()
    assert batch.phrases == []
    assert (batch.masks.shape, batch.boxes.shape, batch.phrase_index.shape) == ((0, 30, 30), (0, 4), (0,))
    assert (batch.hard.dtype, batch.image_index.dtype) == (torch.bool, torch.int64)


def test_training_follows_the_plan(shards: Path):
    data = Concepts(str(shards), val_samples=4, batch_size=2, augmentation=Augmentation(), seed=5)
    model = fit(data, 2)
    for epoch in (0, 1):
        planned = [f"c{4 + number}" for number in order(5, 5, epoch)[:4]]
        assert [key for at, keys in model.trained for key in keys if at == epoch] == planned
    for batch in model.batches:
        assert (batch.phrase_index.diff() >= 0).all()
        assert (batch.image_index.diff() >= 0).all()
        assert len(batch.phrase_index) == len(batch.boxes) == len(batch.masks)
        assert (batch.boxes[:, 2:] > batch.boxes[:, :2]).all()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(shards: Path, workers: int):
    def batches(count: int) -> list[ConceptBatch]:
        data = opened(shards, num_workers=count, augmentation=Augmentation(), max_negatives=1, annotator="drawn")
        return list(data.train_dataloader())

    for alone, helped in zip(batches(0), batches(workers), strict=True):
        assert (alone.keys, alone.phrases) == (helped.keys, helped.phrases)
        for name in ("images", "boxes", "masks", "phrase_index", "exhaustive"):
            assert torch.equal(getattr(alone, name), getattr(helped, name)), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_positives": 0}, "data.max_positives is 0"),
        ({"max_negatives": -1}, "data.max_negatives is -1"),
        ({"max_instances": 0}, "data.max_instances is 0"),
        ({"hard_negative_share": 1.1}, "data.hard_negative_share is 1.1"),
        ({"batch_size": 6}, "5 samples are too few for a batch of 6"),
    ],
)
def test_settings_are_checked(shards: Path, settings: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        opened(shards, **settings)


def test_images_without_phrases(tmp_path: Path):
    convert_sa1b(write_raw_sa1b(tmp_path / "raw", 3), tmp_path / "shards")
    with pytest.raises(UserError, match=r"of the form image, and Concepts needs images with noun phrases \(a category"):
        opened(tmp_path / "shards", val_samples=1)


def test_stage_1_reads_concept_data(tmp_path: Path):
    """The annotations of the first annotator, without crowds."""
    root = write(tmp_path / "shards", {key: concept_members(concept_record()) for key in "abc"}, form="concept")
    data = SA1B(str(root), val_samples=1, batch_size=2, contract=contract())
    data.setup("fit")
    (batch,) = data.train_dataloader()
    assert batch.valid.sum(dim=1).tolist() == [2, 2]


def test_damage_found_in_training_is_named(tmp_path: Path):
    members = concept_members(concept_record())
    root = write(tmp_path / "shards", {"a": members, "b": {**members, "jpg": members["jpg"][:-30]}}, form="concept")
    with pytest.raises(UserError, match=r"shard-000000.tar: b: the image file is truncated"):
        list(opened(root, val_samples=1, batch_size=1).train_dataloader())
