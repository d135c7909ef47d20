"""DAVIS, MOSE, LVOS, YouTube-VOS, SA-V val: numbered frames and PNG masks."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from converted import SHARED
from PIL import Image
from raw_samples import image_bytes, rectangle
from raw_videos import HEIGHT, WIDTH, found_square, iou, picture, square, write_frames, write_labels

from datamodules import rle
from datamodules.convert import KINDS, convert
from datamodules.reader import ShardReader
from phd.errors import UserError


def run(kind: str, root: Path, **settings: Any) -> ShardReader:
    out = root.with_name("shards")
    convert(KINDS[kind], KINDS[kind].options(root, out, **settings))
    return ShardReader(out)


def labels(frame: int) -> np.ndarray:
    """The square is object 1; from frame 10 on there is object 3 below it; a column is void."""
    numbers = square(frame)
    numbers[rectangle(HEIGHT, WIDTH, 80, 5, 10, 20) > 0] = 3 if frame >= 10 else 0
    numbers[:, -4:] = 255
    return numbers


def write_video(
    root: Path, name: str, numbers: list[int], annotated: list[int], size: str = "", digits: int = 5
) -> None:
    write_frames(root / "JPEGImages" / size / name, numbers, digits)
    for number in annotated:
        write_labels(root / "Annotations" / size / name / f"{number:0{digits}d}.png", labels(number))


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    root = tmp_path / "DAVIS"
    write_video(root, "boat", list(range(15)), list(range(15)), "480p")
    write_video(root, "cat", [0, 1], [0, 1], "480p")
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("boat\n")
    return root


def test_davis(davis: Path) -> None:
    reader = run("davis", davis, split="val")
    assert [reader.key(number) for number in range(len(reader))] == ["boat"]
    assert reader.manifest["split"] == "val"
    record = reader.record(0)
    assert record["video"] == {"name": "boat", "height": HEIGHT, "width": WIDTH}
    assert record["frames"] == record["labelled"] == list(range(15))
    assert [item["id"] for item in record["objects"]] == [1, 3]
    for place in range(15):
        for item in record["objects"]:
            expected = labels(place) == item["id"]
            mask = item["masks"][place]
            assert (mask is None) == (not expected.any())  # object 3 appears at frame 10
            assert mask is None or np.array_equal(rle.decode(mask), expected)
        assert np.array_equal(rle.decode(record["void"][place]), labels(place) == 255)
        jpeg = reader.member(0, f"{place:06d}.jpg")
        assert jpeg == (davis / "JPEGImages" / "480p" / "boat" / f"{place:05d}.jpg").read_bytes()
        shown = found_square(np.asarray(Image.open(io.BytesIO(jpeg))))
        assert iou(shown, rle.decode(record["objects"][0]["masks"][place]) > 0) > 0.9


def test_mose_takes_all_folders(tmp_path: Path) -> None:
    write_video(tmp_path / "MOSE" / "train", "00a1b2c3", [0, 1, 2], [0, 1, 2])
    write_video(tmp_path / "MOSE" / "train", "f0e0d0c0", [0, 1, 2], [0])
    reader = run("mose", tmp_path / "MOSE", split="train")
    assert [reader.record(number)["labelled"] for number in range(2)] == [[0, 1, 2], [0]]
    assert reader.record(1)["objects"][0]["masks"][1:] == [None, None]


def test_lvos(tmp_path: Path) -> None:
    root = tmp_path / "LVOS" / "valid"
    numbers = [1, 6, 11, 16]
    write_video(root, "0tCWPOrc", numbers, numbers, digits=8)
    ranges = {
        "1": {"frame_range": {"start": "00000001", "end": "00000016", "frame_nums": "4"}},
        "3": {"frame_range": {"start": "00000011", "end": "00000016", "frame_nums": "2"}},
    }
    (root / "valid_meta.json").write_text(json.dumps({"videos": {"0tCWPOrc": {"objects": ranges}}}))
    reader = run("lvos", root)
    record = reader.record(0)
    assert record["frames"] == numbers
    assert reader.extensions_of(0)[:2] == ["000001.jpg", "000006.jpg"]
    late = record["objects"][1]
    assert late["frame_range"] == {"start": 11, "end": 16, "frame_nums": 2}
    assert [mask is None for mask in late["masks"]] == [True, True, False, False]


def test_ytvos_validation_has_first_masks_only(tmp_path: Path) -> None:
    root = tmp_path / "ytvos" / "valid"
    numbers = [0, 5, 10, 15]
    write_video(root, "0062f687f1", numbers, [0, 10])
    names = [f"{number:05d}" for number in numbers]
    objects = {"1": {"category": "boat", "frames": names}, "3": {"frames": names[2:]}}
    (root / "meta.json").write_text(json.dumps({"videos": {"0062f687f1": {"objects": objects}}}))
    record = run("ytvos", root.parent, split="valid").record(0)
    assert record["labelled"] == [0, 2]
    assert record["video"]["first_masks_only"] is True
    assert record["objects"][0]["category"] == "boat"
    assert record["objects"][1]["frames"] == [10, 15]


def test_ytvos_train_has_all(tmp_path: Path) -> None:
    root = tmp_path / "ytvos"
    write_video(root, "003234408d", [0, 5, 10], [0, 5, 10])
    objects = {"1": {"category": "boat", "frames": ["00000", "00005", "00010"]}, "3": {"frames": ["00010"]}}
    (root / "meta.json").write_text(json.dumps({"videos": {"003234408d": {"objects": objects}}}))
    assert "first_masks_only" not in run("ytvos", root).record(0)["video"]


def test_sav_val(tmp_path: Path) -> None:
    root = tmp_path / "sav_val"
    write_frames(root / "JPEGImages_24fps" / "sav_000262", list(range(9)))
    for number in (0, 4, 8):
        folder = root / "Annotations_6fps" / "sav_000262"
        write_labels(folder / "000" / f"{number:05d}.png", square(number))
        # The second one lies over the first, and is not seen at the start.
        write_labels(folder / "001" / f"{number:05d}.png", square(number) * (number > 0), "L")
    (root / "sav_val.txt").write_text("sav_000262\n")
    record = run("sav-val", root, split="sav_val").record(0)
    assert record["frames"] == list(range(9))
    assert record["labelled"] == [0, 4, 8]
    first, second = (item["masks"] for item in record["objects"])
    assert [place for place, mask in enumerate(first) if mask] == [0, 4, 8]
    assert [place for place, mask in enumerate(second) if mask] == [4, 8]
    assert np.array_equal(rle.decode(first[8]), square(8))
    assert second[8] == first[8]
    assert record["video"]["fps"] == 24


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("colours", ["palette", "grey"])
def test_numbers_of_objects_not_colours(tmp_path: Path, bits: int, colours: str) -> None:
    from datamodules.convert.label_png import read_labels

    numbers = np.array([[0, 1, (1 << bits) - 1], [1, 1, 0]], dtype=np.uint8)
    path = tmp_path / "00000.png"
    if colours == "palette":
        image = Image.fromarray(numbers, "P")
        image.putpalette([9, 9, 9] * (1 << bits))
        image.save(path, bits=bits)
        assert path.read_bytes()[24] == bits
    else:
        path.write_bytes(grey_png(numbers, bits))
    assert np.array_equal(read_labels(path, 2, 3, 100), numbers)


def grey_png(numbers: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 1, 2, 4 or 8 bits, written by hand: Pillow writes only 1 and 8."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b""
    for row in numbers:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")
    header = struct.pack(">IIBBBBB", numbers.shape[1], numbers.shape[0], bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def put(name: str, data: bytes) -> Any:
    def change(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)

    return change


def png(pixels: np.ndarray) -> bytes:
    return image_bytes(pixels, "PNG")


MASK, FRAME = "Annotations/480p/boat/00003.png", "JPEGImages/480p/boat/00003.jpg"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(MASK, png(picture(3))), r"boat/00003\.png: is a PNG of colours \(mode RGB\)"),
        (put(MASK, png(np.zeros((HEIGHT, WIDTH), np.uint16))), r"00003\.png: is a PNG of colours \(mode I"),
        (put(MASK, png(np.ones((HEIGHT, 99), np.uint8))), r"00003\.png: the mask is 96 x 99 .* its frame is 96 x 320"),
        (put(MASK, png(square(3))[:90]), r"00003\.png: cannot be read as a PNG"),
        (put(MASK, image_bytes(picture(3))), r"00003\.png: cannot be read as a PNG"),
        (put("Annotations/480p/boat/00020.png", b""), r"00020\.png: a mask of frame 20, which .*boat does not have"),
        (put("Annotations/480p/boat/3.png", b""), r"3\.png: has the same number as"),
        (put("Annotations/480p/boat/notes.txt", b""), r"notes\.txt: not named as a frame is \(00000\.png\)"),
        (put(FRAME, image_bytes(picture(3))[:900]), r"00003\.jpg: the image file is truncated"),
        (put(FRAME, png(picture(3))), r"00003\.jpg: is no JPEG"),
        (put(FRAME, b""), r"00003\.jpg: the image file is empty"),
        (put(FRAME, image_bytes(picture(3, 96, 200))), r"00003\.jpg: is 96 x 200 .* the first frame is 96 x 320"),
        (put("ImageSets/2017/val.txt", b"boat\ndog\n"), r"JPEGImages/480p/dog: no such folder"),
        (put("ImageSets/2017/val.txt", b"boat\nboat\n"), r"val\.txt: lists boat twice"),
        (put("ImageSets/2017/val.txt", b"../boat\n"), r"val\.txt: '\.\./boat' is no name of a video"),
        (lambda root: (root / "ImageSets/2017/val.txt").unlink(), r"DAVIS: has no subfolder val and no list"),
    ],
)
def test_bad_files_are_one_line(davis: Path, change: Any, message: str) -> None:
    change(davis)
    with pytest.raises(UserError, match=message) as caught:
        run("davis", davis, split="val")
    assert "\n" not in str(caught.value)


def test_masks_of_0_and_255_have_no_object(davis: Path) -> None:
    for path in (davis / "Annotations" / "480p" / "cat").iterdir():
        write_labels(path, square(0) * 255, "L")
    with pytest.raises(UserError, match=r"cat: no mask of the video shows an object; if 255 is the object here"):
        run("davis", davis)


def test_one_png_shows_one_object_of_sav(tmp_path: Path) -> None:
    root = tmp_path / "sav_val"
    write_frames(root / "JPEGImages_24fps" / "sav_1", [0])
    write_labels(root / "Annotations_6fps" / "sav_1" / "000" / "00000.png", labels(10))
    with pytest.raises(UserError, match=r"000/00000\.png: shows several objects \(\[1, 3, 255\]\)"):
        run("sav-val", root)


def test_meta_is_asked_for(davis: Path) -> None:
    with pytest.raises(UserError, match=r"has no meta\.json; name the file with --meta"):
        run("lvos", davis, split="val")


def test_genuine_davis(tmp_path: Path) -> None:
    """Every pixel of two sequences comes back from objects and void."""
    if not (SHARED / "Annotations" / "tennis").is_dir():
        pytest.skip("no DAVIS sequences; set PHD_SHARED to the folder that holds data/videos and data/Annotations")
    (tmp_path / "two.txt").write_text("tennis\nbmx-bumps\n")
    out = tmp_path / "shards"
    convert(KINDS["davis"], KINDS["davis"].options(SHARED, out, split=str(tmp_path / "two.txt")))
    reader = ShardReader(out)
    for number, name in enumerate(("tennis", "bmx-bumps")):
        record = reader.record(number)
        assert (record["video"]["name"], record["video"]["width"], record["video"]["height"]) == (name, 640, 360)
        assert len(record["frames"]) == 24
        kinds = [(item["id"], item["masks"]) for item in record["objects"]] + [(255, record.get("void", [None] * 24))]
        for place in range(24):
            raw = np.array(Image.open(SHARED / "Annotations" / name / f"{place:05d}.png").getdata()).reshape(360, 640)
            again = np.zeros_like(raw)
            for value, masks in kinds:
                again[(rle.decode(masks[place]) if masks[place] else np.zeros_like(raw)) > 0] = value
            assert np.array_equal(again, raw)
    assert [item["id"] for item in reader.record(0)["objects"]] == [1, 2]
    # The data card says that the object is out of view in 4 frames.
    assert sum(mask is None for mask in reader.record(1)["objects"][0]["masks"]) == 4
    assert "void" in reader.record(0)
