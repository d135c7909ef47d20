"""SA-Co/Gold and Silver to concept records."""

import json

import numpy as np
import pytest
from converted import concepts
from raw_samples import image_bytes, rectangle

from datamodules import rle
from datamodules.concept_record import is_negative
from datamodules.convert import KINDS
from datamodules.reader import ShardReader
from phd.errors import UserError

HEIGHT, WIDTH = 40, 60
DOG = rectangle(HEIGHT, WIDTH, 10, 20, 8, 16)  # rows 10 to 17, columns 20 to 35
CAT = rectangle(HEIGHT, WIDTH, 0, 0, 4, 6)
JPG = image_bytes(np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8))


def pair(number, text, file_name="1/1001/a.jpeg", **more):
    return {
        "id": number,
        "file_name": file_name,
        "text_input": text,
        "width": WIDTH,
        "height": HEIGHT,
        "queried_category": "0",
        "is_instance_exhaustive": 1,
        "is_pixel_exhaustive": 1,
        **more,
    }


def mask(number, pair_id, pixels, **more):
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    box = [columns[0] / WIDTH, rows[0] / HEIGHT, len(columns) / WIDTH, len(rows) / HEIGHT]
    return {
        "id": number,
        "image_id": pair_id,
        "source": "manual",
        "area": pixels.mean(),
        "bbox": box,
        "segmentation": rle.encode(pixels),
        "category_id": 1,
        "iscrowd": 0,
        **more,
    }


