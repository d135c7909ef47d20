"""Shards at a smaller size: image, masks, boxes and phrases stay consistent, and nothing vanishes in silence."""

import io
import json

import numpy as np
import pytest
from converted import contents, keys
from PIL import Image
from raw_coco import SQUARE, pixels, write_coco
from raw_samples import annotation, image_bytes, rectangle, write_raw_sa1b

from datamodules import rle
from datamodules.convert import convert_coco, convert_sa1b
from datamodules.convert.kind import Converted
from datamodules.convert.resize import new_size, resized
from datamodules.reader import ShardReader
from datamodules.verify import verify
from phd.errors import UserError

# From 40 x 60 (height x width) to 20 x 30 the pixels at odd rows and columns are read.
SMALL = rectangle(20, 30, 5, 10, 4, 8)
DOT = rectangle(40, 60, 10, 20, 1, 1)  # at even ones


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((1500, 2250), 1024, (683, 1024)),
        ((2250, 1500), 1024, (1024, 683)),
        ((40, 60), 60, (40, 60)),
        ((40, 60), 1024, (40, 60)),  # never larger
        ((2, 4000), 100, (1, 100)),  # never without a pixel
    ],
)
def test_new_size(size, side, expected):
    assert new_size(*size, side) == expected


def sample(*annotations, **more):
    record = {"image": {"file_name": "a.jpg", "height": 40, "width": 60}, "annotations": list(annotations), **more}
    return Converted("a", {"jpg": image_bytes(pixels())}, record)


def test_an_image_and_its_masks():
    point = {"point_coords": [[30.0, 13.0]], "crop_box": [0.0, 0.0, 60.0, 40.0]}
    result = resized(sample(annotation(1, SQUARE, **point), annotation(2, DOT)), "image", 30)
    with Image.open(io.BytesIO(result.members["jpg"])) as image:
        assert (image.format, image.size) == ("JPEG", (30, 20))
        expected = Image.fromarray(pixels()).resize((30, 20), Image.Resampling.BOX)
        assert np.abs(np.asarray(image).astype(int) - np.asarray(expected)).mean() < 6
    assert result.record["image"] == {
        "file_name": "a.jpg",
        "height": 20,
        "width": 30,
        "original_height": 40,
        "original_width": 60,
    }
    [kept] = result.record["annotations"]
    assert (rle.decode(kept["segmentation"]) == SMALL).all()
    assert (kept["bbox"], kept["area"], kept["id"]) == ([10, 5, 8, 4], 32, 1)
    assert kept["point_coords"] == [[15.0, 6.5]]
    assert kept["crop_box"] == [0.0, 0.0, 30.0, 20.0]
    assert (result.vanished, result.reencoded) == (1, True)


def test_an_image_that_is_small_enough_is_not_touched():
    given = sample(annotation(1, SQUARE))
    assert resized(given, "image", 60) is given


def answer(*instances, exhaustive=True):
    return {"instances": list(instances), "exhaustive": exhaustive}


def test_a_phrase_never_becomes_a_negative():
    phrases = [
        {"text": "square", "id": 1, "answers": [answer(1)]},
        {"text": "dot", "id": 2, "answers": [answer(2)]},  # nothing left of it
        {"text": "shape", "id": 3, "answers": [answer(1, 2)]},  # no longer all of them
        {"text": "lion", "id": 4, "answers": [answer()]},
    ]
    given = sample(annotation(1, SQUARE), annotation(2, DOT), phrases=phrases)
    result = resized(given, "concept", 30)
    assert result.record["phrases"] == [
        phrases[0],
        {"text": "shape", "id": 3, "answers": [answer(1, exhaustive=False)]},
        phrases[3],
    ]
    assert result.vanished == 1
    assert given.record["phrases"] == phrases  # the source of it is not changed


def test_a_video():
    square, dot = rle.encode(SQUARE), rle.encode(DOT)
    record = {
        "video": {"name": "v", "width": 60, "height": 40, "fps": 6.0},
        "frames": [0, 4],
        "labelled": [0, 1],
        "objects": [
            {"id": 1, "masks": [square, None], "bboxes": [[20, 10, 16, 8], None], "areas": [128, None]},
            {"id": 2, "masks": [dot, square]},
            {"id": 3, "masks": [None, dot]},
        ],
        "void": [dot, square],
        "phrases": [{"text": "x", "id": 7, "objects": [1, 3]}, {"text": "y", "id": 8, "objects": [3]}],
    }
    members = {f"{number:06d}.jpg": image_bytes(pixels(number)) for number in (0, 4)}
    result = resized(Converted("v", members, record), "video", 30)
    assert list(result.members) == ["000000.jpg", "000004.jpg"]
    assert {Image.open(io.BytesIO(data)).size for data in result.members.values()} == {(30, 20)}
    small = rle.encode(SMALL)
    assert result.record["objects"] == [
        {"id": 1, "masks": [small, None], "bboxes": [[10, 5, 8, 4], None], "areas": [32, None]},
        {"id": 2, "masks": [None, small]},
    ]
    assert result.record["void"] == [None, small]
    assert result.record["phrases"] == [{"text": "x", "id": 7, "objects": [1]}]
    assert (result.record["video"]["height"], result.record["video"]["width"]) == (20, 30)
    assert result.vanished == 2  # the void is no object
    # Masks alone, as for evaluation without the frames.
    assert resized(Converted("v", {}, record), "video", 30).record == result.record


def test_a_frame_of_another_size_is_named():
    record = {"video": {"height": 40, "width": 60}, "frames": [0], "labelled": [], "objects": []}
    given = Converted("v", {"000000.jpg": image_bytes(pixels(height=41))}, record)
    with pytest.raises(UserError, match=r"v\.000000\.jpg: is 41 x 60 pixels .* says 40 x 60"):
        resized(given, "video", 30)


def test_whole_folders(tmp_path):
    raw = write_raw_sa1b(tmp_path / "raw", 5)
    summary = convert_sa1b(raw, tmp_path / "small", resize=30, samples_per_shard=2)
    assert (summary.samples, summary.reencoded) == (5, 5)
    assert verify(tmp_path / "small").ok
    assert ShardReader(tmp_path / "small").read(0).record["image"]["height"] == 20
    assert json.loads((tmp_path / "small" / "shards.json").read_text())["settings"]["resize"] == 30
    convert_sa1b(raw, tmp_path / "again", resize=30, samples_per_shard=2, workers=3)
    assert contents(tmp_path / "again") == contents(tmp_path / "small")


def test_what_vanishes_is_counted(tmp_path):
    items = [{"id": 1, "image_id": 100, "segmentation": rle.encode(DOT)}]
    write_coco(tmp_path, {"a.jpg": image_bytes(pixels())}, items)
    summary = convert_coco(tmp_path, tmp_path / "coco.json", tmp_path / "out", resize=30)
    assert (summary.masks, summary.vanished) == (0, 1)
    assert "1 masks too small for the new size left out" in str(summary)
    assert json.loads((tmp_path / "out" / "shards.json").read_text())["vanished"] == 1
    assert keys(tmp_path / "out") == ["a"]
