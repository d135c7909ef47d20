import json

import numpy as np
import pytest
from converted import SHARED, keys, nothing_written
from PIL import Image
from pycocotools import mask as coco_mask
from raw_coco import JPG, SQUARE, lying, pixels, write_coco
from raw_samples import image_bytes

from datamodules import rle
from datamodules.convert import convert_coco
from datamodules.convert.coco_file import unique_keys
from datamodules.convert.raw import tar_safe
from datamodules.labelled import labelled_images
from datamodules.reader import ShardReader
from datamodules.shards import LONGEST_KEY
from datamodules.verify import verify
from phd.errors import UserError


def run(tmp_path, **options):
    return convert_coco(tmp_path, tmp_path / "coco.json", tmp_path / "out", **options)


def test_every_form_of_mask(tmp_path):
    counts = rle.run_lengths(rle.encode(SQUARE), 40, 60).tolist()
    masks = {
        "polygon": [[20, 10, 36, 10, 36, 18, 20, 18]],
        "polygons": [[20, 10, 30, 10, 30, 18, 20, 18], [30, 10, 36, 10, 36, 18, 30, 18]],
        "runs": {"size": [40, 60], "counts": counts},
        "compressed": rle.encode(SQUARE),
    }
    annotations = [
        {"id": number, "image_id": 100, "category_id": 3, "segmentation": mask, "iscrowd": int(name == "runs")}
        for number, (name, mask) in enumerate(masks.items())
    ]
    write_coco(tmp_path, {"a.jpg": JPG}, annotations, [{"id": 3, "name": "square"}])
    summary = run(tmp_path)
    assert (summary.samples, summary.masks, summary.crowds) == (1, 3, 1)
    sample = ShardReader(tmp_path / "out").read(0)
    assert sample.jpg == JPG
    for item in sample.record["annotations"]:
        assert isinstance(item["segmentation"]["counts"], str)
        assert (coco_mask.decode(item["segmentation"]) == SQUARE).all()
        assert (item["bbox"], item["area"], item["category"]) == ([20, 10, 16, 8], 128, "square")
    assert [item["iscrowd"] for item in sample.record["annotations"]] == [0, 0, 1, 0]
    assert labelled_ids(tmp_path / "out") == [0, 1, 3]


def labelled_ids(root):
    return [number for image in labelled_images(ShardReader(root)) for number in image.ids]


def test_fields_of_the_source_are_kept(tmp_path):
    item = {"id": 5, "image_id": 100, "segmentation": rle.encode(SQUARE), "bbox": [1, 2, 3, 4], "area": 9, "note": "x"}
    path = write_coco(tmp_path, {"a.jpg": JPG}, [item])
    content = json.loads(path.read_text())
    content["images"][0]["source"] = "phone"
    path.write_text(json.dumps(content))
    run(tmp_path)
    record = ShardReader(tmp_path / "out").read(0).record
    assert record["image"]["source"] == "phone"
    assert record["annotations"] == [item]  # also without categories in the file


def test_images_without_annotations_are_kept_and_subfolders_work(tmp_path):
    write_coco(tmp_path, {"train/a.b.jpg": JPG, "val/c.jpg": JPG, "test/c.jpg": JPG}, [])
    assert run(tmp_path).samples == 3
    assert keys(tmp_path / "out") == ["a_b", "val_c", "test_c"]


def test_unique_keys():
    assert unique_keys(["x/a.jpg", "b.png", "ü k.jpg"]) == ["a", "b", "ü_k"]
    assert unique_keys(["a.jpg", "a.png", "b/a.jpg"]) == ["a", "a-2", "b_a"]
    long = [f"{'x' * 200}{number}.jpg" for number in range(3)]
    assert len(set(unique_keys(long))) == 3
    assert all(len(tar_safe(name)) <= LONGEST_KEY for name in long)


def test_other_formats_become_jpeg(tmp_path):
    rgba = np.dstack([pixels(), np.full((40, 60), 128, dtype=np.uint8)])
    images = {
        "a.png": image_bytes(pixels(), "PNG"),
        "b.png": image_bytes(rgba, "PNG"),
        "c.webp": image_bytes(pixels(), "WEBP", lossless=True),
        "d.bmp": image_bytes(pixels(), "BMP"),
        "e.png": JPG,  # the bytes decide, not the name
    }
    write_coco(tmp_path, images, [])
    assert run(tmp_path).reencoded == 4
    assert verify(tmp_path / "out").ok
    for image in labelled_images(ShardReader(tmp_path / "out")):
        assert np.abs(image.image.astype(int) - pixels()).mean() < 2
    assert ShardReader(tmp_path / "out").read(4).jpg == JPG


