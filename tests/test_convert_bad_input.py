import errno
import io
import json
import os
import tarfile

import numpy as np
import pytest
from converted import nothing_written
from PIL import Image
from raw_coco import write_coco
from raw_samples import image_bytes, rectangle, write_raw_sa1b

from datamodules import rle
from datamodules.convert import convert_coco, convert_sa1b, sa1b
from datamodules.record import decode_rgb
from phd.errors import UserError

# SA-1B


def truncate_image(raw):
    data = (raw / "sa_2.jpg").read_bytes()
    (raw / "sa_2.jpg").write_bytes(data[:-50])


def empty_image(raw):
    (raw / "sa_2.jpg").write_bytes(b"")


def remove_image(raw):
    (raw / "sa_2.jpg").unlink()


def remove_record(raw):
    (raw / "sa_2.json").unlink()


def damage_record(raw):
    (raw / "sa_2.json").write_text("{")


def other_record(raw):
    (raw / "sa_2.json").write_text("[]")


def change(raw, **fields):
    record = json.loads((raw / "sa_2.json").read_text())
    record["annotations"][1].update(fields)
    (raw / "sa_2.json").write_text(json.dumps(record))


def turn_mask(raw):
    change(raw, segmentation=rle.encode(rectangle(60, 40, 1, 2, 3, 4)))


def empty_mask(raw):
    change(raw, id=77, segmentation=rle.encode(rectangle(40, 60, 0, 0, 0, 0)))


def uncompressed_garbage(raw):
    change(raw, segmentation={"size": [40, 60], "counts": "garbage"})


def wrong_size(raw):
    record = json.loads((raw / "sa_2.json").read_text())
    record["image"]["height"] = 41
    (raw / "sa_2.json").write_text(json.dumps(record))


def damaged_tar(raw):
    (raw / "sa_000009.tar").write_bytes(b"x" * 2000)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate_image, r"sa_2\.jpg: the image file is truncated"),
        (empty_image, r"sa_2\.jpg: the image file is empty"),
        (remove_image, r"sa_2\.json: has no sa_2\.jpg beside it"),
        (remove_record, r"sa_2\.jpg: has no sa_2\.json beside it"),
        (damage_record, r"sa_2\.json: not JSON"),
        (other_record, r'sa_2\.json: has no "image" and "annotations"'),
        (turn_mask, r"sa_2\.json: annotation 1: the RLE has size \[60, 40\] but .* \[40, 60\]"),
        (empty_mask, r"sa_2\.json: annotation 77: its mask has no pixel"),
        (uncompressed_garbage, r"sa_2\.json: annotation 1: "),
        (wrong_size, r"sa_2\.jpg: the image is 40 x 60 pixels .* say 41 x 60"),
        (damaged_tar, r"sa_000009\.tar: cannot be read as a tar"),
    ],
)
def test_bad_sa1b_is_named_and_nothing_is_written(tmp_path, damage, message):
    raw = write_raw_sa1b(tmp_path / "raw", 4)
    damage(raw)
    with pytest.raises(UserError, match=message) as caught:
        convert_sa1b(raw, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert nothing_written(tmp_path)


def tar_of(path, members):
    """A tar with members as (TarInfo, contents)."""
    with tarfile.open(path, "w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def link(name, kind, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (tarfile.TarInfo("../sa_9.jpg"), r"member \.\./sa_9\.jpg points outside the folder"),
        (tarfile.TarInfo("a/../../sa_9.json"), "member .* points outside the folder"),
        (tarfile.TarInfo("/etc/sa_9.jpg"), r"member /etc/sa_9\.jpg points outside the folder"),
        (link("sa_9.jpg", tarfile.SYMTYPE, "/etc/passwd"), r"member sa_9\.jpg is no plain file"),
        (link("sa_9.jpg", tarfile.LNKTYPE, "sa_0.jpg"), r"member sa_9\.jpg is no plain file"),
    ],
)
def test_members_that_leave_the_tar_are_refused(tmp_path, member, message):
    (tmp_path / "raw").mkdir()
    tar_of(tmp_path / "raw" / "sa_000000.tar", [(member, b"")])
    with pytest.raises(UserError, match=rf"sa_000000\.tar: {message}"):
        convert_sa1b(tmp_path / "raw", tmp_path / "out", skip_bad=100)
    assert nothing_written(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data, headers: data[: headers[-1] + 600],  # inside the last member
        lambda data, headers: data[: headers[2] + 300],  # inside a header
        lambda data, headers: data[: headers[2]],  # between two members
        lambda data, headers: data[: headers[2]] + b"\1" * 512 + data[headers[2] + 512 :],  # a header is damaged
    ],
)
def test_a_damaged_tar_is_named(tmp_path, damage):
    plain = write_raw_sa1b(tmp_path / "plain", 3)
    tar = tmp_path / "raw" / "sa_000000.tar"
    tar.parent.mkdir()
    tar_of(tar, [(tarfile.TarInfo(path.name), path.read_bytes()) for path in sorted(plain.iterdir())])
    assert convert_sa1b(tar.parent, tmp_path / "whole").samples == 3
    with tarfile.open(tar) as archive:
        headers = [member.offset for member in archive]
    tar.write_bytes(damage(tar.read_bytes(), headers))
    with pytest.raises(UserError, match=r"sa_000000\.tar: cannot be read as a tar"):
        convert_sa1b(tar.parent, tmp_path / "out", skip_bad=100)
    assert nothing_written(tmp_path)


