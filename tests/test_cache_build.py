"""Building a cache: what is in it, and what happens when a builder is stopped, meets another, or finds damage."""

from __future__ import annotations

import resource
import threading
from pathlib import Path

import pytest
import torch
from cached import Counting, build, builder, names, silent, tars, whole
from tiny import tiny_sam, tiny_sam2

from datamodules.cache import CacheReader
from datamodules.cache.layout import read_manifest
from datamodules.cache.quantise import errors
from datamodules.reader import ShardReader
from datamodules.transforms import ImageTransform
from datamodules.writer import new_shards
from phd.errors import UserError
from phd.teachers import Teacher

SHARDS = [f"shard-{number:06d}" for number in range(3)]


def live(shards: Path, teacher: Teacher, numbers: list[int]) -> tuple[list[str], tuple[torch.Tensor, ...]]:
    """Keys and trunk maps, by way of the transform of the training."""
    reader, transform = ShardReader(shards), ImageTransform(teacher.contract, train=True)
    examples = [transform(sample.jpg, sample.record, sample.key) for sample in map(reader.read, numbers)]
    content = torch.stack([example.content for example in examples])
    pixels = teacher.contract.normalise(torch.stack([example.image for example in examples]), content)
    with torch.no_grad():
        return [example.key for example in examples], teacher.eval().trunk(pixels)


@pytest.mark.parametrize("dtype", ["int8", "fp16", "bf16"])
@pytest.mark.parametrize("make", [tiny_sam, tiny_sam2])
def test_the_features_are_those_of_the_live_teacher(make, dtype: str, toy_shards: Path, tmp_path: Path) -> None:
    teacher = make()
    manifest = build(toy_shards, tmp_path / "cache", teacher, dtype)
    keys, levels = live(toy_shards, teacher, [23, 0, 9, 8])  # in any order, from all shards
    cached = CacheReader(tmp_path / "cache").read(keys)
    found = errors(levels, cached)
    assert found.shape == (4, len(teacher.contract.trunk))
    assert found.max() <= {"int8": 1e-4, "fp16": 1e-7, "bf16": 5e-6}[dtype]
    for number, column in enumerate(found.unbind(1)):
        measured = manifest.relative_mse[f"level{number}"]
        assert column.max() <= 1.001 * measured["max"]
        assert measured["mean"] == pytest.approx(column.mean().item(), rel=0.5)


def test_what_is_written(tiny_cache: Path, toy_shards: Path, tiny_teacher: Teacher) -> None:
    assert names(tiny_cache) == whole(SHARDS)
    manifest = read_manifest(tiny_cache)
    assert manifest.finished
    assert manifest.bytes == sum(len(data) for data in tars(tiny_cache).values())
    assert [part.index_sha256 for part in manifest.parts] == [s.index_sha256 for s in ShardReader(toy_shards).shards]
    assert manifest.recipe.contract == tiny_teacher.contract
    assert manifest.date.endswith("+00:00")


def test_a_stopped_build_goes_on(tiny_cache: Path, tmp_path: Path, toy_shards: Path, tiny_teacher: Teacher) -> None:
    folder = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        builder(toy_shards, folder, tiny_teacher).run(Counting(tiny_teacher, stop_after=12), 4, 1, silent)
    assert names(folder) == whole(SHARDS[:1])  # nothing half-written, no claim
    assert not read_manifest(folder).finished
    with pytest.raises(UserError, match=r"2 of 3 shards are not cached, the first is features-shard-000001\.tar"):
        CacheReader(folder)
    assert len(CacheReader(folder, partial=True)) == 8
    again = builder(toy_shards, folder, tiny_teacher)
    with pytest.raises(UserError, match=r"2 shards are missing, the first is features-shard-000001\.tar"):
        again.finish()
    trunk = Counting(tiny_teacher)
    assert again.run(trunk, 4, 1, silent).finished
    assert len(trunk.keys) == 16
    assert tars(folder) == tars(tiny_cache)


def test_two_builders_share_the_work(tiny_cache: Path, tmp_path: Path, toy_shards: Path, tiny_teacher: Teacher) -> None:
    folder = tmp_path / "cache"
    trunks = [Counting(tiny_teacher), Counting(tiny_teacher)]
    finished = []

    def work(rank: int) -> None:
        # Both want the same shard first.
        finished.append(
            builder(toy_shards, folder, tiny_teacher, stale_after=20).run(trunks[rank], 2, 1, silent).finished
        )

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert finished == [True, True]
    assert all(trunk.keys for trunk in trunks)
    assert len(trunks[0].keys + trunks[1].keys) == 24  # no image twice
    assert names(folder) == whole(SHARDS)
    keys = [ShardReader(toy_shards).key(number) for number in range(24)]
    mine, theirs = CacheReader(folder).read(keys), CacheReader(tiny_cache).read(keys)
    assert (mine.levels[0] - theirs.levels[0]).abs().max() <= 1  # batches of two round otherwise


