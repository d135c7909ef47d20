import json
import os

import numpy as np
import pytest
from raw_samples import annotation, image_bytes, rectangle, write_raw_sa1b

from datamodules.convert import convert_sa1b
from datamodules.shards import MANIFEST, members_of, sha256
from datamodules.verify import verify
from datamodules.writer import new_shards
from phd.errors import UserError


@pytest.fixture
def shards(tmp_path):
    convert_sa1b(write_raw_sa1b(tmp_path / "raw", 7), tmp_path / "shards", samples_per_shard=3)
    return tmp_path / "shards"


def test_good_shards(shards):
    report = verify(shards)
    assert (report.samples, report.masks, report.crowds, report.shards) == (7, 14, 0, 3)
    assert report.problems == []
    assert report.ok


def sample(jpg=None, record=None):
    good = image_bytes(np.zeros((20, 30, 3), dtype=np.uint8))
    mask = rectangle(20, 30, 2, 3, 5, 6)
    described = {"image": {"height": 20, "width": 30}, "annotations": [annotation(4, mask)]}
    return {
        "jpg": good if jpg is None else jpg,
        "json": json.dumps(described if record is None else record).encode(),
    }


def with_annotations(*annotations):
    return sample(record={"image": {"height": 20, "width": 30}, "annotations": list(annotations)})


EMPTY = rectangle(20, 30, 0, 0, 0, 0)
FULL = rectangle(20, 30, 0, 0, 20, 30)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        (sample(jpg=sample()["jpg"][:-40]), "its image: the image file is truncated, damaged or no image"),
        (sample(jpg=b""), "its image: the image file is empty"),
        ({"jpg": sample()["jpg"], "json": b"{"}, "its JSON cannot be parsed"),
        (sample(record=[]), 'its JSON: has no "image" and "annotations"'),
        (sample(record={"image": {"height": 30, "width": 20}, "annotations": []}), "its image: the image is 20 x 30"),
        (with_annotations(annotation(9, FULL.T)), r"its JSON: annotation 9: the RLE has size [30, 20]"),
        (with_annotations(annotation(9, EMPTY)), "its JSON: annotation 9: its mask has no pixel"),
        (with_annotations({"segmentation": {}}), "its JSON: an annotation has no id"),
        (with_annotations(None), "its JSON: an annotation is no JSON object"),
        ({"jpg": sample()["jpg"]}, "has the members ['jpg'], not jpg and json"),
    ],
)
def test_a_bad_sample_is_listed(tmp_path, members, problem):
    with new_shards(tmp_path / "shards", "sa1b", samples_per_shard=2) as writer:
        writer.write("good", sample())
        writer.write("fine", sample())
        writer.write("bad", members)
        writer.write("more", sample())
    report = verify(tmp_path / "shards")
    assert len(report.problems) == 1
    assert report.problems[0].startswith(f"shard-000001: bad: {problem}")
    assert report.samples == 4  # it reads on


def test_several_problems_of_one_sample(tmp_path):
    crowd = annotation(7, FULL, iscrowd=1)
    with new_shards(tmp_path / "shards", "coco") as writer:
        writer.write("bad", with_annotations(annotation(5, EMPTY), annotation(6, FULL.T), crowd))
    report = verify(tmp_path / "shards")
    assert [problem.split(": ")[3] for problem in report.problems] == ["annotation 5", "annotation 6"]
    assert (report.masks, report.crowds) == (2, 1)


def test_damaged_tar(shards):
    path = shards / "shard-000001.tar"
    os.truncate(path, path.stat().st_size // 2)
    problems = verify(shards).problems
    assert any("shard-000001: has" in problem and "bytes where shards.json says" in problem for problem in problems)
    assert any(problem.startswith("shard-000001: the tar is damaged after sa_") for problem in problems)
    assert "shards.json: says 7 samples, 7 were read" not in problems


def test_flipped_byte_in_an_image(shards):
    path = shards / "shard-000001.tar"
    offset, _ = members_of(path)["sa_4"]["jpg"]
    data = bytearray(path.read_bytes())
    data[offset : offset + 2] = b"xx"
    path.write_bytes(data)
    assert [problem[:20] for problem in verify(shards).problems] == ["shard-000001: sa_4: "]


def test_missing_and_foreign_files(shards):
    (shards / "shard-000000.tar").unlink()
    (shards / "shard-000002.index.json").unlink()
    (shards / "shard-000003.tar.partial").write_bytes(b"")
    report = verify(shards)
    assert report.problems == [
        "shard-000003.tar.partial: not listed in shards.json; left by a conversion that was killed?",
        "shard-000000: shard-000000.tar is missing",
        "shard-000002: shard-000002.index.json is missing",
        "shards.json: says 7 samples, 4 were read",
    ]
    assert (report.samples, report.shards) == (4, 3)


def test_index_of_another_tar(shards):
    index = shards / "shard-000000.index.json"
    index.write_text(index.read_text().replace("sa_1", "sa_9"))
    assert verify(shards).problems == ["shard-000000: shard-000000.index.json is not the one that shards.json lists"]
    # Also with a manifest that agrees with the wrong index.
    manifest = json.loads((shards / MANIFEST).read_text())
    manifest["shards"][0]["index_sha256"] = sha256(index.read_bytes())
    (shards / MANIFEST).write_text(json.dumps(manifest))
    assert verify(shards).problems == [
        "shard-000000: shard-000000.index.json does not fit the tar: they differ at sa_1; is it older than the tar?"
    ]


def test_the_same_key_in_two_shards(shards):
    for suffix in ("tar", "index.json"):
        (shards / f"shard-000001.{suffix}").write_bytes((shards / f"shard-000000.{suffix}").read_bytes())
    problems = verify(shards).problems
    assert "shard-000001: sa_0: the key is also in shard-000000" in problems
    assert sum("the key is also in" in problem for problem in problems) == 3


def test_samples_left_out_on_request_are_no_problem(shards):
    (shards / "skipped.jsonl").write_text("{}\n")
    assert verify(shards).ok


@pytest.mark.parametrize("name", ["masks", "crowds", "samples"])
def test_the_totals_of_the_manifest(shards, name):
    manifest = json.loads((shards / MANIFEST).read_text())
    count = manifest[name]
    manifest[name] += 1
    (shards / MANIFEST).write_text(json.dumps(manifest))
    assert verify(shards).problems == [f"shards.json: says {count + 1} {name}, {count} were read"]


def test_an_image_with_many_pixels_is_not_decoded(shards):
    problems = verify(shards, max_pixels=40 * 60 - 1).problems
    assert len(problems) == 7
    assert problems[0] == (
        "shard-000000: sa_0: its image: has 60 x 40 pixels, more than 2399; allow more with --max-pixels"
    )
    assert verify(shards, max_pixels=40 * 60).ok


def test_no_shards(tmp_path):
    with pytest.raises(UserError, match="no finished shards"):
        verify(tmp_path)