def test_photos_are_turned_to_the_size_that_was_annotated(tmp_path):
    # Orientation 6: turn by 90 degrees, so 40 x 60 (height x width) on the screen. 1: nothing to do.
    exif = Image.Exif()
    exif[0x0112] = 1
    images = {"turned.jpg": lying(6), "plain.jpg": image_bytes(pixels(), exif=exif)}
    write_coco(tmp_path, images, [])
    summary = run(tmp_path)
    assert summary.reencoded == 1
    turned, plain = labelled_images(ShardReader(tmp_path / "out"))
    assert turned.image.shape == plain.image.shape == (40, 60, 3)
    expected = np.rot90(pixels(height=60, width=40), -1)
    assert np.abs(turned.image.astype(int) - expected).mean() < 2


def test_a_missing_size_is_filled_in(tmp_path):
    path = write_coco(tmp_path, {"a.jpg": JPG}, [])
    path.write_text(path.read_text().replace(', "height": 40, "width": 60', ""))
    run(tmp_path)
    assert ShardReader(tmp_path / "out").read(0).record["image"] == {
        "id": 100,
        "file_name": "a.jpg",
        "height": 40,
        "width": 60,
    }


def test_photos_annotated_as_stored_stay(tmp_path):
    path = write_coco(tmp_path, {"a.jpg": lying(6)}, [])
    path.write_text(path.read_text().replace('"height": 40, "width": 60', '"height": 60, "width": 40'))
    assert run(tmp_path).reencoded == 0
    assert next(iter(labelled_images(ShardReader(tmp_path / "out")))).image.shape == (60, 40, 3)


def test_real_photographs(tmp_path):
    if not (SHARED / "annotations.json").is_file():
        pytest.skip("no real photographs; set PHD_SHARED to the folder that holds data/annotations.json")
    summary = convert_coco(SHARED / "images", SHARED / "annotations.json", tmp_path / "out", samples_per_shard=50)
    assert (summary.samples, summary.masks, summary.crowds, summary.shards) == (81, 656, 1, 2)
    source = json.loads((SHARED / "annotations.json").read_text())
    areas = {item["id"]: item for item in source["annotations"]}
    reader = ShardReader(tmp_path / "out")
    for number in range(len(reader)):
        record = reader.read(number).record
        assert (SHARED / "images" / record["image"]["file_name"]).read_bytes() == reader.member(number, "jpg")
        for item in record["annotations"]:
            expected = areas[item["id"]]["segmentation"]
            height, width = record["image"]["height"], record["image"]["width"]
            if isinstance(expected, list):
                full = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(expected, height, width)))
            else:
                full = coco_mask.decode(rle.compress(expected))
            rows, columns = np.arange(0, height, 3), np.arange(0, width, 3)
            assert (rle.PixelSampler(height, width, rows, columns)(item["segmentation"]) == full[::3, ::3]).all()


# Bad input


@pytest.mark.parametrize("name", ["../a.jpg", "b/../../a.jpg", "/etc/a.jpg"])
def test_coco_files_that_lie_elsewhere_are_refused(tmp_path, name):
    path = write_coco(tmp_path / "images", {"a.jpg": JPG}, [])
    path.write_text(path.read_text().replace("a.jpg", name))
    with pytest.raises(UserError, match=r"coco\.json: file_name .* points outside the folder of images"):
        convert_coco(tmp_path / "images", path, tmp_path / "out")
    assert nothing_written(tmp_path)


