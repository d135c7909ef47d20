"""Verify on concept data and on videos."""

import json

import pytest
from record_samples import changed, concept_members, concept_record, grey_jpeg, video_members, video_record, write

from datamodules.verify import verify
from datamodules.verify_sample import SampleCheck
from phd.errors import UserError

CONCEPT, VIDEO = concept_record(), video_record()


def problems(tmp_path, form, members, **details):
    """What is found in the second of two samples."""
    good = concept_members(CONCEPT) if form == "concept" else video_members(VIDEO)
    report = verify(write(tmp_path / "shards", {"good": good, "bad": members}, form=form, **details))
    assert all(line.startswith("shard-000000: bad: ") for line in report.problems)
    return [line.removeprefix("shard-000000: bad: ") for line in report.problems]


def test_good_concepts(tmp_path):
    counts = {"masks": 8, "crowds": 2, "phrases": 6, "negatives": 2}
    samples = {key: concept_members(CONCEPT) for key in ("a", "b")}
    report = verify(write(tmp_path / "shards", samples, form="concept", **counts))
    assert report.problems == []
    assert str(report) == "2 images, 6 phrases (2 negative), 8 masks, 2 crowd regions, 1 shards"


def test_good_videos(tmp_path):
    counts = {"frames": 9, "objects": 6, "masks": 9}
    samples = {key: video_members(VIDEO) for key in ("a", "b", "c")}
    report = verify(write(tmp_path / "shards", samples, form="video", **counts))
    assert report.problems == []
    assert str(report) == "3 videos, 9 frames, 6 objects, 9 masks, 2 shards"


def test_another_count_in_the_manifest(tmp_path):
    report = verify(write(tmp_path / "shards", {"a": video_members(VIDEO)}, form="video", objects=3))
    assert report.problems == ["shards.json: says 3 objects, 2 were read"]


def test_a_video_without_images(tmp_path):
    record = {"json": json.dumps(VIDEO).encode()}
    assert verify(write(tmp_path / "without", {"a": record}, form="video", images=False)).ok
    report = verify(write(tmp_path / "with", {"a": record}, form="video"))
    assert report.problems == [f"shard-000000: a: lacks the frame 00000{number}.jpg" for number in (0, 4, 8)]


def test_every_problem_of_a_concept_sample(tmp_path):
    record = changed(changed(CONCEPT, "phrases", 0, "text", to=""), "annotations", 4, "segmentation", to=None)
    first, second = problems(tmp_path, "concept", concept_members(record))
    assert first.startswith("its JSON: annotation 5: the segmentation is no RLE")
    assert second == "its JSON: phrase dog has no text; name the concept or remove it"


def test_a_concept_sample_whose_image_is_another(tmp_path):
    members = {**concept_members(CONCEPT), "jpg": grey_jpeg(20, 31)}
    (problem,) = problems(tmp_path, "concept", members)
    assert problem.startswith("its image: the image is 20 x 31")


def test_records_of_another_form(tmp_path):
    (problem,) = problems(tmp_path, "concept", concept_members({**CONCEPT, "phrases": None}))
    assert problem.startswith('its JSON: has no list of "phrases"')
    video = {**video_members(VIDEO), "json": json.dumps(CONCEPT).encode()}
    report = verify(write(tmp_path / "video", {"bad": video}, form="video"))
    assert report.problems[0].startswith('shard-000000: bad: its JSON: has no "video"')


def test_every_problem_of_a_video(tmp_path):
    members = video_members(changed(VIDEO, "objects", 1, "masks", 2, to=VIDEO["objects"][1]["masks"][1]))
    members["000000.jpg"] = grey_jpeg(30, 20)
    members["000004.jpg"] = members["000004.jpg"][:-40]
    found = problems(tmp_path, "video", members)
    assert [problem.split(";")[0] for problem in found] == [
        "its JSON: object 9: frame 8 has a mask but is not labelled",
        "000000.jpg: is 30 x 20 pixels (height x width), the video 20 x 30",
        "000004.jpg: the image file is truncated, damaged or no image and cannot be decoded",
    ]


def test_frames_that_are_not_those_of_the_record(tmp_path):
    members = video_members(VIDEO)
    members["000012.jpg"] = members.pop("000008.jpg")
    assert problems(tmp_path, "video", members) == [
        "lacks the frame 000008.jpg",
        "has the member 000012.jpg, which is no frame of its JSON",
    ]


def test_frames_in_another_order():
    members = video_members(VIDEO)
    check = SampleCheck("video", images=True, max_pixels=10**6)
    assert check(["000000.jpg", "000004.jpg", "000008.jpg", "json"], members.__getitem__)[0] == []
    assert check(["json", "000004.jpg", "000000.jpg", "000008.jpg"], members.__getitem__)[0] == [
        "its frames are not in the order of its JSON"
    ]


def test_a_form_from_the_future(tmp_path):
    root = write(tmp_path / "shards", {"a": concept_members(CONCEPT)}, form="scene")
    with pytest.raises(UserError, match="its samples are 'scene'"):
        verify(root)
