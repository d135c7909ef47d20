"""Reading a cache: joins by key, damage, and who may use it."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cached import Counting, builder, silent, tars
from tiny import tiny_sam, tiny_sam2

from datamodules import SA1B
from datamodules.cache import CacheReader
from datamodules.cache.layout import read_manifest
from datamodules.convert import convert_sa1b
from datamodules.reader import ShardReader
from datamodules.transforms import Augmentation
from datamodules.writer import new_shards
from phd.errors import UserError
from phd.teachers import Teacher
from phd.teachers.fingerprint import weights_sha256

COLOURS = Augmentation(horizontal_flip=0, crop_probability=0)


@pytest.fixture
def copied(tiny_cache: Path, tmp_path: Path) -> Path:
    """One to damage."""
    shutil.copytree(tiny_cache, tmp_path / "copied")
    return tmp_path / "copied"


@pytest.fixture
def partial(tmp_path: Path, toy_shards: Path, tiny_teacher: Teacher) -> Path:
    """A cache of the first of three shards."""
    folder = tmp_path / "partial"
    with pytest.raises(KeyboardInterrupt):
        builder(toy_shards, folder, tiny_teacher).run(Counting(tiny_teacher, stop_after=8), 4, 1, silent)
    return folder


def data(root: Path, cache: Path, teacher: Teacher, **settings: object) -> SA1B:
    settings = {"contract": teacher.contract, "val_samples": 4, "batch_size": 4, **settings}
    module = SA1B(str(root), cache=str(cache), **settings)
    module.setup("fit")
    return module


def keys(shards: Path) -> list[str]:
    reader = ShardReader(shards)
    return [reader.key(number) for number in range(len(reader))]


def test_features_come_by_key(tiny_cache: Path, toy_shards: Path) -> None:
    reader, wanted = CacheReader(tiny_cache), keys(toy_shards)
    everything = reader.read(wanted)
    assert everything.levels[0].shape == (24, 32, 8, 8)
    assert (everything.levels[0].dtype, everything.scales[0].dtype) == (torch.int8, torch.float16)
    some = reader.read([wanted[17], wanted[2], wanted[17]])
    assert torch.equal(some.levels[0], everything.levels[0][[17, 2, 17]])
    assert torch.equal(some.scales[0], everything.scales[0][[17, 2, 17]])
    # Straight from the bytes of the tar, without the reader.
    shard = tars(tiny_cache)["features-shard-000000.tar"]
    assert shard.count(some.levels[0][1].numpy().tobytes()) == 1
    assert wanted[3] in reader
    assert "sa_999999" not in reader
    assert reader.read([wanted[3], "sa_999999"]) is None


def test_a_reader_travels_to_a_worker(tiny_cache: Path, toy_shards: Path) -> None:
    reader, wanted = CacheReader(tiny_cache), keys(toy_shards)[:3]
    before = reader.read(wanted)
    after = pickle.loads(pickle.dumps(reader)).read(wanted)
    assert torch.equal(before.levels[0], after.levels[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_carry_their_features(tiny_cache: Path, toy_shards: Path, tiny_teacher: Teacher, workers: int) -> None:
    reader = CacheReader(tiny_cache)
    module = data(toy_shards, tiny_cache, tiny_teacher, num_workers=workers, augmentation=COLOURS)
    batches = [*module.train_dataloader(), *module.val_dataloader()]
    assert len(batches) == 6
    for batch in batches:
        assert torch.equal(batch.cached.levels[0], reader.read(batch.keys).levels[0])


def test_shards_of_another_size_join_too(
    tiny_cache: Path, tmp_path: Path, toy_raw: Path, tiny_teacher: Teacher
) -> None:
    convert_sa1b(toy_raw, tmp_path / "shards", samples_per_shard=5)
    batch = next(iter(data(tmp_path / "shards", tiny_cache, tiny_teacher).train_dataloader()))
    assert torch.equal(batch.cached.levels[0], CacheReader(tiny_cache).read(batch.keys).levels[0])


def test_another_image_of_the_same_key(
    tiny_cache: Path, tmp_path: Path, toy_shards: Path, tiny_teacher: Teacher
) -> None:
    reader = ShardReader(toy_shards)
    with new_shards(tmp_path / "shards", "sa1b") as writer:
        for number in range(8):
            jpg = reader.member((number + 1) % 8, "jpg")
            writer.write(reader.key(number), {"jpg": jpg, "json": reader.member(number, "json")})
    with pytest.raises(UserError, match=rf"the features of {reader.key(4)} were made from another image than"):
        data(tmp_path / "shards", tiny_cache, tiny_teacher)


def test_missing_features_are_an_error(
    partial: Path, tiny_cache: Path, tmp_path: Path, toy_shards, tiny_teacher
) -> None:
    with pytest.raises(UserError, match=r"2 of 3 shards are not cached, the first is features-shard-000001\.tar"):
        data(toy_shards, partial, tiny_teacher)
    reader = ShardReader(toy_shards)
    with new_shards(tmp_path / "more", "sa1b") as writer:
        for number in range(6):
            name = reader.key(number) if number < 5 else "new"
            writer.write(name, {extension: reader.member(number, extension) for extension in ("jpg", "json")})
    with pytest.raises(UserError, match=r"has no features for 1 of 4 samples .*the first is new; build a cache of"):
        data(tmp_path / "more", tiny_cache, tiny_teacher, val_samples=2, batch_size=2)


def test_missing_features_fall_back_to_the_teacher(partial: Path, toy_shards: Path, tiny_teacher: Teacher) -> None:
    module = data(toy_shards, partial, tiny_teacher, cache_missing="live", batch_size=2)
    there = set(keys(toy_shards)[:8])
    batches = [*module.train_dataloader(), *module.val_dataloader()]
    assert {batch.cached is not None for batch in batches} == {True, False}
    for batch in batches:
        assert (batch.cached is not None) == there.issuperset(batch.keys)


def test_a_shard_cut_short(copied: Path, toy_shards: Path, tiny_teacher: Teacher) -> None:
    tar = copied / "features-shard-000001.tar"
    open_already = CacheReader(copied)
    whole = tar.read_bytes()
    tar.write_bytes(whole[:5000])
    for missing in ("error", "live"):
        with pytest.raises(UserError, match=rf"{tar}: is cut short: 5000 bytes where its index says {len(whole)}"):
            data(toy_shards, copied, tiny_teacher, cache_missing=missing)
    with pytest.raises(UserError, match=r"features-shard-000001\.tar: sa_\d+\.level0\.q8 is cut short; remove both"):
        open_already.read(keys(toy_shards)[10:12])
    tar.write_bytes(whole[:-5000] + bytes(5000))
    with pytest.raises(UserError, match=r"level0\.\w+ does not lie where the index says"):
        CacheReader(copied).read(keys(toy_shards)[8:16])


def test_an_index_of_another_shard(copied: Path) -> None:
    first, second = (copied / f"features-shard-00000{number}.index.json" for number in (0, 1))
    first.write_bytes(second.read_bytes())
    with pytest.raises(UserError, match=r"features-shard-00000[01]\.\w+.*: (made from another image shard|is )"):
        CacheReader(copied)
    first.write_text("{")
    with pytest.raises(UserError, match=r"features-shard-000000\.index\.json: not JSON"):
        CacheReader(copied)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"has no cache\.json: no teacher feature cache; make one with `phd cache build`"),
        ("{", r"cache\.json: not JSON"),
        ("[]", r"cache\.json: not a manifest of phd-cache version 1"),
        ('{"format": "phd-cache", "version": 9}', r"not a manifest of phd-cache version 1"),
        ('{"format": "phd-cache", "version": 1}', r"a setting is missing or unknown \('recipe'\)"),
    ],
)
def test_no_cache(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "cache.json").write_text(text)
    with pytest.raises(UserError, match=message):
        CacheReader(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        CacheReader(tmp_path / "nowhere")


def test_a_cache_of_another_contract(tiny_cache: Path, toy_shards: Path, tiny_teacher: Teacher) -> None:
    other = replace(tiny_teacher.contract, image_size=256, std=(0.5, 0.5, 0.5))
    with pytest.raises(UserError, match=r"another contract than the model's \(image_size: 128 against 256; std: "):
        data(toy_shards, tiny_cache, tiny_teacher, contract=other)
    with pytest.raises(UserError, match="family: sam against sam2; resize: pad against squash"):
        data(toy_shards, tiny_cache, tiny_teacher, contract=tiny_sam2().contract)


def test_a_cache_of_another_transform(copied: Path, toy_shards: Path, tiny_teacher: Teacher) -> None:
    """As an older version left it: the same contract, another way to draw the canvas."""
    now = read_manifest(copied).recipe
    old = replace(now, transform_sha256="0" * 64)
    manifest = copied / "cache.json"
    manifest.write_text(manifest.read_text().replace(now.transform_sha256, old.transform_sha256))
    with pytest.raises(UserError, match=r"000000\.index\.json: made with another teacher or other settings"):
        CacheReader(copied)  # a manifest alone cannot be changed by hand
    for path in copied.glob("*.index.json"):
        path.write_text(path.read_text().replace(now.sha256, old.sha256))
    made = now.transform_sha256[:12]
    with pytest.raises(UserError, match=rf"transform: 000000000000 against {made}, as another version draws"):
        data(toy_shards, copied, tiny_teacher)


def test_a_cache_of_another_teacher(tiny_cache: Path, tiny_teacher: Teacher) -> None:
    reader = CacheReader(tiny_cache)
    reader.require_weights(weights_sha256(tiny_sam().trunk), "another name, the same weights")
    other = tiny_sam(1)
    with pytest.raises(UserError, match=r"by another teacher, tiny-sam with weights \w{12}, than the run's, tiny-sam"):
        reader.require_weights(weights_sha256(other.trunk), other.name)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"horizontal_flip": 0.5, "crop_probability": 0}, r"data\.augmentation\.horizontal_flip \(0\.5\):"),
        ({"horizontal_flip": 0, "crop_probability": 0.3}, r"data\.augmentation\.crop_probability \(0\.3\):"),
        ({}, r"horizontal_flip \(0\.5\) and data\.augmentation\.crop_probability \(0\.5\): .*; set them to 0"),
    ],
)
def test_a_flipped_map_is_not_the_map_of_the_flipped_image(
    tiny_cache, toy_shards, tiny_teacher, settings, named
) -> None:
    with pytest.raises(UserError, match=named):
        data(toy_shards, tiny_cache, tiny_teacher, augmentation=Augmentation(**settings))
