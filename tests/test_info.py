import json

import numpy as np
import pytest
from raw_samples import annotation, rectangle
from record_samples import changed, concept_members, concept_record, video_members, video_record, write

from datamodules.info import shards_info
from datamodules.tally import Tally
from phd.cli import main
from phd.commands.shards_inspect import described
from phd.errors import UserError


def image_members(height, width, *masks, **more):
    items = [annotation(number, mask, **more) for number, mask in enumerate(masks)]
    record = {"image": {"height": height, "width": width}, "annotations": items}
    return {"jpg": b"is not read", "json": json.dumps(record).encode()}


def test_spread_and_histogram():
    tally = Tally()
    for value in (7, 1, 300, 4, 2):
        tally.add(value)
    assert tally.spread() == {"min": 1, "median": 4, "max": 300}
    assert tally.total == 314
    found = {name: count for name, count in tally.histogram().items() if count}
    assert found == {"1": 1, "2-4": 2, "5-9": 1, "200+": 1}
    assert list(tally.histogram()) == ["0", "1", "2-4", "5-9", "10-19", "20-49", "50-99", "100-199", "200+"]
    tally.add(1)
    assert tally.spread() == {"min": 1, "median": 2, "max": 300}  # the lower of the two in the middle, 2 and 4
    assert Tally().spread() is None


def test_images(tmp_path):
    # 32 x 32 and 96 x 96 are the edges of COCO's sizes: the larger size begins there.
    masks = [rectangle(200, 300, 0, 0, rows, columns) for rows, columns in ((31, 33), (32, 32), (96, 95), (96, 96))]
    samples = {
        "a": image_members(200, 300, *masks),
        "b": image_members(100, 500),
        "c": image_members(200, 300, masks[0], iscrowd=1),
    }
    root = write(tmp_path / "shards", samples)
    numbers = shards_info(root)
    assert (numbers["kind"], numbers["form"], numbers["samples"], numbers["shards"]) == ("test", "image", 3, 2)
    assert numbers["bytes"] == sum(path.stat().st_size for path in root.glob("*.tar"))
    assert numbers["image_width"] == {"min": 300, "median": 300, "max": 500}
    assert numbers["image_height"] == {"min": 100, "median": 200, "max": 200}
    assert (numbers["masks"], numbers["crowds"]) == (4, 1)
    assert numbers["masks_per_image"] == {"min": 0, "median": 0, "max": 4}
    assert {name: count for name, count in numbers["masks_per_image_histogram"].items() if count} == {"0": 2, "2-4": 1}
    assert numbers["mask_sizes"] == {"small": 1, "medium": 2, "large": 1}


def test_an_area_that_is_a_fraction_is_counted_anew(tmp_path):
    full = rectangle(200, 300, 0, 0, 200, 300)
    root = write(tmp_path / "shards", {"a": image_members(200, 300, full, full, area=0.3)})
    assert shards_info(root)["mask_sizes"] == {"small": 0, "medium": 0, "large": 2}
    other = write(tmp_path / "other", {"a": image_members(200, 301, full, area=0.3)})
    with pytest.raises(UserError, match=r"shard-000000\.tar: a: annotation 0: the RLE has size"):
        shards_info(other)


def test_concepts(tmp_path):
    first = concept_record()
    second = changed(
        changed(first, "phrases", to=first["phrases"][:1]), "phrases", 0, "answers", 1, "exhaustive", to=False
    )
    root = write(tmp_path / "shards", {"a": concept_members(first), "b": concept_members(second)}, form="concept")
    numbers = shards_info(root)
    assert numbers["masks"] == 4  # of the first annotator, without the crowds
    assert (numbers["phrases"], numbers["positive_phrases"], numbers["negative_phrases"]) == (4, 3, 1)
    assert numbers["hard_negative_phrases"] == 1
    assert numbers["phrases_per_image"] == {"min": 1, "median": 1, "max": 3}
    assert numbers["exhaustive_answers"] == 7 / 8
    assert numbers["annotators"] == 2
    assert numbers["most_frequent_positive_phrases"] == {"dog": 2, "cat": 1}


def test_videos(tmp_path):
    # Two objects on two labelled frames; the ball is absent from the first.
    bare = {**video_record(), "objects": [], "labelled": [], "frames": [0], "void": [None], "phrases": []}
    del bare["video"]["fps"]
    samples = {"a": video_members(video_record()), "b": video_members(bare)}
    numbers = shards_info(write(tmp_path / "shards", samples, form="video"))
    assert numbers["frames_per_video"] == {"min": 1, "median": 1, "max": 3}
    assert numbers["seconds_per_video"] == {"min": 0.33, "median": 0.33, "max": 0.33}  # 8 frames of 24 a second
    assert (numbers["frames"], numbers["labelled_frames"], numbers["objects"], numbers["masks"]) == (4, 2, 2, 3)
    assert numbers["labelled_frames_per_video"] == {"min": 0, "median": 0, "max": 2}
    assert numbers["objects_that_start_late"] == 1
    assert numbers["share_absent"] == 0.25
    assert (numbers["phrases"], numbers["negative_phrases"]) == (2, 1)


def test_masks_that_do_not_fit_the_frames(tmp_path):
    record = changed(video_record(), "objects", 0, "masks", to=[None])
    root = write(tmp_path / "shards", {"a": video_members(record)}, form="video")
    with pytest.raises(UserError, match="a: its masks do not fit its frames"):
        shards_info(root)


def test_bars_and_units():
    numbers = {"bytes": 2_500_000_000, "masks_per_image_histogram": {"0": 0, "1": 1, "2-4": 400}, "share_absent": 0.25,
               "masks": 7, "image_width": {"min": 3.0, "median": 4, "max": 5.5}, "seconds_per_video": None}  # fmt: skip
    lines = described(numbers)
    assert lines[0].split(maxsplit=1) == ["bytes", "2500000000 (2.50 GB)"]
    assert lines[1] == "masks per image histogram"
    assert [line.count("#") for line in lines[2:5]] == [0, 1, 40]
    assert [line.split()[-1] for line in lines[2:7]] == ["0", "1", "400", "25.0%", "7"]
    assert lines[7].split(maxsplit=2)[2] == "3 to 5.5, median 4"
    assert lines[8].endswith("unknown")


def test_the_command_writes_the_same_as_json(tmp_path, capsys):
    root = write(tmp_path / "shards", {"a": concept_members(concept_record())}, form="concept")
    main(["shards", "info", str(root), "--json", str(tmp_path / "info.json")])
    shown = capsys.readouterr().out
    assert json.loads((tmp_path / "info.json").read_text()) == shards_info(root)
    assert ["positive", "phrases", "2"] in [line.split() for line in shown.splitlines()]
    assert np.array([line.count("#") for line in shown.splitlines()]).max() == 40
    with pytest.raises(SystemExit) as end:
        main(["shards", "info", str(root), "--json", str(tmp_path / "info.json" / "again.json")])
    assert end.value.code == 2
    assert "again.json: cannot be written" in capsys.readouterr().err
