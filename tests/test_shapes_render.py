"""Pictures of the embedded world: outlines, masks, colours, textures."""

import colorsys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from shape_scenes import CHROMATIC, hue_gap, hue_saturation_value, scene_of, thing

from datamodules.shapes import Pose, Scene, numbered_scene, random_scene, render
from datamodules.shapes.outlines import OUTLINES
from datamodules.shapes.placement import outline_mask
from datamodules.shapes.textures import PALETTE, TEXTURES, colour_pair

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
