"""The embedded world as files of SA-1B."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from datamodules.shapes import numbered_scene, render
from datamodules.shapes.sa1b import sa1b_record, write_sa1b
from phd.errors import UserError


def test_same_seed_same_bytes_with_any_number_of_workers(tmp_path, capsys):
    def files(name, **settings):
        write_sa1b(tmp_path / name, **settings)
        return {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())}

    first = files("first", samples=4, seed=9)
    assert list(first) == [f"sa_00000{number}.{kind}" for number in (1, 2, 3, 4) for kind in ("jpg", "json")]
    assert files("second", samples=4, seed=9, workers=2) == first
    assert files("prefix", samples=2, seed=9) == dict(list(first.items())[:4])
    other = files("other", samples=4, seed=10)
    assert all(other[name] != content for name, content in first.items())
    assert capsys.readouterr().out == ""  # progress is on stderr


def test_record_of_masks_made_by_hand():
    masks = np.zeros((2, 6, 9), dtype=bool)
    masks[0, 1:4, 2:7] = True
    masks[1, 5, 8] = True
    record = sa1b_record(masks, image_id=12, file_name="x.jpg")
    assert record["image"] == {"image_id": 12, "width": 9, "height": 6, "file_name": "x.jpg"}
    first, second = record["annotations"]
    assert first["bbox"] == [2.0, 1.0, 5.0, 3.0]
    assert first["area"] == 15
    assert first["point_coords"][0][1] == 2.0  # the middle row is the one farthest from the border
    assert 3.0 <= first["point_coords"][0][0] <= 5.0
    assert second["bbox"] == [8.0, 5.0, 1.0, 1.0]
    assert second["point_coords"] == [[8.0, 5.0]]
    assert first["id"] != second["id"]


def test_files_have_the_schema_of_sa1b_and_hold_the_rendered_masks(tmp_path):
    write_sa1b(tmp_path / "world", samples=3, seed=2)
    ids = set()
    for index in range(3):
        scene, height, width = numbered_scene(2, index)
        _, masks = render(scene, height, width)
        record = json.loads((tmp_path / "world" / f"sa_00000{index + 1}.json").read_text())
        assert record["image"]["file_name"] == f"sa_00000{index + 1}.jpg"
        with Image.open(tmp_path / "world" / record["image"]["file_name"]) as image:
            assert image.size == (record["image"]["width"], record["image"]["height"]) == (width, height)
            assert image.mode == "RGB"
        assert len(record["annotations"]) == len(masks)
        for annotation, mask in zip(record["annotations"], masks, strict=True):
            assert set(annotation) == {
                "id",
                "segmentation",
                "bbox",
                "area",
                "predicted_iou",
                "stability_score",
                "crop_box",
                "point_coords",
            }
            assert annotation["segmentation"]["size"] == [height, width]
            assert np.array_equal(coco_mask.decode(annotation["segmentation"]).astype(bool), mask)
            assert annotation["area"] == mask.sum()
            x, y = annotation["point_coords"][0]
            assert mask[int(y), int(x)]
            ids.add(annotation["id"])
    assert len(ids) == sum(len(numbered_scene(2, index)[0].things) for index in range(3))


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=f"{tmp_path.name} is not empty"):
        write_sa1b(tmp_path, samples=1, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(UserError, match=r"notes\.txt is a file"):
        write_sa1b(tmp_path / "notes.txt", samples=1, seed=0)


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"seed": -1}, {"workers": 0}])
def test_a_number_out_of_range_is_refused_before_anything_is_written(tmp_path, wrong):
    name = next(iter(wrong))
    with pytest.raises(UserError, match=f"{name} is {wrong[name]}"):
        write_sa1b(tmp_path / "out", **{"samples": 1, "seed": 0, "workers": 1, **wrong})
    assert not (tmp_path / "out").exists()
