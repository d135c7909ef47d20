import colorsys
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from datamodules.shapes import Identity, Pose, Scene, Thing, numbered_scene, random_background, random_scene, render
from datamodules.shapes.outlines import OUTLINES
from datamodules.shapes.placement import outline_mask
from datamodules.shapes.sa1b import sa1b_record, write_sa1b
from datamodules.shapes.textures import PALETTE, TEXTURES, colour_pair
from phd.errors import UserError

CHROMATIC = sorted(set(PALETTE) - {"white", "black"})


def thing(shape="disk", colour="red", texture="plain", pose=None, seed=0):
    rgb, shade = colour_pair(colour, np.random.default_rng(seed))
    return Thing(Identity(shape, colour, texture, rgb, shade, period=0.45), pose or Pose(0.5, 0.5, 0.5, 0.0))


def scene_of(*things):
    return Scene(random_background(np.random.default_rng(3)), things)


def hue_saturation_value(rgb):
    return colorsys.rgb_to_hsv(*(float(value) / 255.0 for value in rgb))


def hue_gap(first, second):
    return abs((first - second + 0.5) % 1.0 - 0.5) * 360.0


# ------------------------------------------------------------------ scenes


def test_a_scene_is_a_function_of_seed_and_index():
    alone = numbered_scene(5, 7)
    for index in range(7):
        numbered_scene(5, index)
    assert numbered_scene(5, 7) == alone
    assert numbered_scene(5, 8) != alone
    assert numbered_scene(6, 7) != alone


def test_every_thing_of_a_scene_can_be_seen():
    counts = set()
    for index in range(60):
        scene, height, width = numbered_scene(1, index)
        assert 176 <= height <= 320
        assert 176 <= width <= 320
        counts.add(len(scene.things))
        hidden = np.zeros((height, width), dtype=bool)
        for item in reversed(scene.things):
            mask, full_area = outline_mask(item.identity.shape, item.pose, height, width)
            assert 0.16 <= item.pose.size <= 0.50
            assert mask.sum() >= 0.75 * full_area
            visible = mask & ~hidden
            assert visible.sum() >= max(60, 0.45 * full_area)
            hidden |= mask
    assert counts == {2, 3, 4, 5, 6}


def test_every_attribute_occurs():
    things = [item.identity for index in range(60) for item in numbered_scene(2, index)[0].things]
    assert {item.shape for item in things} == set(OUTLINES)
    assert {item.colour for item in things} == set(PALETTE)
    assert {item.texture for item in things} == set(TEXTURES)


def test_some_scenes_hold_twins_and_some_hold_one_attribute_off():
    twins = near = 0
    for index in range(60):
        names = [(t.identity.shape, t.identity.colour, t.identity.texture) for t in numbered_scene(2, index)[0].things]
        same = [sum(x == y for x, y in zip(a, b, strict=True)) for i, a in enumerate(names) for b in names[:i]]
        twins += 3 in same
        near += 2 in same
    assert twins >= 15
    assert near >= 15


def test_a_small_frame_still_shows_sixty_pixels_and_a_tiny_one_is_refused():
    for seed in range(10):
        _, masks = render(random_scene(np.random.default_rng(seed), 64, 90), 64, 90)
        assert masks.sum(axis=(1, 2)).min() >= 60
    with pytest.raises(ValueError, match="too small"):
        random_scene(np.random.default_rng(0), 63, 200)


def test_phrases_go_from_general_to_special():
    assert thing("ring", "red", "striped").phrases() == ("ring", "red ring", "red striped ring")
    assert thing("star", "black", "plain").phrases() == ("star", "black star", "black plain star")


# ------------------------------------------------------------------ pictures


# Areas by elementary geometry, in squared radii.
AREAS = {
    "disk": np.pi,
    "ring": np.pi * (1.0 - 0.52**2),
    "square": 2.0,
    "rectangle": 4 * 0.91 * 0.41,
    "triangle": 0.75 * 3**0.5,
    "star": 10 * 0.5 * 0.46 * np.sin(np.pi / 5),
    "cross": 2 * (2 * 0.95) * (2 * 0.29) - (2 * 0.29) ** 2,
    "heart": 0.785**2 * (2.0 + np.pi / 2),  # a square of side d * sqrt(2) and two half disks on that side
}


@pytest.mark.parametrize("shape", sorted(AREAS))
def test_outline_has_the_area_of_its_shape(shape):
    _, area = outline_mask(shape, Pose(0.5, 0.5, 0.8, 0.7), 250, 250)
    assert area == pytest.approx(AREAS[shape] * 100**2, rel=0.005)