def bomb(width=60_000, height=60_000):
    """A JPEG of a few hundred bytes whose header announces a huge image."""
    data = bytearray(image_bytes(np.zeros((8, 8, 3), dtype=np.uint8)))
    start = data.index(b"\xff\xc0")  # start of frame: length, precision, height, width
    data[start + 5 : start + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


@pytest.mark.parametrize("data", [bomb(), bomb(10_001, 10_000), bomb(15_000, 10_000)])
def test_an_image_with_too_many_pixels_is_not_decoded(tmp_path, monkeypatch, data):
    raw = write_raw_sa1b(tmp_path / "raw", 3)
    (raw / "sa_1.jpg").write_bytes(data)
    decoded = []
    monkeypatch.setattr(sa1b, "decode_rgb", lambda jpg, where: (decoded.append(where), decode_rgb(jpg, where))[1])
    with pytest.raises(UserError, match=r"sa_1\.jpg: has more than 100000000 pixels; .* --max-pixels"):
        convert_sa1b(raw, tmp_path / "out")
    assert not any("sa_1.jpg" in where for where in decoded)
    write_coco(tmp_path / "coco", {"a.jpg": data}, [])
    with pytest.raises(UserError, match=r"a\.jpg: has more than 100000000 pixels"):
        convert_coco(tmp_path / "coco", tmp_path / "coco" / "coco.json", tmp_path / "out")
    assert nothing_written(tmp_path)


def test_the_limit_of_pixels_is_a_setting(tmp_path):
    raw = write_raw_sa1b(tmp_path / "raw", 2)  # 40 x 60
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(UserError, match=r"sa_0\.jpg: has more than 2399 pixels"):
        convert_sa1b(raw, tmp_path / "out", max_pixels=2399)
    assert convert_sa1b(raw, tmp_path / "out", max_pixels=2400).samples == 2
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_longer_rle_than_its_image(tmp_path):
    raw = write_raw_sa1b(tmp_path / "raw", 3)
    mask = rle.encode(rectangle(40, 61, 1, 2, 3, 4))
    change(raw, segmentation={"size": [40, 60], "counts": mask["counts"]})
    with pytest.raises(UserError, match=r"sa_2\.json: annotation 1: the runs of the RLE cover 2440 pixels but"):
        convert_sa1b(raw, tmp_path / "out")


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    raw = write_raw_sa1b(tmp_path / "raw", 2)
    (raw / "secret").mkdir()
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("secret"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UserError, match=r"secret: cannot be read \(Permission denied\)"):
        convert_sa1b(raw, tmp_path / "out")
    assert nothing_written(tmp_path)