def write(folder, name, images, annotations):
    folder.mkdir(exist_ok=True)
    content = {"info": {}, "images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
    (folder / name).write_text(json.dumps(content))


PAIRS = [pair(10, "a dog"), pair(11, "cat"), pair(12, "bus"), pair(13, "hat", "1/1002/a.jpeg")]
BY_ANNOTATOR = {
    "a": [mask(1, 10, DOG), mask(2, 13, CAT)],
    "b": [mask(1, 10, DOG), mask(2, 10, CAT), mask(3, 11, CAT)],
    "c": [],
}


def raw_gold(folder, subset="metaclip", pairs=None, annotations=BY_ANNOTATOR, images=True):
    for letter in "abc":
        entries = (pairs or {}).get(letter, PAIRS)
        write(folder, f"gold_{subset}_merged_{letter}_release_test.json", entries, annotations[letter])
    if images:
        for name in ("1/1001/a.jpeg", "1/1002/a.jpeg"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(JPG)
    return folder


def run(raw, out, kind="saco-gold", **settings):
    return concepts(KINDS[kind], raw, out, **settings)


def test_three_annotators_in_one_sample(tmp_path):
    summary, records = run(raw_gold(tmp_path / "raw"), tmp_path / "out")
    # Of the four phrases "bus" has no instance from anyone.
    assert (summary.samples, summary.phrases, summary.negatives, summary.masks) == (2, 4, 1, 5)
    assert list(records) == ["metaclip_1_1001_a", "metaclip_1_1002_a"]
    record = records["metaclip_1_1001_a"]
    assert record["image"] == {"file_name": "1/1001/a.jpeg", "width": 60, "height": 40, "subset": "metaclip"}
    found = [(a["id"], a["source_id"], a.get("annotator", 0), a["area"]) for a in record["annotations"]]
    assert found == [(1, 1, 0, 128), (2, 1, 1, 128), (3, 2, 1, 24), (4, 3, 1, 24)]
    dog, cat, bus = record["phrases"]
    assert [answer["instances"] for answer in dog["answers"]] == [[1], [2, 3], []]
    # One annotator found a cat, two did not.
    assert [answer["instances"] for answer in cat["answers"]] == [[], [4], []]
    assert not is_negative(cat)
    assert is_negative(bus)
    assert {name: bus[name] for name in ("text", "id", "queried_category", "is_pixel_exhaustive")} == {
        "text": "bus",
        "id": 12,
        "queried_category": "0",
        "is_pixel_exhaustive": 1,
    }
    assert bus["answers"] == 3 * [{"instances": [], "exhaustive": True}]


def test_boxes_and_areas_become_pixels_of_the_mask(tmp_path):
    annotations = {**BY_ANNOTATOR, "a": [mask(7, 10, DOG, bbox=[0.1, 0.2, 0.3, 0.4], area=0.9)]}
    _, records = run(raw_gold(tmp_path / "raw", annotations=annotations), tmp_path / "out")
    item = records["metaclip_1_1001_a"]["annotations"][0]
    assert (item["bbox"], item["area"]) == ([20, 10, 16, 8], 128)
    assert (item["id"], item["source"], item["category_id"]) == (7, "manual", 1)  # ids 7, 1, 2, 3 need no new ones
    assert "source_id" not in item


def test_each_annotator_says_whether_it_is_exhaustive(tmp_path):
    other = [{**PAIRS[0], "is_instance_exhaustive": 0, "is_pixel_exhaustive": 0}, *PAIRS[1:]]
    _, records = run(raw_gold(tmp_path / "raw", pairs={"b": other}), tmp_path / "out")
    phrase = records["metaclip_1_1001_a"]["phrases"][0]
    assert [answer["exhaustive"] for answer in phrase["answers"]] == [True, False, True]
    assert [answer["is_pixel_exhaustive"] for answer in phrase["answers"]] == [1, 0, 1]
    assert "is_pixel_exhaustive" not in phrase


def test_a_crowd_alone_is_no_negative(tmp_path):
    annotations = {letter: [mask(1, 12, DOG, iscrowd=1)] for letter in "abc"}
    summary, records = run(raw_gold(tmp_path / "raw", annotations=annotations), tmp_path / "out")
    assert (summary.crowds, summary.masks) == (3, 0)
    assert [is_negative(phrase) for phrase in records["metaclip_1_1001_a"]["phrases"]] == [True, True, False]


def test_subsets(tmp_path):
    raw = raw_gold(tmp_path / "raw")
    raw_gold(raw, "wiki_common")
    _, records = run(raw, tmp_path / "all")
    assert list(records) == [
        "metaclip_1_1001_a",
        "metaclip_1_1002_a",
        "wiki_common_1_1001_a",
        "wiki_common_1_1002_a",
    ]
    for name in ("wiki_common", "gold_wiki_common"):
        assert len(run(raw, tmp_path / name, subset=name)[1]) == 2
    assert ShardReader(tmp_path / "wiki_common").manifest["subsets"] == ["wiki_common"]
    with pytest.raises(UserError, match="raw: no subset 'food'; --subset knows metaclip, wiki_common"):
        run(raw, tmp_path / "none", subset="food")


@pytest.mark.parametrize("where", ["raw/images", "elsewhere"])
def test_images_in_another_folder(tmp_path, where):
    raw = raw_gold(tmp_path / "raw", images=False)
    for name in ("1001", "1002"):
        (tmp_path / where / "1" / name).mkdir(parents=True)
        (tmp_path / where / "1" / name / "a.jpeg").write_bytes(JPG)
    settings = {"images": tmp_path / where} if where == "elsewhere" else {}
    assert run(raw, tmp_path / "out", **settings)[0].samples == 2


def test_silver(tmp_path):
    frame = "AUTOLab_2023-07-07_Fri_18:50:36_2023_recordings_MP4_22/00002.jpg"
    pairs = [pair(10000000, "the large table", frame, queried_category="3"), pair(10000001, "lamp", frame)]
    write(tmp_path / "raw", "silver_droid_merged_test.json", pairs, [mask(1, 10000000, DOG, source="created by SAM3")])
    (tmp_path / "raw" / frame).parent.mkdir()
    (tmp_path / "raw" / frame).write_bytes(JPG)
    for number, raw in enumerate((tmp_path / "raw", tmp_path / "raw" / "silver_droid_merged_test.json")):
        _, records = run(raw, tmp_path / f"out{number}", "saco-silver")
        (record,) = records.values()
        assert list(records) == ["droid_00002"]
        assert [phrase["answers"] for phrase in record["phrases"]] == [
            [{"instances": [1], "exhaustive": True}],
            [{"instances": [], "exhaustive": True}],
        ]
        assert record["phrases"][0]["queried_category"] == "3"
        assert record["annotations"][0]["source"] == "created by SAM3"


def test_a_pair_with_a_bad_mask_is_left_out_whole(tmp_path):
    # Without the mask, annotator b would call "cat" a negative.
    annotations = {**BY_ANNOTATOR, "b": [mask(3, 11, CAT, segmentation=rle.encode(CAT.T))]}
    raw = raw_gold(tmp_path / "raw", annotations=annotations)
    problem = r"merged_b_release_test\.json: pair 11 'cat': annotation 3: the RLE has size \[60, 40\]"
    with pytest.raises(UserError, match=problem):
        run(raw, tmp_path / "out")
    summary, records = run(raw, tmp_path / "again", skip_bad=1)
    assert [phrase["text"] for phrase in records["metaclip_1_1001_a"]["phrases"]] == ["a dog", "bus"]
    assert len(summary.skipped) == 1


def without(pairs, number):
    return [entry for entry in pairs if entry["id"] != number]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"b": without(PAIRS, 12)}, r"merged_b_\S+: has no pair 12, which gold_metaclip_merged_a_\S+ has"),
        ({"a": without(PAIRS, 12)}, r"merged_a_\S+: has no pair 12, which gold_metaclip_merged_b_\S+ has"),
        ({"c": [*without(PAIRS, 12), pair(12, "a bus")]}, r"merged_c_\S+: pair 12 has text_input 'a bus' but .* 'bus'"),
        ({"a": [*PAIRS, pair(10, "x")]}, r"merged_a_\S+: two pairs have the id 10"),
        ({"a": [*without(PAIRS, 12), pair(12, " ")]}, r"merged_a_\S+: pair 12 has no text_input"),
        ({"b": without(PAIRS, 10)}, r"merged_b_\S+: annotation 1 belongs to pair 10, which is not listed"),
        ({"a": [{"id": 1}]}, r"merged_a_\S+: not in SA-Co's format \(KeyError\('text_input'\)"),
        ({"a": [pair(10, "x", is_instance_exhaustive=None)]}, r"pair 10: is_instance_exhaustive is not 0 or 1"),
        (
            {letter: [pair(10, "dog", width=61), *PAIRS[1:]] for letter in "abc"},
            r"a\.jpeg: the image is 40 x 60 pixels",
        ),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        run(raw_gold(tmp_path / "raw", pairs=changes), tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path):
    raw = raw_gold(tmp_path / "raw")
    (raw / "1/1002/a.jpeg").unlink()
    with pytest.raises(UserError, match=r"raw/1/1002/a\.jpeg: the image is missing, nor in \S+/raw/images; download"):
        run(raw, tmp_path / "out")
    assert run(raw, tmp_path / "skipped", skip_bad=1)[0].samples == 1
    (raw / "gold_metaclip_merged_c_release_test.json").unlink()
    with pytest.raises(UserError, match=r"raw/gold_metaclip_merged_c_release_test\.json: missing beside"):
        run(raw, tmp_path / "two")
    with pytest.raises(UserError, match=r"1: no \*_merged_a_release_test\.json in it"):
        run(raw / "1", tmp_path / "empty")
    with pytest.raises(UserError, match=r"raw: no \*_merged_test\.json in it"):
        run(raw, tmp_path / "silver", "saco-silver")