@pytest.mark.parametrize("shape", sorted(OUTLINES))
def test_outline_reaches_the_unit_circle_and_not_beyond(shape):
    axis = np.linspace(-1.2, 1.2, 241, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    distance = OUTLINES[shape](u, v)
    assert distance.dtype == np.float32
    reach = np.hypot(u, v)[distance < 0].max()
    assert 0.95 < reach < 1.01
    # One pixel of a thing of radius 30: the edge is anti-aliased correctly only where the slope is 1.
    slope = np.hypot(*np.gradient(distance, 0.01))[np.abs(distance) < 1 / 30]
    assert np.median(slope) == pytest.approx(1.0, abs=0.02)


def test_later_things_hide_earlier_ones():
    large = thing("disk", "blue", pose=Pose(0.5, 0.5, 0.5, 0.0))
    small = thing("disk", "yellow", pose=Pose(0.5, 0.5, 0.25, 0.0))
    _, masks = render(scene_of(large, small), 200, 200)
    assert masks.dtype == bool
    assert masks.shape == (2, 200, 200)
    assert masks[1].sum() == pytest.approx(np.pi * 25**2, rel=0.01)
    assert masks[0].sum() == pytest.approx(np.pi * (50**2 - 25**2), rel=0.01)
    _, masks = render(scene_of(small, large), 200, 200)
    assert masks[0].sum() == 0
    assert masks[1].sum() == pytest.approx(np.pi * 50**2, rel=0.01)


def test_masks_are_disjoint_and_cover_all_outlines():
    for index in range(10):
        scene, height, width = numbered_scene(4, index)
        image, masks = render(scene, height, width)
        assert image.shape == (height, width, 3)
        assert image.dtype == np.uint8
        assert masks.sum(axis=0).max() == 1
        outlines = [outline_mask(t.identity.shape, t.pose, height, width)[0] for t in scene.things]
        assert np.array_equal(masks.any(axis=0), np.any(outlines, axis=0))


def test_centre_is_in_fractions_of_width_and_height():
    _, masks = render(scene_of(thing(pose=Pose(x=0.25, y=0.75, size=0.3, rotation=0.0))), 200, 300)
    rows, columns = np.nonzero(masks[0])
    assert rows.mean() + 0.5 == pytest.approx(150, abs=0.01)
    assert columns.mean() + 0.5 == pytest.approx(75, abs=0.01)


def test_rotation_turns_clockwise():
    _, masks = render(scene_of(thing("arrow", pose=Pose(0.5, 0.5, 0.5, np.pi / 2))), 200, 200)
    heights = masks[0].sum(axis=0)
    assert heights[75] == pytest.approx(
        27, abs=1
    )  # the shaft, 0.54 radii wide, was at the bottom and is now at the left
    assert heights[105] > 60  # the head


def test_poses_replace_those_of_the_scene():
    scene = scene_of(thing("ring"), thing("star", "green"))
    outside, inside = Pose(-2.0, 0.5, 0.4, 0.0), Pose(0.4, 0.6, 0.4, 1.0)
    image, masks = render(scene, 200, 240, poses=[outside, inside])
    assert masks[0].sum() == 0
    moved = Scene(scene.background, (replace(scene.things[1], pose=inside),))
    expected_image, expected_masks = render(moved, 200, 240)
    assert np.array_equal(image, expected_image)
    assert np.array_equal(masks[1], expected_masks[0])


def test_two_sizes_give_the_same_masks():
    for index in range(5):
        scene = random_scene(np.random.default_rng(index), 200, 280)
        _, small = render(scene, 200, 280)
        _, large = render(scene, 300, 420)
        for a, b in zip(small, large, strict=True):
            enlarged = np.asarray(Image.fromarray(a).resize((420, 300), Image.Resampling.NEAREST))
            assert (enlarged & b).sum() / (enlarged | b).sum() > 0.9


@pytest.mark.parametrize("texture", sorted(TEXTURES))
@pytest.mark.parametrize("colour", CHROMATIC)
def test_rendered_hue_is_nearest_to_its_own_name(colour, texture):
    for seed in range(3):
        image, masks = render(scene_of(thing("disk", colour, texture, seed=seed)), 180, 180)
        hue, saturation, _ = hue_saturation_value(image[masks[0]].mean(axis=0))
        gaps = {name: hue_gap(hue, PALETTE[name][0] / 360.0) for name in CHROMATIC}
        assert min(gaps, key=gaps.__getitem__) == colour
        assert gaps[colour] < 8
        assert saturation > 0.4


@pytest.mark.parametrize("texture", sorted(TEXTURES))
def test_white_and_black_are_grey_and_far_apart(texture):
    values = {}
    for colour in ("white", "black"):
        image, masks = render(scene_of(thing("disk", colour, texture)), 180, 180)
        mean = image[masks[0]].mean(axis=0)
        assert mean.max() - mean.min() < 30
        values[colour] = mean.mean()
    assert values["white"] > 170
    assert values["black"] < 70


@pytest.mark.parametrize("colour", sorted(PALETTE))
def test_second_colour_has_the_hue_of_the_first(colour):
    first, second = colour_pair(colour, np.random.default_rng(0))
    hues = [colorsys.rgb_to_hsv(*rgb)[0] for rgb in (first, second)]
    assert hue_gap(*hues) < 1e-6
    assert abs(max(first) - max(second)) > 0.2


# Share of the second colour on the unit square: half, a dot of radius 0.3 in a cell of side 1, half.
@pytest.mark.parametrize(
    ("texture", "share"), [("plain", 0.0), ("striped", 0.5), ("dotted", np.pi * 0.09), ("checkered", 0.5)]
)
def test_texture_shows_its_share_of_the_second_colour(texture, share):
    axis = (np.arange(900, dtype=np.float32) + 0.5) / 300.0
    u, v = np.meshgrid(axis, axis)
    distance = TEXTURES[texture](u, v, 1.0)
    assert (distance < 0).mean() == pytest.approx(share, abs=0.005)
    assert distance.dtype == np.float32


# ------------------------------------------------------------------ SA-1B files


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
