"""LVIS to concept records."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from converted import concepts
from raw_samples import image_bytes

from datamodules.concept_record import is_negative
from datamodules.convert import KINDS
from phd.errors import UserError

SHARED = Path(os.environ.get("PHD_SHARED", Path(__file__).parents[2] / "shared")) / "data"
SLICE = SHARED / "raw" / "lvis" / "lvis_val_100.json"
LVIS = KINDS["lvis"]
JPG = image_bytes(np.full((40, 60, 3), 90, dtype=np.uint8))
CATEGORIES = [
    {"id": 1, "name": "bow_(weapon)", "synonyms": ["bow_(weapon)"]},
    {"id": 2, "name": "bow_(decorative_ribbons)", "synonyms": ["bow_(decorative_ribbons)", "ribbon"]},
    {"id": 3, "name": "cab_(taxi)", "synonyms": ["cab_(taxi)", "taxi", "taxicab"]},
    {"id": 4, "name": "cookie", "synonyms": ["cookie", "cooky", "biscuit"]},
    {"id": 5, "name": "biscuit_(bread)", "synonyms": ["biscuit_(bread)"]},
]


def square(number, image, category, **more):
    """A square of 10 x 10 pixels at (x, y) = (5, 8)."""
    polygon = [5, 8, 15, 8, 15, 18, 5, 18]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": [polygon],
        "area": 100.0,
        "bbox": [5.0, 8.0, 10.0, 10.0],
        **more,
    }


def image_v1(number, split, negative=(), not_exhaustive=(), **more):
    return {
        "id": number,
        "coco_url": f"http://images.cocodataset.org/{split}/{number:012d}.jpg",
        "height": 40,
        "width": 60,
        "neg_category_ids": list(negative),
        "not_exhaustive_category_ids": list(not_exhaustive),
        **more,
    }


IMAGES = [image_v1(7, "train2017", [1, 4], [2, 5]), image_v1(8, "val2017")]
ANNOTATIONS = [square(1, 7, 2), square(2, 7, 3), square(3, 7, 2)]


def write(folder, images=IMAGES, annotations=ANNOTATIONS, categories=CATEGORIES):
    folder.mkdir(exist_ok=True)
    content = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
    (folder / "lvis.json").write_text(json.dumps(content))
    for image in images:
        name = folder / "/".join(image["coco_url"].split("/")[-2:])
        name.parent.mkdir(exist_ok=True)
        name.write_bytes(JPG)
    return folder


def run(folder, out, annotations=None, **settings):
    return concepts(LVIS, folder, annotations or folder / "lvis.json", out, **settings)


def test_phrases_of_v1(tmp_path):
    summary, records = run(write(tmp_path / "raw"), tmp_path / "out")
    assert (summary.samples, summary.phrases, summary.negatives, summary.masks) == (2, 4, 2, 3)
    record = records["000000000007"]
    assert record["image"]["file_name"] == "train2017/000000000007.jpg"
    assert record["image"]["coco_url"] == IMAGES[0]["coco_url"]
    ribbons = "bow_(decorative_ribbons)"
    assert [item["category"] for item in record["annotations"]] == [ribbons, "cab_(taxi)", ribbons]
    # Category 5 is not annotated in full, but has no instance: nothing is known of it.
    assert record["phrases"] == [
        {
            "text": "bow, decorative ribbons",
            "id": 2,
            "synonyms": ["ribbon"],
            "answers": [{"instances": [1, 3], "exhaustive": False}],
        },
        {"text": "cab", "id": 3, "synonyms": ["taxi", "taxicab"], "answers": [{"instances": [2], "exhaustive": True}]},
        {
            "text": "bow, weapon",
            "id": 1,
            "origin": "neg_category_ids",
            "answers": [{"instances": [], "exhaustive": True}],
        },
        {
            "text": "cookie",
            "id": 4,
            "origin": "neg_category_ids",
            "synonyms": ["cooky"],
            "answers": [{"instances": [], "exhaustive": True}],
        },
    ]
    assert records["000000000008"]["phrases"] == []


def test_v05_photos_by_any_of_their_names(tmp_path):
    images = [{**IMAGES[0], "file_name": "COCO_val2014_000000000007.jpg"}]
    raw = write(tmp_path / "raw", images)  # writes train2017/000000000007.jpg
    photo = raw / "train2017" / "000000000007.jpg"
    for number, name in enumerate((None, "000000000007.jpg", "COCO_val2014_000000000007.jpg", "x/my_000000000007.jpg")):
        if name:
            (raw / name).parent.mkdir(exist_ok=True)
            photo = photo.rename(raw / name)
        _, records = run(raw, tmp_path / f"out{number}")
        assert list(records) == ["COCO_val2014_000000000007"]
        assert records["COCO_val2014_000000000007"]["image"]["file_name"] == images[0]["file_name"]


def test_a_missing_photo_is_named(tmp_path):
    raw = write(tmp_path / "raw")
    (raw / "val2017" / "000000000008.jpg").unlink()
    with pytest.raises(UserError, match=r"val2017/000000000008\.jpg: the photo of LVIS image 8 is missing") as caught:
        run(raw, tmp_path / "out")
    assert "\n" not in str(caught.value)
    summary, records = run(raw, tmp_path / "again", skip_bad=1)
    assert list(records) == ["000000000007"]
    assert [item["key"] for item in summary.skipped] == ["000000000008"]


def test_a_bad_mask_makes_no_negative(tmp_path):
    bad = [[5, 8, 5, 8]]
    annotations = [square(1, 7, 2), square(2, 7, 2, segmentation=bad), square(3, 7, 3, segmentation=bad)]
    raw = write(tmp_path / "raw", [image_v1(7, "val2017")], annotations)
    summary, records = run(raw, tmp_path / "out", skip_bad=2)
    (phrase,) = records["000000000007"]["phrases"]  # none of category 3, whose only mask is bad
    assert (phrase["id"], phrase["answers"]) == (2, [{"instances": [1], "exhaustive": False}])
    assert summary.negatives == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [image_v1(7, "v", [2])]}, "category 2 is in neg_category_ids of image 7 but is annotated there"),
        ({"images": [image_v1(7, "v", [9])]}, "neg_category_ids of image 7 names category 9, which is not listed"),
        ({"images": [image_v1(7, "v", neg_category_ids=3)]}, "neg_category_ids of image 7 is no list"),
        ({"images": [image_v1(6, "v")]}, "annotation 1 belongs to image 7, which is not listed"),
        ({"images": IMAGES[:1] * 2}, "the id of image 7 is there twice"),
        ({"images": []}, "lists no images"),
        ({"annotations": [square(1, 7, 99)]}, "annotation 1 has category 99, which is not listed"),
        ({"annotations": [{"id": 1, "image_id": 7}]}, "annotation 1 has no category_id; add it"),
        ({"categories": [*CATEGORIES, {"id": 6}]}, "category 6 has no name; name it"),
        ({"categories": [*CATEGORIES, {"id": 6, "name": "Cookie"}]}, "categories 4 and 6 are both called 'Cookie'"),
        ({"categories": [*CATEGORIES, {"id": 6, "name": "_"}]}, "category 6 has the name '_', which is no text"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, message):
    with pytest.raises(UserError, match=rf"lvis\.json: {message}") as caught:
        run(write(tmp_path / "raw", **changes), tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_coco_is_no_lvis(tmp_path):
    image = {name: value for name, value in IMAGES[0].items() if name != "neg_category_ids"}
    with pytest.raises(UserError, match="image 7 has no neg_category_ids, so this is no LVIS file; use the kind coco"):
        run(write(tmp_path / "raw", [image]), tmp_path / "out")
    image = {name: value for name, value in IMAGES[0].items() if name != "coco_url"}
    raw = write(tmp_path / "raw")
    (raw / "lvis.json").write_text(json.dumps({"images": [image], "annotations": [], "categories": CATEGORIES}))
    with pytest.raises(UserError, match="image 7 has neither file_name nor coco_url"):
        run(raw, tmp_path / "out")


def need_slice():
    if not SLICE.is_file():
        pytest.skip("no genuine LVIS; set PHD_SHARED to the folder that holds data/raw/lvis")
    return json.loads(SLICE.read_text())


def test_negatives_are_those_of_the_list_and_no_others(tmp_path):
    content = need_slice()
    for image in content["images"]:
        pixels = np.zeros((image["height"], image["width"], 3), dtype=np.uint8)
        (tmp_path / f"{image['id']:012d}.jpg").write_bytes(image_bytes(pixels))
    summary, records = run(tmp_path, tmp_path / "out", SLICE)
    assert (summary.samples, summary.masks, summary.negatives) == (100, 977, 942)
    names = {category["id"]: category["name"] for category in content["categories"]}
    for image, record in zip(content["images"], records.values(), strict=True):
        phrases = record["phrases"]
        absent = [phrase["id"] for phrase in phrases if is_negative(phrase)]
        shown = {item["category_id"] for item in content["annotations"] if item["image_id"] == image["id"]}
        assert absent == image["neg_category_ids"]
        assert {phrase["id"] for phrase in phrases} - set(absent) == shown
        partly = {phrase["id"] for phrase in phrases if not phrase["answers"][0]["exhaustive"]}
        assert partly == shown & set(image["not_exhaustive_category_ids"])
        assert sum(len(phrase["answers"][0]["instances"]) for phrase in phrases) == len(record["annotations"])
        for phrase in phrases:
            assert not set("_()") & set(phrase["text"])
            assert phrase["text"].split(",")[0] == names[phrase["id"]].split("(")[0].replace("_", " ").strip()


def test_the_one_photo_of_the_slice_that_is_here(tmp_path):
    need_slice()
    summary, records = run(SHARED / "images", tmp_path / "out", SLICE, skip_bad=99)
    assert list(records) == ["COCO_val2014_000000196141"]
    texts = [phrase["text"] for phrase in records["COCO_val2014_000000196141"]["phrases"] if is_negative(phrase)]
    assert texts == ["keg", "fig", "egg roll", "chest of drawers", "lollipop", "owl", "painting", "ham"]
    assert len(summary.skipped) == 99
