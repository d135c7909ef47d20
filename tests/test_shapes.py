"""Scenes of the embedded world."""

import numpy as np
import pytest
from shape_scenes import thing

from datamodules.shapes import numbered_scene, random_scene, render
from datamodules.shapes.outlines import OUTLINES
from datamodules.shapes.placement import outline_mask
from datamodules.shapes.textures import PALETTE, TEXTURES


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
