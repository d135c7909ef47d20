"""The moving world as files of SA-Co/VEval: genuine fields, true pairs, the masks of SA-V's format."""

import json
from collections import defaultdict

import numpy as np
import pytest
from asked_scenes import missing
from cli_runs import files, refused
from converted import SHARED
from PIL import Image

from datamodules import rle
from datamodules.convert import convert
from datamodules.convert.veval import SACO_VEVAL
from datamodules.reader import ShardReader
from datamodules.shapes import numbered_clip
from datamodules.shapes.phrases import all_texts
from datamodules.shapes.questions import Asking
from datamodules.shapes.veval import ANNOTATIONS, FRAMES, write_veval
from phd.cli import main

SEED, SAMPLES, SECONDS = 7, 3, (2.0, 2.0)
GENUINE = SHARED.parent / "oracles" / "veval_toy" / "toy_saco_veval_sav_test_gt.json"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("veval") / "raw"
    write_veval(folder, SAMPLES, SEED, seconds=SECONDS)
    return folder


@pytest.fixture(scope="module")
def content(raw):
    return json.loads((raw / ANNOTATIONS).read_bytes())


@pytest.fixture(scope="module")
def clips():
    return [numbered_clip(SEED, index, SECONDS) for index in range(SAMPLES)]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_writes_the_same_bytes_with_any_number_of_workers(raw, tmp_path):
    frames = {f"{FRAMES}/shapes_{n:06d}/{frame:05d}.jpg" for n in range(1, SAMPLES + 1) for frame in range(0, 48, 4)}
    assert files(raw) == {ANNOTATIONS, *frames}
    write_veval(tmp_path / "again", SAMPLES, SEED, workers=2, seconds=SECONDS)
    assert contents(tmp_path / "again") == contents(raw)


def test_pairs_are_true_of_the_clip(content, clips):
    """Brute force over the words: a pair has a masklet for each object that it is true of, and no other."""
    found = defaultdict(list)
    for item in content["annotations"]:
        found[item["video_id"], item["category_id"]].append(item)
    names = {item["id"]: item["name"] for item in content["categories"]}
    counts = defaultdict(lambda: [0, 0])
    for pair in content["video_np_pairs"]:
        clip, text = clips[pair["video_id"]], pair["noun_phrase"]
        things = [clip.scene.things[number].identity for number in clip.objects]
        answers = found[pair["video_id"], pair["category_id"]]
        assert names[pair["category_id"]] == text
        assert pair["num_masklets"] == len(answers) == sum(not missing(text, identity) for identity in things)
        assert all(item["noun_phrase"] == text for item in answers)
        counts[pair["video_id"]][bool(answers)] += 1
    assert len(counts) == SAMPLES
    assert all(false == true >= 3 for false, true in counts.values())
    assert sum(pair["num_masklets"] for pair in content["video_np_pairs"]) == len(content["annotations"])


def test_masklets_are_the_objects(raw, content, clips, tmp_path):
    out = tmp_path / "shards"
    convert(SACO_VEVAL, SACO_VEVAL.options(raw / ANNOTATIONS, out, frames=str(raw / FRAMES)))
    reader = ShardReader(out)
    assert len(reader) == SAMPLES
    clip, record = clips[0], reader.record(0)
    assert record["frames"] == list(clip.annotated)
    pictures = list(clip.pictures())
    for item in record["objects"]:
        fitting = [place for place, number in enumerate(clip.objects)
                   if not missing(item["phrase"], clip.scene.things[number].identity)]  # fmt: skip
        shown = [[pictures[frame][1][place] for frame in clip.annotated] for place in fitting]
        mine = [np.zeros_like(shown[0][0]) if mask is None else rle.decode(mask) > 0 for mask in item["masks"]]
        assert sum(np.array_equal(mine, masks) for masks in shown) == 1
    absent = [mask is None for item in content["annotations"] for mask in item["segmentations"]]
    assert 0 < np.mean(absent) < 0.6
    picture = np.asarray(Image.open(raw / FRAMES / "shapes_000001" / "00008.jpg")).astype(int)
    assert np.abs(picture - pictures[8][0]).mean() < 6 < np.abs(picture - pictures[24][0]).mean()


def test_fields_have_the_types_of_the_published_file(content):
    if not GENUINE.exists():
        pytest.skip("no VEval file; set PHD_SHARED to the folder that holds oracles/veval_toy")
    genuine = json.loads(GENUINE.read_bytes())
    assert set(content) == set(genuine)

    def form(item):
        # The first entry that is not null stands for a list.
        return {
            name: type(next((entry for entry in value if entry), None)) if isinstance(value, list) else type(value)
            for name, value in item.items()
        }

    for part in ("videos", "annotations", "categories", "video_np_pairs"):
        assert form(content[part][0]) == form(genuine[part][0])
    ours, theirs = (next(item for item in file["annotations"] if None in item["areas"]) for file in (content, genuine))
    for item in (ours, theirs):
        place = item["areas"].index(None)
        assert item["bboxes"][place] is item["segmentations"][place] is None
    assert [type(value) for value in next(box for box in ours["bboxes"] if box)] == 4 * [float]


def test_categories_are_the_same_for_every_seed(content, tmp_path):
    write_veval(tmp_path / "other", 1, SEED + 1, seconds=SECONDS, asking=Asking(positives=1, negatives=4.0))
    other = json.loads((tmp_path / "other" / ANNOTATIONS).read_bytes())
    assert other["categories"] == content["categories"]
    assert [item["name"] for item in content["categories"]] == list(all_texts())
    assert [bool(pair["num_masklets"]) for pair in other["video_np_pairs"]] == [True, False, False, False, False]


def test_the_command_line(raw, tmp_path, capsys):
    order = ["--format", "saco-veval", "--samples", "3", "--seed", str(SEED), "--seconds", "2", "2"]
    main(["shapes", str(tmp_path / "world"), *order])
    assert contents(tmp_path / "world") == contents(raw)
    assert "is not empty" in refused(capsys, "shapes", tmp_path / "world", *order)
    assert "--crowd is for" in refused(capsys, "shapes", tmp_path / "x", *order, "--crowd", "1")
    assert "give two numbers" in refused(capsys, "shapes", tmp_path / "x", *order[:-2], "5", "3")
