"""The loader benchmark at a tiny size: what it reports, and that its variants do the same work."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from datamodules.reader import ShardReader
from datamodules.transforms import ImageTransform
from phd.bench.jpegs import write_raw
from phd.bench.loader import GOALS, LoaderBench, ratios
from phd.bench.plain_folder import PlainFolder
from phd.bench.timing import Times, by_turns, one_core
from phd.commands import bench as command
from phd.contract import Level
from phd.errors import UserError

TINY = LoaderBench(images=3, height=150, width=225, masks=9, image_size=96, mask_size=64, features=4, batch=2)
TINY = replace(TINY, level=Level(8, 6), max_masks=5)
RATIOS = {"samples_per_s", *GOALS}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bench") / "data"
    TINY.write(root)
    return root


@pytest.fixture(scope="module")
def result(data: Path) -> dict[str, Any]:
    return TINY.measure(data, rounds=2)


def test_every_key_is_there(result: dict[str, Any]) -> None:
    assert set(result) >= RATIOS
    assert all(0 < result[name] < math.inf for name in RATIOS)
    assert result["environment"]["threads"] == 1
    assert result["environment"]["torch"] == torch.__version__
    assert {"cpu", "cores", "date"} <= set(result["environment"])
    times = result["milliseconds"]
    assert set(times) == set(command.ROWS)
    assert {len(each["wall"]) for name, each in times.items() if name != "cache"} == {2 * 3}  # rounds x images
    assert len(times["cache"]["cpu"]) == 2 * 2  # rounds x batches
    assert json.loads(json.dumps(result)) == result


def test_ratios_of_known_times() -> None:
    milliseconds = {"ours": 20, "jpeg_alone": 12, "pil_folder": 130, "pil_folder_tensor_masks": 90, "ours_resized": 8}
    times = {name: Times([value, value, 1e6], []) for name, value in {**milliseconds, "cache": 5}.items()}
    assert ratios(times, cache_batch_bytes=10_000_000) == pytest.approx(
        {
            "samples_per_s": 50,
            "over_jpeg_limit": 0.6,
            "over_pil_folder": 6.5,
            "over_pil_folder_tensor_masks": 4.5,
            "resized_over_original": 2.5,
            "cache_gb_per_s": 2.0,
        }
    )


@pytest.mark.parametrize("tensors_only", [False, True])
def test_loaders_agree(data: Path, tensors_only: bool) -> None:
    reader = ShardReader(data / "original")
    keys = [reader.key(number) for number in range(len(reader))]
    assert keys == ["sa_0", "sa_1", "sa_2"]
    # Small masks take no place in our sample, so none is left out here.
    transform = ImageTransform(TINY.contract, None, TINY.max_masks, min_area_cells=0, train=False)
    plain = PlainFolder(data / "raw", keys, TINY.image_size, TINY.mask_size, TINY.max_masks, tensors_only)
    for number, key in enumerate(keys):
        sample = reader.read(number)
        ours = transform(sample.jpg, sample.record, key)
        image, masks = plain[number]
        assert masks.any(dim=2).any(dim=1).all()
        assert torch.equal(ours.masks, masks)
        assert image.shape == ours.image.shape == (3, 96, 96)
        assert (image.float() - ours.image.float()).abs().mean() < 1  # two roundings of the same filter


def test_resized_shards_hold_the_same_images(data: Path) -> None:
    original, resized = ShardReader(data / "original"), ShardReader(data / "resized")
    assert [original.key(number) for number in range(3)] == [resized.key(number) for number in range(3)]
    assert resized.record(0)["image"]["width"] == 96
    assert resized.record(0)["image"]["height"] == 64


def test_cached_features_are_read(data: Path) -> None:
    batch = TINY.cache_batches(data / "cache")(1)
    assert batch.levels[0].shape == (2, 8, 6, 6)
    assert batch.levels[0].dtype == torch.int8
    assert not torch.equal(batch.levels[0][0], batch.levels[0][1])
    assert batch.scales[0].shape == (2, 8)


def test_raw_files_are_those_of_the_arguments(tmp_path: Path) -> None:
    for name in ("once", "again"):
        write_raw(tmp_path / name, images=2, height=60, width=90, masks=4, seed=3)
    write_raw(tmp_path / "other", images=2, height=60, width=90, masks=4, seed=4)
    once, again, other = (sorted((tmp_path / name).iterdir()) for name in ("once", "again", "other"))
    assert [path.name for path in once] == ["sa_0.jpg", "sa_0.json", "sa_1.jpg", "sa_1.json"]
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in again]
    assert once[0].read_bytes() != other[0].read_bytes()
    assert once[0].read_bytes() != once[2].read_bytes()
    assert Image.open(once[0]).size == (90, 60)
    record = json.loads(once[1].read_bytes())
    assert len(record["annotations"]) == 4
    for annotation in record["annotations"]:
        assert coco_mask.decode(annotation["segmentation"]).sum() == annotation["area"] > 0


def test_data_is_made_once_and_of_one_kind(data: Path, tmp_path: Path) -> None:
    before = (data / "raw" / "sa_0.jpg").stat().st_mtime_ns
    TINY.write(data)
    assert (data / "raw" / "sa_0.jpg").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"another benchmark \(images: 3, not 2\)"):
        replace(TINY, images=2).write(data)
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="is not empty"):
        TINY.write(tmp_path)


def test_turns_and_the_core() -> None:
    order, cores = [], set()

    def work(name: str, item: int) -> None:
        order.append((name, item))
        cores.add(frozenset(os.sched_getaffinity(0)))
        np.ones(1000).sum()

    before, threads = os.sched_getaffinity(0), torch.get_num_threads()
    with one_core():
        assert torch.get_num_threads() == 1
        times = by_turns({name: lambda item, name=name: work(name, item) for name in "ab"}, items=2, rounds=2)
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1)] * 3  # the first round does not count
    assert [len(each.cpu) for each in times.values()] == [4, 4]
    assert len(cores) == 1
    assert len(next(iter(cores))) == 1
    assert (os.sched_getaffinity(0), torch.get_num_threads()) == (before, threads)


def test_command(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("phd.bench.loader.LoaderBench", lambda images: replace(TINY, images=images))
    out = tmp_path / "results" / "loader.json"
    command.run(["loader", "--data-dir", str(data), "--images", "3", "--rounds", "1", "--json", str(out)])
    shown = capsys.readouterr().out
    assert set(json.loads(out.read_text())) >= RATIOS
    assert all(name in shown for name in RATIOS)
    assert shown.count("met") + shown.count("missed") == len(GOALS)
    with pytest.raises(UserError, match="--rounds is 0"):
        command.run(["loader", "--rounds", "0"])


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/raw: cannot be written .*; name another --data-dir"):
        TINY.write(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    for text in ("", "[5]", "5"):
        (tmp_path / "folder" / "bench.json").write_text(text)
        with pytest.raises(UserError, match=r"bench\.json: damaged .*; name another --data-dir"):
            TINY.write(tmp_path / "folder")
