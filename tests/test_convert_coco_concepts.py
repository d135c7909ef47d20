"""COCO to concept records."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from converted import concepts
from raw_samples import image_bytes

from datamodules.concept_record import is_negative
from datamodules.convert import KINDS
from phd.cli import main
from phd.errors import UserError

SHARED = Path(os.environ.get("PHD_SHARED", Path(__file__).parents[2] / "shared")) / "data"
KIND = KINDS["coco-concepts"]
JPG = image_bytes(np.full((40, 60, 3), 90, dtype=np.uint8))
# Categories 1 to 5 are animals, 6 to 10 food, 11 has no supercategory.
CATEGORIES = [
    {"id": number, "name": f"thing_{number}", **({"supercategory": "animal" if number < 6 else "food"})}
    for number in range(1, 11)
] + [{"id": 11, "name": "stop_sign"}]
SQUARE = [[5, 8, 15, 8, 15, 18, 5, 18]]


def square(number, image, category, **more):
    return {"id": number, "image_id": image, "category_id": category, "segmentation": SQUARE, "iscrowd": 0, **more}


def write(folder, images, annotations, categories=CATEGORIES):
    """`images` maps file names to further keys of the image; ids count from 1."""
    folder.mkdir(exist_ok=True)
    listed = [
        {"id": number, "file_name": name, "height": 40, "width": 60, **more}
        for number, (name, more) in enumerate(images.items(), 1)
    ]
    for name in images:
        (folder / name).write_bytes(JPG)
    content = {"images": listed, "annotations": annotations, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(content))
    return folder


def run(raw, out, annotations=None, **settings):
    return concepts(KIND, raw, annotations or raw / "coco.json", out, **settings)


def absent(record):
    return [phrase for phrase in record["phrases"] if is_negative(phrase)]


def test_positives_and_crowds(tmp_path):
    counts = {"size": [40, 60], "counts": [0, 100, 2300]}
    annotations = [
        square(1, 1, 3),
        square(2, 1, 11),
        square(3, 1, 3),
        square(4, 1, 7),
        square(5, 1, 7, iscrowd=1, segmentation=counts),
        square(6, 1, 8, iscrowd=1, segmentation=counts),
    ]
    summary, records = run(write(tmp_path / "raw", {"a.jpg": {}}, annotations), tmp_path / "out", negatives=99)
    found = [phrase for phrase in records["a"]["phrases"] if not is_negative(phrase)]
    assert found == [
        {"text": "thing 3", "id": 3, "answers": [{"instances": [1, 3], "exhaustive": True}]},
        {"text": "thing 7", "id": 7, "answers": [{"instances": [4], "exhaustive": False}]},
        {"text": "stop sign", "id": 11, "answers": [{"instances": [2], "exhaustive": True}]},
    ]
    # Category 8 is shown by a crowd alone: neither a positive nor absent.
    assert sorted(phrase["id"] for phrase in absent(records["a"])) == [1, 2, 4, 5, 6, 9, 10]
    assert (summary.phrases, summary.negatives, summary.masks, summary.crowds) == (10, 7, 4, 2)


def test_hard_negatives_come_first(tmp_path):
    images = {f"{number}.jpg": {} for number in range(20)}
    annotations = [square(number, number, 1) for number in range(1, 21)]
    _, records = run(write(tmp_path / "raw", images, annotations), tmp_path / "out", negatives=6)
    for record in records.values():
        negatives = absent(record)
        assert {phrase["id"] for phrase in negatives[:4]} == {2, 3, 4, 5}
        assert {(phrase["hard"], phrase["origin"]) for phrase in negatives[:4]} == {(True, "supercategory")}
        assert {(phrase["hard"], phrase["origin"]) for phrase in negatives[4:]} == {(False, "drawn")}
        assert {phrase["id"] for phrase in negatives[4:]} <= set(range(6, 12))
    # Every image has its own.
    assert len({tuple(phrase["id"] for phrase in absent(record)) for record in records.values()}) > 10


def test_negatives_depend_on_seed_and_key_alone(tmp_path):
    raw = write(tmp_path / "raw", {"a.jpg": {}, "b.jpg": {}}, [square(1, 2, 1)])
    alone = write(tmp_path / "alone", {"b.jpg": {}}, [square(1, 1, 1)])
    (b,) = run(alone, tmp_path / "out0", negatives=3)[1].values()
    assert absent(run(raw, tmp_path / "out1", negatives=3)[1]["b"]) == absent(b)
    assert absent(run(raw, tmp_path / "out2", negatives=3, workers=1)[1]["b"]) == absent(b)
    others = [run(raw, tmp_path / f"seed{seed}", negatives=3, seed=seed)[1]["b"] for seed in (1, 2, 3)]
    assert any(absent(other) != absent(b) for other in others)


@pytest.mark.parametrize(("exhaustive", "counts"), [("all", [0, 5, 5, 1, 1]), ("listed", [0, 5, 0, 1, 1])])
def test_which_images_get_negatives(tmp_path, exhaustive, counts):
    images = {
        "a.jpg": {"coco80_exhaustive": False},
        "b.jpg": {"coco80_exhaustive": True},
        "c.jpg": {},
        "d.jpg": {"neg_category_ids": [4]},
        "e.jpg": {"neg_category_ids": [4], "coco80_exhaustive": False},
    }
    raw = write(tmp_path / "raw", images, [square(1, 2, 1)])
    _, records = run(raw, tmp_path / "out", negatives=5, exhaustive=exhaustive)
    assert [len(absent(record)) for record in records.values()] == counts
    assert [phrase["id"] for name in "de" for phrase in absent(records[name])] == [4, 4]
    assert absent(records["d"])[0]["origin"] == "neg_category_ids"


def test_categories_that_were_not_looked_for_are_not_drawn(tmp_path):
    # Category 9 is annotated, and 10 ruled out, only where the annotation is not exhaustive.
    images = {
        "a.jpg": {},
        "b.jpg": {"coco80_exhaustive": False, "neg_category_ids": [10, 4], "not_exhaustive_category_ids": [9]},
    }
    annotations = [square(1, 1, 4), square(2, 2, 9), square(3, 2, 1)]
    _, records = run(write(tmp_path / "raw", images, annotations), tmp_path / "out", negatives=99)
    assert sorted(phrase["id"] for phrase in absent(records["a"])) == [2, 3, 5, 6, 7, 8, 11]
    assert [phrase["id"] for phrase in absent(records["b"])] == [10, 4]
    known = {phrase["id"]: phrase["answers"][0]["exhaustive"] for phrase in records["b"]["phrases"]}
    assert known == {1: True, 9: False, 10: True, 4: True}


def test_wrong_settings_and_files(tmp_path):
    raw = write(tmp_path / "raw", {"a.jpg": {"neg_category_ids": [1]}}, [square(1, 1, 1)])
    with pytest.raises(UserError, match=r"coco\.json: category 1 is in neg_category_ids of image 1 but is annotated"):
        run(raw, tmp_path / "out")
    with pytest.raises(UserError, match="--negatives is -1; give 0 or more"):
        run(raw, tmp_path / "out", negatives=-1)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        run(tmp_path / "nowhere", tmp_path / "out", raw / "coco.json")
    raw = write(tmp_path / "raw", {"a.jpg": {"file_name": None}}, [])
    with pytest.raises(UserError, match=r"coco\.json: image 1 has no file_name"):
        run(raw, tmp_path / "out")
    raw = write(tmp_path / "raw", {"a.jpg": {"file_name": "../a.jpg"}}, [])
    with pytest.raises(UserError, match=r"coco\.json: file_name '\.\./a\.jpg' points outside the folder of images"):
        run(raw, tmp_path / "out")


def test_real_photographs(tmp_path):
    path = SHARED / "annotations.json"
    if not path.is_file():
        pytest.skip("no real photographs; set PHD_SHARED to the folder that holds data/annotations.json")
    content = json.loads(path.read_text())
    summary, records = run(SHARED / "images", tmp_path / "out", path)
    assert (summary.samples, summary.masks, summary.crowds) == (81, 656, 1)
    assert sum(len(image["neg_category_ids"]) for image in content["images"] if "neg_category_ids" in image) == 758
    crowds = {(item["image_id"], item["category_id"]) for item in content["annotations"] if item["iscrowd"]}
    assert len(crowds) == 1
    for image, record in zip(content["images"], records.values(), strict=True):
        assert [phrase["id"] for phrase in absent(record)] == image.get("neg_category_ids", [])
        partly = set(image.get("not_exhaustive_category_ids", ()))
        partly |= {category for number, category in crowds if number == image["id"]}
        known = {phrase["id"] for phrase in record["phrases"] if not phrase["answers"][0]["exhaustive"]}
        assert known == partly & {phrase["id"] for phrase in record["phrases"]}
    # Without its lists, only the 80 categories of COCO may be drawn for COCO's photos.
    for image in content["images"]:
        if image["coco80_exhaustive"]:
            del image["neg_category_ids"]
    (tmp_path / "bare.json").write_text(json.dumps(content))
    _, records = run(SHARED / "images", tmp_path / "drawn", tmp_path / "bare.json", exhaustive="listed")
    drawn = [phrase for record in records.values() for phrase in absent(record) if "hard" in phrase]
    assert len(drawn) == 750
    assert max(phrase["id"] for phrase in drawn) <= 80


def test_shards_without_any_negative_or_any_positive_are_doubted(tmp_path, capsys):
    one = [{"id": 1, "name": "crack"}]
    crack = write(tmp_path / "raw", {"a.jpg": {}, "b.jpg": {}}, [square(1, 1, 1), square(2, 2, 1)], one)
    order = ["shards", "convert", "coco-concepts", str(crack), str(crack / "coco.json")]
    main([*order, str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1
    assert f"{tmp_path / 'out'}: no phrase is absent from its image: presence cannot be learned" in said
    main(["shards", "negatives", str(tmp_path / "out")])
    assert "out-negatives: no phrase is absent from its image" in capsys.readouterr().err
    # A category that was looked for in vain is what helps.
    write(crack, {"a.jpg": {}, "b.jpg": {}}, [square(1, 1, 1), square(2, 2, 1)], [*one, {"id": 2, "name": "dent"}])
    main([*order, str(tmp_path / "two")])
    assert "warning" not in capsys.readouterr().err
    write(crack, {"a.jpg": {}, "b.jpg": {}}, [], one)
    main([*order, str(tmp_path / "none")])
    assert "none: no phrase has an instance" in capsys.readouterr().err