def one(**fields):
    return [{"id": 8, "image_id": 100, "segmentation": rle.encode(SQUARE), **fields}]


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        (one(image_id=55), r"annotation 8 belongs to image 55, which is not listed"),
        (one(category_id=9), r"annotation 8 has category 9, which is not listed"),
        (one(bbox=[-1, 5, 20, 8]), r"a\.jpg: annotation 8: its bbox .* reaches outside the image of 60 x 40 pixels"),
        (one(bbox=[1, 5, 20, 36]), r"a\.jpg: annotation 8: its bbox .* reaches outside the image of 60 x 40 pixels"),
        (one(bbox=[1, 5, float("nan"), 36]), r"a\.jpg: annotation 8: its bbox .* is not x, y, width, height"),
        (one(bbox=[1, 5, 20, -8]), r"a\.jpg: annotation 8: its bbox .* is not x, y, width, height"),
        (one(segmentation=[]), r"a\.jpg: annotation 8: has no segmentation \(a box alone is not enough\)"),
        (one(segmentation=None), r"a\.jpg: annotation 8: has no segmentation"),
        (one(segmentation=[[1, 2, 3, 4]]), r"a\.jpg: annotation 8: a polygon needs at least three points"),
        (one(segmentation=[1, 2, 3, 4, 5, 6]), r"a\.jpg: annotation 8: the polygons are no lists"),
        (one(segmentation=[["a", 2, 3, 4, 5, 6]]), r"a\.jpg: annotation 8: the polygons are no lists"),
        (one(segmentation="x"), r"a\.jpg: annotation 8: the segmentation is no RLE"),
        (one(segmentation=rle.encode(SQUARE.T)), r"a\.jpg: annotation 8: the RLE has size \[60, 40\]"),
        (one(segmentation=[[5, 5, 5, 5, 5, 5]]), r"a\.jpg: annotation 8: its mask has no pixel"),
        (one(segmentation=[[100, 100, 120, 100, 120, 120]]), r"a\.jpg: annotation 8: its mask has no pixel"),
        ([{"image_id": 100, "segmentation": rle.encode(SQUARE)}], r"a\.jpg: an annotation has no id"),
        ([{"id": 8}], "not in COCO's format"),
        ([None], "not in COCO's format"),
    ],
)
def test_bad_annotations_are_named(tmp_path, annotations, message):
    write_coco(tmp_path, {"a.jpg": JPG}, annotations, [{"id": 3, "name": "square"}])
    with pytest.raises(UserError, match=rf"coco\.json: .*{message}|coco\.json: {message}") as caught:
        run(tmp_path)
    assert "\n" not in str(caught.value)
    assert nothing_written(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (JPG[:-30], "the image file is truncated"),
        (image_bytes(pixels(), "PNG")[:-30], "the image cannot be decoded"),
        (b"", "the image cannot be decoded"),
        (b"text", "the image cannot be decoded"),
        (lying(6)[:-30], "the image cannot be decoded"),
        (image_bytes(pixels(height=41)), "the image is 41 x 60 pixels .* say 40 x 60"),
        (image_bytes(np.full((40, 60), 4000, dtype=np.uint16), "PNG"), "more than 8 bits"),
    ],
)
def test_bad_images_are_named(tmp_path, data, message):
    write_coco(tmp_path, {"b.jpg": JPG, "a.jpg": data}, [])
    with pytest.raises(UserError, match=rf"a\.jpg: .*{message}|a\.jpg: {message}"):
        run(tmp_path)
    assert nothing_written(tmp_path)
    assert run(tmp_path, skip_bad=1).samples == 1


def test_bad_coco_files(tmp_path):
    out = tmp_path / "out"
    path = write_coco(tmp_path, {"a.jpg": JPG}, [])
    for text, message in [
        ("{", "not JSON"),
        ("[]", "not in COCO's format"),
        ('{"images": [], "annotations": []}', "lists no images"),
        ('{"images": [{"id": 1}], "annotations": []}', "image 1 has no file_name"),
        ('{"images": {"id": 1}, "annotations": []}', "not in COCO's format"),
        ('{"images": [{"id": 1, "file_name": 5}], "annotations": []}', "image 1 has no file_name"),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": [{"id": 3, "name": "a"}, '
            '{"id": 3, "name": "b"}]}',
            "the id of category 3 is there twice",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}], "annotations": []}',
            "the id of image 1 is there twice",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.jpg"}], "annotations": []}',
            "the file_name 'a.jpg' is there twice",
        ),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match=rf"coco\.json: {message}"):
            convert_coco(tmp_path, path, out)
    with pytest.raises(UserError, match=r"none\.json: cannot be read"):
        convert_coco(tmp_path, tmp_path / "none.json", out)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        convert_coco(tmp_path / "nowhere", path, out)
    path.write_text('{"images": [{"id": 1, "file_name": "a\\u0000.jpg"}], "annotations": []}')
    with pytest.raises(UserError, match=r"cannot be read \(embedded null byte\)"):
        convert_coco(tmp_path, path, out)
    path.write_text('{"images": [{"id": 1, "file_name": "lost.jpg"}], "annotations": []}')
    with pytest.raises(UserError, match=r"lost\.jpg: cannot be read"):
        convert_coco(tmp_path, path, out)
    assert nothing_written(tmp_path)
