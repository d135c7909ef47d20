"""SA-V train: a frame and its masks belong together, and whatever does not is one line."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from converted import SHARED
from PIL import Image
from pycocotools import mask as coco_mask
from raw_videos import found_square, iou, masklets, picture, square, write_mp4, write_sav

from datamodules import rle
from datamodules.convert import convert
from datamodules.convert.sav import SAV
from datamodules.reader import ShardReader
from phd.cli import run as phd
from phd.errors import UserError


def run(raw: Path, **settings: Any) -> ShardReader:
    out = raw.with_name("shards")
    convert(SAV, SAV.options(raw, out, **settings))
    return ShardReader(out)


def pixels_of(reader: ShardReader, number: int, place: int) -> np.ndarray:
    frame = reader.record(number)["frames"][place]
    return np.asarray(Image.open(io.BytesIO(reader.member(number, f"{frame:06d}.jpg"))))


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "sav_000001_manual.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("times", [None, [n + n // 7 * 3 for n in range(49)]], ids=["constant rate", "variable rate"])
def test_frame_and_mask_belong_together(tmp_path: Path, times: list[int] | None) -> None:
    raw = write_sav(tmp_path / "raw" / "sav_000", times=times).parent
    with av.open(str(raw / "sav_000" / "sav_000001.mp4")) as container:
        types = [av.video.frame.PictureType(frame.pict_type).name for frame in container.decode(video=0)]
    assert types.count("I") >= 4
    assert types.count("B") >= 10
    reader = run(raw)
    record = reader.record(0)
    assert record["frames"] == list(range(0, 49, 4))
    assert record["labelled"] == list(range(13))
    assert reader.extensions_of(0) == [*(f"{number:06d}.jpg" for number in range(0, 49, 4)), "json"]
    for place, number in enumerate(record["frames"]):
        shown, mask = found_square(pixels_of(reader, 0, place)), rle.decode(record["objects"][0]["masks"][place]) > 0
        assert iou(shown, mask) > 0.9
        assert all(iou(shown, square(other) > 0) < 0.7 for other in (number - 1, number + 1))


def test_fields(tmp_path: Path) -> None:
    record = run(write_sav(tmp_path / "raw")).record(0)
    assert record["video"] == {
        "name": "sav_000001",
        "video_id": "sav_000001",
        "height": 96,
        "width": 320,
        "fps": 24.0,
        "frame_count": 49,
        "video_duration": 49 / 24,
        "video_frame_count": 49,
        "video_height": 96,
        "video_width": 320,
        "video_resolution": 96 * 320,
        "video_environment": "Indoor",
        "video_split": "train",
    }
    first, late = record["objects"]
    assert (late["id"], late["masklet_id"], late["masklet_first_appeared_frame"]) == (1, 1, 2)
    assert isinstance(late["masklet_first_appeared_frame"], int)
    assert (first["masklet_type"], first["masklet_stability_score"]) == ("manual", None)
    # An RLE without a pixel says that the object is not there.
    assert late["masks"][:2] == [None, None]
    assert None not in late["masks"][2:]


def test_manual_and_auto(tmp_path: Path) -> None:
    raw = write_sav(tmp_path / "raw")
    (raw / "sav_000001_auto.json").write_text(json.dumps(masklets(49, kind="auto")))
    write_sav(raw, "sav_000002", frames=9)
    both = run(raw, annotations="both")
    assert [(item["id"], item["masklet_id"], item["masklet_type"]) for item in both.record(0)["objects"]] == [
        (0, 0, "manual"),
        (1, 1, "manual"),
        (2, 0, "auto"),
        (3, 1, "auto"),
    ]
    # Its scores are stored frame by frame.
    assert both.record(0)["objects"][2]["masklet_stability_score"] == [0.9 + place / 1000 for place in range(13)]
    assert len(both) == 2
    out = tmp_path / "auto"
    convert(SAV, SAV.options(raw, out, annotations="auto"))
    auto = ShardReader(out)
    assert len(auto) == 1
    assert [item["masklet_type"] for item in auto.record(0)["objects"]] == ["auto"] * 2
    assert auto.manifest["videos_without_auto"] == 1  # published videos without _auto.json are no mistake


@pytest.mark.parametrize(("frames", "stride"), [(49, 4), (48, 4), (46, 4), (45, 4), (20, 1), (30, 5)])
def test_the_stride_follows_from_the_counts(tmp_path: Path, frames: int, stride: int) -> None:
    raw = tmp_path / "raw"
    write_sav(raw, frames=frames)
    (raw / "sav_000001_manual.json").write_text(json.dumps(masklets(frames, stride)))
    assert run(raw).record(0)["frames"] == list(range(0, frames, stride))


def test_a_video_that_is_stored_lying(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    write_mp4(raw / "sav_000001.mp4", (np.rot90(picture(frame)).copy() for frame in range(9)))
    data = bytearray((raw / "sav_000001.mp4").read_bytes())
    matrix = data.find(b"tkhd") + 44
    # ISO 14496-12, 8.3.2: to be shown turned by 90 degrees clockwise.
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    (raw / "sav_000001.mp4").write_bytes(data)
    (raw / "sav_000001_manual.json").write_text(json.dumps(masklets(9)))
    reader = run(raw)
    assert all(iou(found_square(pixels_of(reader, 0, place)), square(4 * place) > 0) > 0.9 for place in range(3))


def damaged(data: bytes) -> bytes:
    middle = data.find(b"mdat") + (data.find(b"moov") - data.find(b"mdat")) // 2
    return data[:middle] + bytes(byte ^ 0x5A for byte in data[middle : middle + 60]) + data[middle + 60 :]


def break_short(raw: Path) -> None:
    write_mp4(raw / "sav_000001.mp4", (picture(frame) for frame in range(45)))


def break_long(raw: Path) -> None:
    write_mp4(raw / "sav_000001.mp4", (picture(frame) for frame in range(60)))


def break_bytes(raw: Path) -> None:
    path = raw / "sav_000001.mp4"
    path.write_bytes(damaged(path.read_bytes()))


def break_half(raw: Path) -> None:
    path = raw / "sav_000001.mp4"
    path.write_bytes(path.read_bytes()[:3000])


def break_size(raw: Path) -> None:
    content = masklets(49)
    content["masklet"][3][1] = rle.encode(np.ones((90, 320)))
    edit(raw, masklet=content["masklet"])


def break_row(raw: Path) -> None:
    content = masklets(49)
    content["masklet"][5].pop()
    edit(raw, masklet=content["masklet"])


def break_ids(raw: Path) -> None:
    edit(raw, masklet_id=[1, 1])


def break_far(raw: Path) -> None:
    content = masklets(49)
    edit(raw, masklet=content["masklet"] + content["masklet"][:1], masklet_frame_count=[14, 14])


def break_cut(raw: Path) -> None:
    edit(raw, masklet=masklets(49)["masklet"][:10])


def break_shape(raw: Path) -> None:
    write_mp4(raw / "sav_000001.mp4", (picture(frame, 96, 256) for frame in range(49)))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (break_short, r"sav_000001\.mp4: ends with frame 44, but sav_000001_manual\.json has masks for frame 48"),
        (break_long, r"sav_000001\.mp4: has 60 frames, but .* only up to frame 48"),
        (break_bytes, r"sav_000001\.mp4: (frame \d+ is damaged|cannot be decoded after frame \d+)"),
        (break_half, r"sav_000001\.mp4: cannot be decoded"),
        (break_size, r"_manual\.json: frame 12: object 1: the RLE has size \[90, 320\]"),
        (break_row, r"_manual\.json: annotated frame 5 has 1 masks for 2 objects"),
        (break_ids, r"_manual\.json: the masklet_ids \[1, 1\] are no whole numbers or not unique"),
        (break_far, r"_manual\.json: has masks for frame 52, but the video has only 49 frames"),
        (break_cut, r"_manual\.json: masklet_frame_count says 13 annotated frames, not 10"),
        (break_shape, r"sav_000001\.mp4: the frames are 96 x 256 pixels .* says 96 x 320"),
        (lambda raw: (raw / "sav_000001_manual.json").unlink(), r"\.mp4: has no sav_000001_manual\.json; add that"),
        (lambda raw: (raw / "sav_000001.mp4").unlink(), r"_manual\.json: has no sav_000001\.mp4; add that"),
        (lambda raw: (raw / "sav_000001_manual.json").write_text("{"), r"_manual\.json: not JSON"),
        (lambda raw: (raw / "sav_000001_manual.json").write_text("[]"), r'has no "masklet" and "masklet_id"'),
    ],
)
def test_what_does_not_belong_together_is_one_line(tmp_path: Path, break_it: Any, message: str) -> None:
    raw = write_sav(tmp_path / "raw")
    break_it(raw)
    with pytest.raises(UserError, match=message) as caught:
        run(raw)
    assert "\n" not in str(caught.value)


def test_larger_than_allowed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sav_000001\.mp4: has more than 20000 pixels"):
        run(write_sav(tmp_path / "raw"), max_pixels=20_000)


def test_skipped_and_counted(tmp_path: Path) -> None:
    raw = write_sav(tmp_path / "raw")
    write_sav(raw, "sav_000002", frames=9)
    (raw / "sav_000003_manual.json").write_text("{}")
    break_size(raw)
    reader = run(raw, skip_bad=2)
    assert [len(reader.record(number)["objects"]) for number in range(len(reader))] == [1, 2]
    assert reader.manifest["skipped"] == 2


def test_the_genuine_json(tmp_path: Path) -> None:
    path = SHARED / "raw" / "sa_v" / "sav_000001_manual.json"
    if not path.exists():
        pytest.skip("no sample of SA-V's format; set PHD_SHARED to the folder that holds data/raw")
    source = json.loads(path.read_text())
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / path.name).write_bytes(path.read_bytes())
    grey = np.full((848, 480, 3), 128, dtype=np.uint8)
    write_mp4(raw / "sav_000001.mp4", (grey for _ in range(483)), keyframes=120)
    record = run(raw).record(0)
    assert record["frames"] == list(range(0, 483, 4))
    assert len(record["objects"]) == source["masklet_num"] == 5
    for index, item in enumerate(record["objects"]):
        areas = [int(coco_mask.area(row[index])) for row in source["masklet"]]
        assert [0 if mask is None else int(coco_mask.area(mask)) for mask in item["masks"]] == areas
        for place in range(0, 121, 20):
            mask = item["masks"][place]
            assert mask is None or np.array_equal(
                coco_mask.decode(mask), coco_mask.decode(source["masklet"][place][index])
            )
        first = next(place for place, area in enumerate(areas) if area)
        assert item["masklet_first_appeared_frame"] == first


def test_all_frames_are_kept(tmp_path: Path) -> None:
    raw = write_sav(tmp_path / "raw")
    (raw / "sav_000001_auto.json").write_text(json.dumps(masklets(49, kind="auto")))
    some = run(raw, annotations="both").record(0)
    out = tmp_path / "all"
    convert(SAV, SAV.options(raw, out, annotations="both", all_frames=True))
    reader = ShardReader(out)
    record = reader.record(0)
    assert record["frames"] == list(range(49))
    assert record["labelled"] == list(range(0, 49, 4))
    for every, annotated in zip(record["objects"], some["objects"], strict=True):
        assert every["masks"][::4] == annotated["masks"]
        assert all(mask is None for place, mask in enumerate(every["masks"]) if place % 4)
    shown = found_square(pixels_of(reader, 0, 10))  # between the annotated frames 8 and 12
    assert iou(shown, square(10) > 0) > 0.9
    phd(["shards", "verify", str(out)])
