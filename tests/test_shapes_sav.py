"""The embedded world as files of SA-V: genuine fields, pictures and masks of the same frame, the same bytes again."""

import io
import json
from itertools import pairwise

import av
import numpy as np
import pytest
from cli_runs import files, refused
from converted import SHARED, contents
from PIL import Image
from scipy.ndimage import binary_erosion
from shape_scenes import CHROMATIC

from datamodules import rle
from datamodules.convert import convert
from datamodules.convert.sav import SAV
from datamodules.reader import ShardReader
from datamodules.shapes import numbered_clip, render
from datamodules.shapes.sav import sav_record, write_sav
from phd.cli import main
from phd.errors import UserError

SEED, SECONDS = 7, (2.0, 2.0)
KEYS = [
    "video_id",
    "video_duration",
    "video_frame_count",
    "video_height",
    "video_width",
    "video_resolution",
    "video_environment",
    "video_split",
    "masklet",
    "masklet_id",
    "masklet_size_rel",
    "masklet_size_abs",
    "masklet_size_bucket",
    "masklet_visibility_changes",
    "masklet_first_appeared_frame",
    "masklet_frame_count",
    "masklet_edited_frame_count",
    "masklet_type",
    "masklet_stability_score",
    "masklet_num",
]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moving") / "raw"
    write_sav(folder, samples=2, seed=SEED, seconds=SECONDS)
    return folder


@pytest.fixture(scope="module")
def shards(raw):
    out = raw.with_name("shards")
    convert(SAV, SAV.options(raw, out))
    return ShardReader(out)


def record_of(raw, number):
    return json.loads((raw / f"sav_00000{number + 1}_manual.json").read_text())


def test_the_same_seed_writes_the_same_bytes_with_any_number_of_workers(raw, tmp_path):
    assert files(raw) == {f"sav_00000{number}{end}" for number in (1, 2) for end in (".mp4", "_manual.json")}
    write_sav(tmp_path / "again", samples=2, seed=SEED, seconds=SECONDS, workers=2)
    assert contents(tmp_path / "again") == contents(raw)


def test_fields_are_those_of_the_published_file(raw):
    for number in range(2):
        record = record_of(raw, number)
        assert list(record) == [*KEYS, "world"]
        count, annotated = record["masklet_num"], len(record["masklet"])
        assert record["video_id"] == f"sav_00000{number + 1}"
        assert (record["video_duration"], record["video_frame_count"], annotated) == (2.0, 48.0, 12)
        assert record["video_resolution"] == record["video_height"] * record["video_width"]
        assert {len(row) for row in record["masklet"]} == {count}
        assert all(len(record[name]) == count for name in KEYS if name.startswith("masklet_") and name != "masklet_num")
        assert len(record["world"]["phrases"]) == count


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published SA-V sample is not here")
def test_values_have_the_types_of_the_published_file(raw):
    published = json.loads((SHARED / "raw" / "sa_v" / "sav_000001_manual.json").read_text())
    assert list(published) == KEYS

    def shape(value, depth=2):
        if isinstance(value, list) and depth:
            return [shape(value[0], depth - 1)]
        return {key: type(entry) for key, entry in value.items()} if isinstance(value, dict) else type(value)

    record = record_of(raw, 0)
    assert {name: shape(record[name]) for name in KEYS} == {name: shape(published[name]) for name in KEYS}


def test_record_of_masks_made_by_hand():
    masks = np.zeros((4, 2, 6, 9), dtype=bool)
    masks[:3, 0, 1:4, 2:7] = True  # 15 pixels
    masks[3, 0, 0, 0] = True
    masks[1, 1, 2:4, 3] = masks[3, 1, 5, 8] = True
    record = sav_record(masks, "v", frames=14, fps=24, environment="Indoor")
    assert record["masklet"][0][1] == {"size": [6, 9], "counts": "f1"}  # an empty mask: one run of 54 zeros
    assert np.array_equal(rle.decode(record["masklet"][2][0]), masks[2, 0])
    assert record["masklet_size_abs"] == [11.5, 1.5]  # means over the frames in which it is seen
    assert record["masklet_size_rel"] == [0.212962963, 0.0277777778]
    assert record["masklet_visibility_changes"] == [0, 2]  # after the first appearance
    assert record["masklet_first_appeared_frame"] == [0.0, 1.0]
    assert record["masklet_frame_count"] == [4, 4]
    assert record["masklet_size_bucket"] == ["small", "small"]
    assert record["video_duration"] == 14 / 24


@pytest.mark.parametrize(("side", "bucket"), [(31, "small"), (32, "medium"), (95, "medium"), (96, "large")])
def test_size_buckets(side, bucket):
    record = sav_record(np.ones((1, 1, side, side), dtype=bool), "v", 1, 24, "Indoor")
    assert record["masklet_size_bucket"] == [bucket]


def test_the_converter_takes_the_files_and_keeps_what_they_say(raw, shards):
    assert len(shards) == 2
    for number in range(2):
        record, source = shards.record(number), record_of(raw, number)
        assert record["frames"] == list(range(0, 48, 4))
        assert record["video"]["world"] == source["world"]
        assert record["video"]["fps"] == 24.0
        clip = numbered_clip(SEED, number, SECONDS)
        assert [entry["id"] for entry in record["objects"]] == list(range(len(clip.objects)))
        for place, frame in enumerate(record["frames"]):
            _, masks = render(clip.scene, clip.height, clip.width, clip.poses[frame])
            for entry, mask in zip(record["objects"], masks[clip.objects], strict=True):
                code = entry["masks"][place]
                assert np.array_equal(rle.decode(code), mask) if mask.any() else code is None


