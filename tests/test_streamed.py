"""Stage 1 from tars without an index, and from URLs."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from raw_samples import contract, write_raw_sa1b
from recorder import Recorder, Stop, fit

from datamodules import SA1B, Clips
from datamodules.convert import convert_sa1b
from datamodules.transforms import Augmentation
from phd.errors import UserError

SAMPLES = 22


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streamed")
    convert_sa1b(write_raw_sa1b(folder / "raw", SAMPLES), folder / "shards", samples_per_shard=8)
    return folder / "shards"


@pytest.fixture(scope="module")
def tars(shards: Path) -> Path:
    """The same tars as somebody else would have them: without index and manifest."""
    folder = shards.with_name("tars")
    folder.mkdir()
    for tar in shards.glob("*.tar"):
        shutil.copy(tar, folder)
    return folder


def streamed(tars: Path | str, shards: Path, **settings: Any) -> SA1B:
    defaults = {"val_root": str(shards), "val_samples": 3, "batch_size": 4, "augmentation": Augmentation()}
    return SA1B(str(tars), **{**defaults, **settings})


def keys(*models: Recorder) -> list[list[str]]:
    return [batch for model in models for _, batch in model.trained]


@pytest.mark.parametrize("pattern", ["", "shard-{000000..000002}.tar"])
@pytest.mark.parametrize("workers", [0, 2])
def test_epochs(tars: Path, shards: Path, workers: int, pattern: str):
    model = fit(streamed(f"{tars}/{pattern}" if pattern else tars, shards, num_workers=workers), 2)
    batches = keys(model)
    assert [len(batch) for batch in batches] == [4] * 10  # 22 samples: 5 batches in each of 2 epochs
    first, second = (list(itertools.chain(*part)) for part in (batches[:5], batches[5:]))
    assert len(set(first)) == len(set(second)) == 20
    assert first != second
    assert model.validated == ["sa_0", "sa_1", "sa_2"] * 2


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [{"batch": 2}, {"batch": 5}, {"batch": 8}, {"epoch": 1}], ids=str)
def test_resume_with_the_same_workers(tars: Path, shards: Path, tmp_path: Path, stop: dict[str, int], workers: int):
    def data() -> SA1B:
        return streamed(tars, shards, num_workers=workers)

    straight = fit(data(), 3)
    before = fit(data(), 3, callbacks=[Stop(tmp_path / "a.ckpt", **stop)])
    behind = fit(data(), 3, resume=tmp_path / "a.ckpt")
    assert keys(before, behind) == keys(straight)
    for one, two in zip(before.batches + behind.batches, straight.batches, strict=True):
        assert torch.equal(one.images, two.images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_samples": 9}, "has no index, so data.max_samples cannot be kept"),
        ({"max_shards": 1}, "has no index, so data.max_shards cannot be kept"),
        ({"val_root": None}, "cannot be divided; name a data.val_root of shards"),
        ({"batch_size": 30}, "22 samples are too few for a batch of 30"),
        ({"samples": 0}, "data.samples is 0"),
    ],
)
def test_settings_that_a_stream_cannot_keep(tars: Path, shards: Path, settings: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        streamed(tars, shards, contract=contract(), **settings).setup("fit")


def test_videos_need_an_index(tars: Path, shards: Path):
    with pytest.raises(UserError, match="videos without an index cannot be read; use `phd shards convert`"):
        Clips(str(tars), val_root=str(shards), contract=contract()).setup("fit")


def test_a_url_is_read_like_a_folder(shards: Path):
    memory = fsspec.filesystem("memory")
    memory.put(f"{shards}/", "/phd-shards/", recursive=True)
    settings = {"val_samples": 3, "batch_size": 4, "augmentation": Augmentation()}
    local = fit(SA1B(str(shards), **settings), 1)
    remote = fit(SA1B("memory://phd-shards", **settings), 1)
    assert keys(remote) == keys(local)
    assert all(torch.equal(one.images, two.images) for one, two in zip(remote.batches, local.batches, strict=True))