def test_ranks_begin_with_shards_of_their_own(tmp_path: Path, toy_shards: Path, tiny_teacher: Teacher) -> None:
    first = builder(toy_shards, tmp_path / "cache", tiny_teacher, rank=0, world_size=2)
    second = builder(toy_shards, tmp_path / "cache", tiny_teacher, rank=1, world_size=2)
    assert [part.name[-1] for part in first.left()] == ["0", "2", "1"]
    assert [part.name[-1] for part in second.left()] == ["1", "0", "2"]


def test_a_lost_shard_is_built_again(tiny_cache: Path, tmp_path: Path, toy_shards: Path, tiny_teacher: Teacher) -> None:
    build(toy_shards, tmp_path / "cache", tiny_teacher)
    (tmp_path / "cache" / "features-shard-000001.tar").unlink()
    again = builder(toy_shards, tmp_path / "cache", tiny_teacher)
    assert not read_manifest(tmp_path / "cache").finished
    assert again.run(Counting(tiny_teacher), 4, 1, silent).finished
    assert tars(tmp_path / "cache") == tars(tiny_cache)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": tiny_sam(1)}, r"something else \(weights: \w{12} against \w{12}\)"),
        ({"teacher": tiny_sam2()}, r"weights: .*; contract.family: sam against sam2; contract.resize: pad against squ"),
        ({"dtype": "fp16"}, r"something else \(dtype: int8 against fp16\)"),
        ({"max_shards": 2}, r"something else \(data: the shards of"),
    ],
)
def test_a_folder_of_something_else(
    tiny_cache: Path, toy_shards: Path, tiny_teacher: Teacher, change: dict, message
) -> None:
    from phd.cache import Builder, recipe_of

    reader = ShardReader(toy_shards, change.get("max_shards"))
    recipe = recipe_of(change.get("teacher", tiny_teacher), change.get("dtype", "int8"), "32-true")
    with pytest.raises(UserError, match=message):
        Builder(tiny_cache, reader, recipe)


def test_features_that_int8_cannot_hold(tmp_path: Path, toy_shards: Path, tiny_teacher: Teacher) -> None:
    with pytest.raises(UserError) as caught:
        builder(toy_shards, tmp_path / "cache", tiny_teacher).run(Counting(tiny_teacher, outlier=50.0), 4, 1, silent)
    said = str(caught.value)
    assert "stored as int8 its features have a relative MSE of " in said
    assert "where 1e-04 is allowed; build with --dtype bf16 or --dtype fp16 into a new folder" in said
    assert names(tmp_path / "cache") == ["cache.json"]
    wider = builder(toy_shards, tmp_path / "bf16", tiny_teacher, "bf16")
    assert wider.run(Counting(tiny_teacher, outlier=50.0), 4, 1, silent).relative_mse["level0"]["max"] < 1e-5


def test_a_full_disk(tmp_path: Path, toy_shards: Path, tiny_teacher: Teacher) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    work = builder(toy_shards, tmp_path / "cache", tiny_teacher)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(UserError, match=r"features-shard-000000\.tar cannot be written \(File too large\)"):
            work.run(Counting(tiny_teacher), 4, 1, silent)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path / "cache") == ["cache.json"]


def test_images_that_cannot_be_decoded(tmp_path: Path, toy_shards: Path, tiny_teacher: Teacher) -> None:
    broken = tmp_path / "shards"
    broken.mkdir()
    for path in toy_shards.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    reader = ShardReader(broken)
    jpg = reader.member(9, "jpg")
    tar = broken / "shard-000001.tar"
    tar.write_bytes(tar.read_bytes().replace(jpg, b"\0" * len(jpg)))
    with pytest.raises(UserError, match=rf"shard-000001\.tar: {reader.key(9)}: the image file is truncated"):
        build(broken, tmp_path / "cache", tiny_teacher)
    assert names(tmp_path / "cache") == whole(SHARDS[:1])


def test_videos_have_no_cache(tmp_path: Path, tiny_teacher: Teacher) -> None:
    with new_shards(tmp_path / "clips", "sav") as writer:
        writer.details = {"form": "video"}
        writer.write("clip", {"000000.jpg": b"", "json": b"{}"})
    with pytest.raises(UserError, match="clips: holds videos; a cache is made of images"):
        builder(tmp_path / "clips", tmp_path / "cache", tiny_teacher)
    assert not (tmp_path / "cache").exists()