def hue_share(pixels, mask, rgb):
    """The share of a mask's pixels whose hue is that of a colour, its border left out."""
    inner = binary_erosion(mask, iterations=2)
    hues = np.asarray(Image.fromarray(pixels).convert("HSV"))[inner][:, 0].astype(int)
    wanted = Image.new("RGB", (1, 1), tuple(round(255 * value) for value in rgb)).convert("HSV").getpixel((0, 0))[0]
    return float((np.abs((hues - wanted + 128) % 256 - 128) <= 18).mean())


def decoded(shards, number, frame):
    return np.asarray(Image.open(io.BytesIO(shards.member(number, f"{frame:06d}.jpg"))))


def test_the_colour_inside_a_mask_is_that_of_its_object(shards):
    checked = 0
    for number in range(2):
        clip, record = numbered_clip(SEED, number, SECONDS), shards.record(number)
        for index, entry in zip(clip.objects, record["objects"], strict=True):
            identity = clip.scene.things[index].identity
            if identity.colour not in CHROMATIC:
                continue
            for frame, code in zip(record["frames"], entry["masks"], strict=True):
                if code is not None and binary_erosion(rle.decode(code), iterations=2).sum() >= 60:
                    share = hue_share(decoded(shards, number, frame), rle.decode(code) > 0, identity.rgb)
                    assert share > 0.9, (number, frame, identity.colour)
                    checked += 1
    assert checked >= 20


def test_masks_are_not_off_by_one_frame(shards):
    """Where the masks of neighbouring source frames differ, the video's picture is that of the annotated frame."""
    compared = 0
    for number in range(2):
        pictures = list(numbered_clip(SEED, number, SECONDS).pictures())
        record = shards.record(number)
        for place, frame in enumerate(record["frames"][1:], start=1):
            codes = [entry["masks"][place] for entry in record["objects"]]
            things = np.any([rle.decode(code) for code in codes if code is not None], axis=0)
            neighbours = {other: pictures[other] for other in (frame - 1, frame + 1)}
            for other, (image, masks) in neighbours.items():
                moved = masks.any(axis=0) != things
                if moved.sum() < 100:
                    continue
                seen = decoded(shards, number, frame)[moved].astype(int)
                right, wrong = (np.abs(seen - picture[moved]).mean() for picture in (pictures[frame][0], image))
                assert 2 * right < wrong, (number, frame, other)
                compared += 1
    assert compared >= 15


def test_the_video_has_24_frames_a_second_and_noise_of_its_own_in_each(raw):
    with av.open(str(raw / "sav_000001.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == 24
        frames = [frame.to_ndarray(format="gray").astype(int) for frame in container.decode(video=0)]
    assert len(frames) == 48
    assert all((one != other).mean() > 0.05 for one, other in pairwise(frames))


def test_the_command_line(tmp_path, raw, capsys):
    order = ["--format", "sav", "--samples", "1", "--seed", str(SEED), "--seconds", "2", "2"]
    main(["shapes", str(tmp_path / "world"), *order])
    assert contents(tmp_path / "world") == {name: data for name, data in contents(raw).items() if "000001" in name}
    assert "is not empty" in refused(capsys, "shapes", tmp_path / "world", *order)
    for wrong in (("5", "3"), ("1", "3"), ("3", "9999"), ("nan", "3")):
        said = refused(capsys, "shapes", tmp_path / "new", "--format", "sav", "--seconds", *wrong)
        assert "give two numbers from 2 to 600" in said
    assert "--seconds is for clips" in refused(capsys, "shapes", tmp_path / "new", "--seconds", "2", "3")
    assert "--occlusion is for clips" in refused(capsys, "shapes", tmp_path / "new", "--occlusion", "long")
    assert not (tmp_path / "new").exists()


def test_a_long_occlusion_is_in_the_record(tmp_path):
    write_sav(tmp_path / "raw", samples=1, seed=SEED, seconds=SECONDS, occlusion="long")
    record = record_of(tmp_path / "raw", 0)
    hidden = np.array([[mask["counts"] == record_empty(record) for mask in row] for row in record["masklet"]])
    longest = int(hidden.mean(axis=0).argmax())
    assert hidden.mean(axis=0)[longest] >= 0.5
    assert not hidden[0, longest]
    assert any(span["object"] == longest for span in record["world"]["occlusion"])


def record_empty(record):
    size = (int(record["video_height"]), int(record["video_width"]))
    return rle.encode(np.zeros(size, dtype=np.uint8))["counts"]


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"seed": -1}, {"workers": 0}])
def test_a_number_out_of_range_is_refused_before_anything_is_written(tmp_path, wrong):
    name = next(iter(wrong))
    with pytest.raises(UserError, match=f"{name} is {wrong[name]}"):
        write_sav(tmp_path / "out", **{"samples": 1, "seed": 0, "workers": 1, **wrong})
    assert not (tmp_path / "out").exists()
