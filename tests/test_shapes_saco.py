"""The embedded world as files of SA-Co/Gold and Silver: genuine fields, true answers, three people."""

import json
from collections import defaultdict

import numpy as np
import pytest
from asked_scenes import overlap
from cli_runs import files, refused
from converted import concepts
from scipy.ndimage import binary_dilation, binary_erosion

from datamodules import rle
from datamodules.concept_record import is_negative
from datamodules.concepts import Concepts
from datamodules.convert import KINDS
from datamodules.shapes.annotators import redraw
from datamodules.shapes.asked import asked_scene
from datamodules.shapes.saco import GOLD_FILES, SILVER_FILES, write_saco_gold, write_saco_silver
from phd.cli import main
from phd.contract import Contract
from phd.teachers import new_toy

SEED, SAMPLES, CROWD = 7, 12, 0.5
PAIR = {
    "id": int,
    "file_name": str,
    "text_input": str,
    "width": int,
    "height": int,
    "queried_category": str,
    "is_instance_exhaustive": int,
    "is_pixel_exhaustive": int,
}
ANNOTATION = {
    "id": int,
    "image_id": int,
    "source": str,
    "area": float,
    "bbox": list,
    "segmentation": dict,
    "category_id": int,
    "iscrowd": int,
}


@pytest.fixture(scope="module")
def gold(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gold") / "raw"
    write_saco_gold(folder, SAMPLES, SEED, crowd=CROWD)
    return folder


@pytest.fixture(scope="module")
def silver(tmp_path_factory):
    folder = tmp_path_factory.mktemp("silver") / "raw"
    write_saco_silver(folder, SAMPLES, SEED, crowd=CROWD)
    return folder


@pytest.fixture(scope="module")
def scenes():
    return [asked_scene(SEED, index, crowd=CROWD) for index in range(SAMPLES)]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_writes_the_same_bytes_with_any_number_of_workers(gold, tmp_path):
    images = {f"images/{number:06d}.jpg" for number in range(1, SAMPLES + 1)}
    assert files(gold) == {*GOLD_FILES, *images}
    write_saco_gold(tmp_path / "two", SAMPLES, SEED, workers=2, crowd=CROWD)
    assert contents(tmp_path / "two") == contents(gold)
    write_saco_gold(tmp_path / "fewer", 3, SEED, crowd=CROWD)
    for name in GOLD_FILES:
        few, all_of_them = (json.loads((folder / name).read_bytes()) for folder in (tmp_path / "fewer", gold))
        for part in ("images", "annotations"):
            assert few[part] == all_of_them[part][: len(few[part])]
    write_saco_gold(tmp_path / "other", 3, SEED + 1, crowd=CROWD)
    assert not set(contents(tmp_path / "other").values()) & set(contents(gold).values())


def test_fields_are_those_of_the_format(gold, silver):
    for path in (*(gold / name for name in GOLD_FILES), *(silver / name for name in SILVER_FILES)):
        content = json.loads(path.read_bytes())
        assert list(content) == ["info", "images", "annotations", "categories"]
        for part, fields in (("images", PAIR), ("annotations", ANNOTATION)):
            assert all({name: type(value) for name, value in item.items()} == fields for item in content[part])
        ids = [item["id"] for item in content["images"]]
        assert ids == list(range(10_000_000, 10_000_000 + len(ids)))
        assert [item["id"] for item in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
        sizes = {item["id"]: (item["height"], item["width"]) for item in content["images"]}
        for item in content["annotations"]:
            mask = rle.decode(item["segmentation"])
            height, width = sizes[item["image_id"]]
            assert mask.shape == (height, width)
            assert item["area"] == pytest.approx(mask.mean())
            assert np.array(item["bbox"]) * [width, height, width, height] == pytest.approx(
                rle.bounding_box(item["segmentation"])
            )


def test_silver_has_the_exact_answers(silver, tmp_path, scenes):
    summary, records = concepts(KINDS["saco-silver"], silver, tmp_path / "out")
    assert summary.samples == SAMPLES
    assert summary.negatives * 2 == summary.phrases
    for record, asked in zip(records.values(), scenes, strict=True):
        masks = {item["id"]: rle.decode(item["segmentation"]) > 0 for item in record["annotations"]}
        for phrase, question in zip(record["phrases"], asked.questions, strict=True):
            (answer,) = phrase["answers"]
            assert (phrase["text"], answer["exhaustive"]) == (question.text, question.exhaustive)
            found = [masks[number] for number in answer["instances"]]
            assert np.array_equal(found, [asked.masks[number] for number in question.things])


def owner_of(mask, asked, question):
    return max(question.things, key=lambda number: overlap(asked.masks[number], mask))


def test_three_annotators_differ_a_little(gold, tmp_path, scenes):
    _, records = concepts(KINDS["saco-gold"], gold, tmp_path / "out")
    overlaps, missed, asked_for = defaultdict(list), 0, 0
    for record, asked in zip(records.values(), scenes, strict=True):
        masks = {item["id"]: rle.decode(item["segmentation"]) > 0 for item in record["annotations"]}
        for phrase, question in zip(record["phrases"], asked.questions, strict=True):
            assert [answer["exhaustive"] for answer in phrase["answers"]] == 3 * [question.exhaustive]
            assert is_negative(phrase) == (not question.things)
            by_annotator = []
            for answer in phrase["answers"]:
                drawn = [masks[number] for number in answer["instances"]]
                # Each mask is of the thing that it overlaps most, and no thing is drawn twice.
                owners = [owner_of(mask, asked, question) for mask in drawn]
                assert len(set(owners)) == len(owners)
                by_annotator.append(dict(zip(owners, drawn, strict=True)))
            for number in question.things:
                found = [answer[number] for answer in by_annotator if number in answer]
                asked_for, missed = asked_for + 3, missed + 3 - len(found)
                overlaps["truth"] += [overlap(asked.masks[number], mask) for mask in found]
                overlaps["each other"] += [overlap(found[0], mask) for mask in found[1:]]
    assert asked_for > 300
    assert 0.002 < missed / asked_for < 0.05
    for values in overlaps.values():
        assert min(values) > 0.5
        assert 0.85 < np.mean(values) < 0.98
    assert max(overlaps["each other"]) < 1.0 or np.mean(np.array(overlaps["each other"]) == 1.0) < 0.05


def test_a_border_is_redrawn_by_two_pixels_at_most():
    large = np.zeros((90, 120), dtype=bool)
    large[20:70, 30:100] = True
    small = np.zeros((90, 120), dtype=bool)
    small[:6, 4:12] = True  # at the edge of the frame
    for mask, most in ((large, 2), (small, 1)):
        areas = set()
        for seed in range(30):
            drawn = redraw(np.random.default_rng(seed), mask)
            square = np.ones((3, 3), dtype=bool)
            assert not (drawn & ~binary_dilation(mask, square, iterations=most)).any()
            assert not (binary_erosion(mask, square, iterations=most, border_value=1) & ~drawn).any()
            areas.add(drawn.sum() / mask.sum())
        assert min(areas) < 1.0 < max(areas)
        assert len(areas) > 3
    speck = np.zeros((9, 9), dtype=bool)
    speck[4, 4] = True
    assert all(redraw(np.random.default_rng(seed), speck).any() for seed in range(20))


def test_the_data_module_takes_what_the_converter_gives(gold, tmp_path, scenes):
    concepts(KINDS["saco-gold"], gold, tmp_path / "out")
    contract: Contract = new_toy(64).contract
    data = Concepts(str(tmp_path / "out"), val_samples=4, batch_size=4, contract=contract)
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    counts = batch.phrase_index.bincount(minlength=len(batch.phrases))
    assert batch.images.shape[0] == 4
    assert 0.4 < (counts == 0).float().mean() < 0.6
    truth = {
        (f"shapes_{number:06d}", question.text): question
        for number, asked in enumerate(scenes, 1)
        for question in asked.questions
    }
    for text, image, count in zip(batch.phrases, batch.image_index.tolist(), counts.tolist(), strict=True):
        question = truth[batch.keys[image], text]
        # One person may have missed one; what is asked has an answer from the first.
        assert bool(count) == bool(question.things)
        assert count >= len(question.things) - 1
    assert batch.exhaustive.tolist().count(True) > 0.7 * len(counts)


def test_the_command_line(tmp_path, silver, capsys):
    order = ["--format", "saco-silver", "--samples", SAMPLES, "--seed", SEED, "--crowd", CROWD]
    main(["shapes", str(tmp_path / "world"), *map(str, order)])
    assert contents(tmp_path / "world") == contents(silver)
    more = ["--samples", "2", "--positives", "2", "--negatives", "2.5", "--hard", "1", "--synonyms", "0"]
    main(["shapes", str(tmp_path / "gold"), "--format", "saco-gold", *more])
    pairs = json.loads((tmp_path / "gold" / GOLD_FILES[0]).read_bytes())["images"]
    assert len(pairs) == 2 * (2 + 5)
    assert "add --format saco-gold or saco-silver, or" in refused(capsys, "shapes", tmp_path / "x", "--crowd", "0.5")
    said = refused(capsys, "shapes", tmp_path / "x", "--format", "saco-gold", "--seconds", 2, 3)
    assert "--seconds is for clips; add --format sav or saco-veval" in said
    for flag, wrong in (("--hard", 2), ("--crowd", -1), ("--positives", 0), ("--negatives", 50)):
        said = refused(capsys, "shapes", tmp_path / "x", "--format", "saco-gold", flag, wrong)
        assert f"{flag[2:]} is {wrong}" in said
    assert not (tmp_path / "x").exists()
