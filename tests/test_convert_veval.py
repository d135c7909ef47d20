"""SA-Co/VEval: every phrase about a video, positive and negative, with its masklets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from converted import SHARED
from pycocotools import mask as coco_mask
from raw_samples import image_bytes
from raw_videos import HEIGHT, WIDTH, picture, square

from datamodules import rle
from datamodules.convert import convert
from datamodules.convert.veval import SACO_VEVAL
from datamodules.reader import ShardReader
from phd.errors import UserError

NUMBERS = [0, 4, 8]


def masklet(number: int, category: int, masks: list[Any], video: int = 7) -> dict[str, Any]:
    return {
        "id": number,
        "video_id": video,
        "category_id": category,
        "noun_phrase": {1: "a green square", 2: "a red ring"}[category],
        "segmentations": masks,
        "bboxes": [mask and rle.bounding_box(mask) for mask in masks],
        "areas": [mask and int(rle.decode(mask).sum()) for mask in masks],
        "iscrowd": 0,
        "height": HEIGHT,
        "width": WIDTH,
    }


def pair(number: int, category: int, count: int, video: int = 7) -> dict[str, Any]:
    phrase = {1: "a green square", 2: "a red ring"}[category]
    return {"id": number, "video_id": video, "category_id": category, "noun_phrase": phrase, "num_masklets": count}


def content() -> dict[str, Any]:
    """Two videos: one with a masklet that is absent once, and a negative phrase; one with a negative only."""
    video = {"file_names": [f"sav_1/{n:05d}.jpg" for n in NUMBERS], "height": HEIGHT, "width": WIDTH, "length": 3}
    other = {**video, "file_names": [f"sav_2/{n:05d}.jpg" for n in NUMBERS]}
    masks = [rle.encode(square(0)), None, rle.encode(square(8))]
    return {
        "info": {"version": "v1"},
        "videos": [{"id": 7, "video_name": "sav_1", **video}, {"id": 9, "video_name": "sav_2", **other}],
        "annotations": [masklet(31, 1, masks)],
        "categories": [{"id": 1, "name": "a green square"}, {"id": 2, "name": "a red ring"}],
        "video_np_pairs": [pair(50, 1, 1), pair(51, 2, 0), pair(52, 2, 0, video=9)],
    }


def run(tmp_path: Path, data: Any, **settings: Any) -> ShardReader:
    path, out = tmp_path / "veval.json", tmp_path / "shards"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    convert(SACO_VEVAL, SACO_VEVAL.options(path, out, **settings))
    return ShardReader(out)


def write_pictures(folder: Path) -> Path:
    for name in ("sav_1", "sav_2"):
        (folder / name).mkdir(parents=True)
        for number in NUMBERS:
            (folder / name / f"{number:05d}.jpg").write_bytes(image_bytes(picture(number)))
    return folder


def test_phrases_and_masklets(tmp_path: Path) -> None:
    reader = run(tmp_path, content())
    assert reader.manifest["images"] is False
    assert reader.extensions_of(0) == ["json"]
    first, second = reader.record(0), reader.record(1)
    assert first["frames"] == NUMBERS
    assert first["labelled"] == [0, 1, 2]
    assert first["video"]["video_id"] == 7
    assert first["phrases"] == [
        {"id": 50, "text": "a green square", "category_id": 1, "num_masklets": 1, "objects": [31]},
        {"id": 51, "text": "a red ring", "category_id": 2, "num_masklets": 0, "objects": []},
    ]
    assert [(item["id"], item["phrase"], item["iscrowd"]) for item in first["objects"]] == [(31, "a green square", 0)]
    masks = first["objects"][0]["masks"]
    assert masks[1] is None
    assert np.array_equal(rle.decode(masks[2]), square(8))
    assert second["objects"] == []
    assert [phrase["objects"] for phrase in second["phrases"]] == [[]]


def test_with_frames(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "frames")
    reader = run(tmp_path, content(), frames=str(folder))
    assert reader.manifest["images"] is True
    assert reader.extensions_of(1) == ["000000.jpg", "000004.jpg", "000008.jpg", "json"]
    assert reader.member(1, "000008.jpg") == (folder / "sav_2" / "00008.jpg").read_bytes()


def test_names_that_are_no_numbers(tmp_path: Path) -> None:
    data = content()
    data["videos"][1]["file_names"] = ["a.jpg", "b.jpg", "c.jpg"]
    assert run(tmp_path, data).record(1)["frames"] == [0, 1, 2]


def change(path: list[Any], value: Any) -> Any:
    """Content with one entry replaced."""
    data: Any = content()
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", r"veval\.json: not JSON"),
        ([], r"veval\.json: not in the format of SA-Co/VEval"),
        ({**content(), "video_np_pairs": None}, r"veval\.json: not in the format"),
        ({**content(), "videos": []}, r"veval\.json: lists no video"),
        (change(["annotations", 0, "video_id"], 8), r"annotations: 31 is of video 8, which is not listed"),
        (change(["video_np_pairs", 0, "video_id"], 8), r"video_np_pairs: 50 is of video 8, which is not listed"),
        (change(["videos", 1, "id"], 7), r"veval\.json: two videos have the same id"),
        (change(["videos", 0, "length"], 4), r"sav_1: has not as many file_names as its length says"),
        (change(["videos", 0, "height"], None), r"sav_1: has no height and width"),
        (change(["video_np_pairs", 0, "num_masklets"], 2), r"sav_1: .*'a green square' says 2 masklets but has 1"),
        (change(["annotations", 0, "segmentations"], [None]), r"sav_1: annotation 31: has 1 masks but the video has 3"),
        (change(["annotations", 0, "segmentations"], [None] * 3), r"annotation 31: has no pixel in any frame"),
        (
            change(["annotations", 0, "segmentations", 2], rle.encode(np.ones((5, 5)))),
            r"sav_1: annotation 31: frame 8: the RLE has size \[5, 5\]",
        ),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path, data)
    assert "\n" not in str(caught.value)


def test_bad_frames_are_one_line(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "frames")
    (folder / "sav_2" / "00004.jpg").unlink()
    with pytest.raises(UserError, match=r"sav_2/00004\.jpg: cannot be read"):
        run(tmp_path, content(), frames=str(folder))
    (folder / "sav_1" / "00004.jpg").write_bytes(image_bytes(picture(4, 96, 200)))
    with pytest.raises(UserError, match=r"sav_1/00004\.jpg: is 96 x 200"):
        run(tmp_path, content(), frames=str(folder))
    with pytest.raises(UserError, match=r"'\.\./x\.jpg' leads out of the folder"):
        run(tmp_path, change(["videos", 0, "file_names", 0], "../x.jpg"), frames=str(folder))
    with pytest.raises(UserError, match=r"nowhere: no such folder"):
        run(tmp_path, content(), frames=str(tmp_path / "nowhere"))


def test_a_phrase_whose_masklets_are_left_out_is_no_negative(tmp_path: Path) -> None:
    data = change(["annotations", 0, "segmentations", 2], rle.encode(np.ones((5, 5))))
    record = run(tmp_path, data, skip_bad=1).record(0)
    assert record["objects"] == []
    assert [phrase["text"] for phrase in record["phrases"]] == ["a red ring"]


def test_the_genuine_file(tmp_path: Path) -> None:
    path = SHARED.parent / "oracles" / "veval_toy" / "toy_saco_veval_sav_test_gt.json"
    if not path.exists():
        pytest.skip("no VEval file; set PHD_SHARED to the folder that holds oracles/veval_toy")
    source = json.loads(path.read_text())
    out = tmp_path / "shards"
    summary = convert(SACO_VEVAL, SACO_VEVAL.options(path, out))
    reader = ShardReader(out)
    assert len(reader) == 1
    record = reader.record(0)
    assert record["frames"] == list(range(0, 4 * 146, 4))
    assert len(record["objects"]) == len(source["annotations"]) == 33
    for item, annotation in zip(record["objects"], source["annotations"], strict=True):
        areas = [int(coco_mask.area(mask)) if mask else 0 for mask in item["masks"]]
        assert areas == [area or 0 for area in annotation["areas"]]
        for place in range(0, 146, 40):
            mask, source_mask = item["masks"][place], annotation["segmentations"][place]
            assert mask is None or np.array_equal(coco_mask.decode(mask), coco_mask.decode(source_mask))
    assert summary.masks == sum(bool(area) for item in source["annotations"] for area in item["areas"])
    assert [len(phrase["objects"]) for phrase in record["phrases"]] == [
        item["num_masklets"] for item in source["video_np_pairs"]
    ]
    assert sum(not phrase["objects"] for phrase in record["phrases"]) == 1
