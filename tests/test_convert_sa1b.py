import json
import tarfile

import pytest
from converted import SHARED, contents, keys, nothing_written
from raw_samples import write_raw_sa1b

from datamodules.convert import KINDS, convert, convert_sa1b
from datamodules.reader import ShardReader
from datamodules.verify import verify
from phd.errors import UserError


def test_sa1b_is_copied_as_it_is(tmp_path):
    raw = write_raw_sa1b(tmp_path / "raw", 12)
    summary = convert_sa1b(raw, tmp_path / "out", samples_per_shard=5)
    assert (summary.samples, summary.masks, summary.crowds, summary.shards) == (12, 24, 0, 3)
    assert summary.bytes == sum(path.stat().st_size for path in (tmp_path / "out").glob("*.tar"))
    assert (summary.reencoded, summary.skipped) == (0, [])
    assert keys(tmp_path / "out") == [f"sa_{number}" for number in range(12)]  # sa_2 before sa_10
    reader = ShardReader(tmp_path / "out")
    for number in range(12):
        sample = reader.read(number)
        assert sample.jpg == (raw / f"sa_{number}.jpg").read_bytes()
        assert sample.record == json.loads((raw / f"sa_{number}.json").read_text())
    assert verify(tmp_path / "out").ok


def test_sa1b_in_folders_and_in_the_tars_of_the_download(tmp_path):
    plain = write_raw_sa1b(tmp_path / "plain", 6)
    raw = tmp_path / "raw"
    (raw / "sa_000000").mkdir(parents=True)
    with tarfile.open(raw / "sa_000001.tar", "w") as archive:
        for number in range(6):
            for suffix in (".jpg", ".json"):
                path = plain / f"sa_{number}{suffix}"
                if number < 3:
                    path.rename(raw / "sa_000000" / path.name)
                else:
                    archive.add(path, f"./{path.name}")
    convert_sa1b(raw, tmp_path / "out")
    again = write_raw_sa1b(tmp_path / "again", 6)
    convert_sa1b(again, tmp_path / "expected")
    for name in ("shard-000000.tar", "shard-000000.index.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()


def test_max_samples(tmp_path):
    convert_sa1b(write_raw_sa1b(tmp_path / "raw", 5), tmp_path / "out", max_samples=3)
    assert keys(tmp_path / "out") == ["sa_0", "sa_1", "sa_2"]
    with pytest.raises(UserError, match="--max-samples is -1"):
        convert_sa1b(tmp_path / "raw", tmp_path / "none", max_samples=-1)


def test_shards_do_not_lie_among_the_raw_files(tmp_path):
    raw = write_raw_sa1b(tmp_path / "raw", 1)
    with pytest.raises(UserError, match=r"raw/out: lies in .*raw, so its files would be taken for raw ones"):
        convert_sa1b(raw, raw / "out")
    assert not (raw / "out").exists()


def test_nothing_to_convert(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no \.jpg, \.json or \.tar below it"):
        convert_sa1b(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(UserError, match="nowhere: no such folder"):
        convert_sa1b(tmp_path / "nowhere", tmp_path / "out")
    assert nothing_written(tmp_path)


def test_the_result_does_not_depend_on_the_workers(tmp_path):
    raw = write_raw_sa1b(tmp_path / "raw", 9)
    for workers in (1, 2, 5):
        convert_sa1b(raw, tmp_path / str(workers), samples_per_shard=4, workers=workers)
        assert contents(tmp_path / str(workers)) == contents(tmp_path / "1")
    with pytest.raises(UserError, match="--workers is 0; give at least 1"):
        convert_sa1b(raw, tmp_path / "out", workers=0)


def test_the_settings_and_counts_are_in_the_manifest(tmp_path):
    convert(KINDS["sa1b"], KINDS["sa1b"].options(write_raw_sa1b(tmp_path / "raw", 3), tmp_path / "out", max_samples=2))
    manifest = json.loads((tmp_path / "out" / "shards.json").read_text())
    del manifest["shards"]
    settings = {"kind": "sa1b", "samples_per_shard": 1000, "max_pixels": 100_000_000, "resize": None}
    assert manifest == {
        "format": "phd-shards",
        "version": 1,
        "kind": "sa1b",
        "form": "image",
        "settings": settings,
        "samples": 2,
        "masks": 4,
        "crowds": 0,
        "reencoded": 0,
        "skipped": 0,
    }
    with pytest.raises(TypeError, match="no setting max_sample"):
        KINDS["sa1b"].options("raw", "out", max_sample=2)


def test_two_files_of_one_name(tmp_path):
    write_raw_sa1b(tmp_path / "raw" / "a", 2)
    write_raw_sa1b(tmp_path / "raw" / "b", 1)
    with pytest.raises(UserError, match="sa_0: two samples have this key"):
        convert_sa1b(tmp_path / "raw", tmp_path / "out")


def test_sa1b_fixture(tmp_path):
    raw = SHARED / "raw" / "sa1b_synthetic_tiny"
    if not raw.is_dir():
        pytest.skip("no sample of SA-1B's format; set PHD_SHARED to the folder that holds data/raw")
    with pytest.raises(UserError, match=r"b\.json: annotation 1: the RLE has size \[5, 10\]"):
        convert_sa1b(raw, tmp_path / "out")
    assert nothing_written(tmp_path)
    summary = convert_sa1b(raw, tmp_path / "out", skip_bad=1)
    assert (summary.samples, summary.masks) == (2, 1)
    record = ShardReader(tmp_path / "out").read(0).record
    assert record["annotations"][0]["crop_box"] == [3.0, 1.0, 2.0, 5.0]
