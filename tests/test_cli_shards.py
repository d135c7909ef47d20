"""`phd shards` as a user calls it: good data in, and one line about bad data with nothing written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_runs import files, refused
from PIL import Image
from pycocotools import mask as coco_mask

from phd.cli import main


@pytest.fixture
def raw(toy_raw: Path, tmp_path: Path) -> Path:
    """Three scenes to damage."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for number in (1, 2, 3):
        for suffix in ("jpg", "json"):
            shutil.copy(toy_raw / f"sa_{number:06d}.{suffix}", folder)
    return folder


def test_convert_and_verify(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "shards"
    main(["shards", "convert", "sa1b", str(raw), str(out), "--samples-per-shard", "2"])
    masks = sum(len(json.loads(path.read_text())["annotations"]) for path in raw.glob("*.json"))
    assert f"3 images, {masks} masks in 2 shards" in capsys.readouterr().out
    assert files(out) == {
        "shards.json",
        *(f"shard-00000{n}.{suffix}" for n in (0, 1) for suffix in ("tar", "index.json")),
    }
    main(["shards", "verify", str(out)])
    assert f"3 images, {masks} masks" in capsys.readouterr().out
    main(["shards", "convert", "sa1b", str(raw), str(tmp_path / "two"), "--max-samples", "2"])
    assert "2 images" in capsys.readouterr().out


def test_convert_coco(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "images" / "photo.png")
    coco = {
        "images": [{"id": 7, "file_name": "photo.png", "height": 40, "width": 60}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [[5, 5, 25, 5, 25, 20, 5, 20]], "iscrowd": 0}
        ],
        "categories": [{"id": 3, "name": "thing"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    arguments = ["shards", "convert", "coco", str(tmp_path / "images"), str(tmp_path / "coco.json")]
    main([*arguments, str(tmp_path / "shards")])
    assert "1 images, 1 masks, 1 re-encoded as JPEG in 1 shards" in capsys.readouterr().out
    coco["annotations"][0]["image_id"] = 8
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    assert "coco.json" in refused(capsys, *arguments, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def truncate(raw: Path) -> str:
    image = raw / "sa_000002.jpg"
    image.write_bytes(image.read_bytes()[:700])
    return f"{image}: the image file is truncated"


def lose_the_image(raw: Path) -> str:
    (raw / "sa_000002.jpg").unlink()
    return "sa_000002"


def turn_a_mask(raw: Path) -> str:
    path = raw / "sa_000002.json"
    record = json.loads(path.read_text())
    height, width = record["annotations"][0]["segmentation"]["size"]
    record["annotations"][0]["segmentation"]["size"] = [width, height]
    path.write_text(json.dumps(record))
    return f"the RLE has size [{width}, {height}]"


def empty_a_mask(raw: Path) -> str:
    path = raw / "sa_000002.json"
    record = json.loads(path.read_text())
    height, width = record["annotations"][0]["segmentation"]["size"]
    blank = np.zeros((height, width), dtype=np.uint8, order="F")
    record["annotations"][0]["segmentation"]["counts"] = coco_mask.encode(blank)["counts"].decode()
    path.write_text(json.dumps(record))
    return "sa_000002"


def break_the_json(raw: Path) -> str:
    (raw / "sa_000002.json").write_text('{"image": ')
    return f"{raw / 'sa_000002.json'}: not JSON"


def remove_everything(raw: Path) -> str:
    for path in raw.iterdir():
        path.unlink()
    return f"{raw}: no .jpg, .json or .tar below it"


def remove_the_folder(raw: Path) -> str:
    shutil.rmtree(raw)
    return str(raw)


DAMAGES = [truncate, lose_the_image, turn_a_mask, empty_a_mask, break_the_json, remove_everything, remove_the_folder]


@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_raw_data(damage: Callable[[Path], str], raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message, out = damage(raw), raw.with_name("shards")
    said = refused(capsys, "shards", "convert", "sa1b", raw, out)
    assert message in said
    assert not out.exists()


def test_bad_samples_are_left_out_on_request(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truncate(raw)
    out = raw.with_name("shards")
    main(["shards", "convert", "sa1b", str(raw), str(out), "--skip-bad", "1"])
    shown = capsys.readouterr().out
    assert "2 images" in shown
    assert "skipped: " in shown
    assert "sa_000002.jpg" in shown
    assert "skipped" in (out / "shards.json").read_text()


def test_what_is_there_is_not_replaced(raw: Path, toy_shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: (toy_shards / name).stat().st_mtime_ns for name in files(toy_shards)}
    assert str(toy_shards) in refused(capsys, "shards", "convert", "sa1b", raw, toy_shards)
    assert {name: (toy_shards / name).stat().st_mtime_ns for name in files(toy_shards)} == before


def test_a_conversion_goes_on(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, whole = raw.with_name("shards"), raw.with_name("whole")
    options = ["--samples-per-shard", "1", "--workers", "2"]
    main(["shards", "convert", "sa1b", str(raw), str(whole), *options])
    image = raw / "sa_000002.jpg"
    data = image.read_bytes()
    truncate(raw)
    said = refused(capsys, "shards", "convert", "sa1b", raw, out, *options)
    assert f"1 complete shard stays in {out}: go on with --resume" in said
    assert files(out) == {"shard-000000.tar", "shard-000000.index.json", "convert.journal.json"}
    assert "go on with --resume" in refused(capsys, "shards", "convert", "sa1b", raw, out, *options)
    image.write_bytes(data)
    main(["shards", "convert", "sa1b", str(raw), str(out), *options, "--resume"])
    assert "3 images" in capsys.readouterr().out
    assert {name: (out / name).read_bytes() for name in files(out)} == {
        name: (whole / name).read_bytes() for name in files(whole)
    }
    main(["shards", "convert", "sa1b", str(raw), str(out), *options, "--resume"])
    assert "finished already: 3 images" in capsys.readouterr().out


def test_an_interrupt_is_one_line(
    raw: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from datamodules.convert import sa1b

    read = sa1b.read_pair

    def stopping(pair: sa1b.Pair, max_pixels: int) -> object:
        if pair.stem == "sa_000003":
            raise KeyboardInterrupt
        return read(pair, max_pixels)

    monkeypatch.setattr(sa1b, "read_pair", stopping)
    out = raw.with_name("shards")
    with pytest.raises(SystemExit) as end:
        main(["shards", "convert", "sa1b", str(raw), str(out), "--samples-per-shard", "1"])
    assert end.value.code == 130
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said == f"phd: stopped: interrupted; 2 complete shards stay in {out}: go on with --resume"


def test_every_kind_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    from datamodules.convert import KINDS

    for kind in KINDS.values():
        with pytest.raises(SystemExit) as end:
            main(["shards", "convert", kind.name, "--help"])
        assert end.value.code == 0
        shown = capsys.readouterr().out
        assert all(name in shown for name, _ in kind.paths)
        assert all(flag in shown for flag, _ in kind.flags)
        assert all(flag in shown for flag in ("--resume", "--workers", "--skip-bad", "--max-pixels", "--resize"))


def cut_a_tar(shards: Path) -> str:
    tar = shards / "shard-000001.tar"
    tar.write_bytes(tar.read_bytes()[:-4000])
    return "shard-000001"


def flip_a_byte(shards: Path) -> str:
    tar = shards / "shard-000002.tar"
    data = bytearray(tar.read_bytes())
    start = data.index(b"\xff\xd8\xff")  # the first JPEG
    data[start : start + 2] = b"\x00\x00"
    tar.write_bytes(bytes(data))
    return "shard-000002"


def lose_an_index(shards: Path) -> str:
    (shards / "shard-000000.index.json").unlink()
    return "shard-000000"


@pytest.mark.parametrize("damage", [cut_a_tar, flip_a_byte, lose_an_index])
def test_verify_finds_damage(
    damage: Callable[[Path], str], toy_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(toy_shards, copy)
    name = damage(copy)
    with pytest.raises(SystemExit) as end:
        main(["shards", "verify", str(copy)])
    assert end.value.code == 2
    shown = capsys.readouterr()
    assert name in shown.out
    assert f"phd: error: {copy}: " in shown.err
    assert "problems, listed above" in shown.err


def test_verify_needs_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{tmp_path}: has no shards.json" in refused(capsys, "shards", "verify", tmp_path)
    assert "no such folder" in refused(capsys, "shards", "verify", tmp_path / "nowhere")
    assert "--max-pixels is 0; give at least 1" in refused(capsys, "shards", "verify", tmp_path, "--max-pixels", 0)
    assert "https://host/x: every byte is read" in refused(capsys, "shards", "verify", "https://host/x")


def test_info_makes_the_folder_of_its_file(
    toy_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["shards", "info", str(toy_shards), "--json", str(tmp_path / "new" / "info.json")])
    assert json.loads((tmp_path / "new" / "info.json").read_text())["samples"] == 24
