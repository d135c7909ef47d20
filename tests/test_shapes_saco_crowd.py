"""Crowded scenes: several of a kind, tiny, touching, hidden; and the other scenes stay as they were."""

import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from asked_scenes import clear_and_seen
from scipy.ndimage import binary_dilation
from shape_scenes import scene_of, thing

from datamodules.shapes import Pose, numbered_scene, render
from datamodules.shapes.asked import asked_scene, is_crowded
from datamodules.shapes.crowd import numbered_crowd
from datamodules.shapes.sa1b import sa1b_record
from datamodules.shapes.sight import sight

SCENES = 40


@pytest.fixture(scope="module")
def crowds():
    found = []
    for index in range(SCENES):
        scene, height, width = numbered_crowd(3, index)
        found.append((scene, render(scene, height, width)[1]))
    return found


def test_a_crowd_is_a_function_of_seed_and_index():
    assert numbered_crowd(3, 5) == numbered_crowd(3, 5) != numbered_crowd(3, 6)
    assert numbered_crowd(4, 5) != numbered_crowd(3, 5)


def test_many_of_a_kind(crowds):
    largest = []
    for scene, _ in crowds:
        assert 4 <= len(scene.things) <= 11
        kinds = Counter((t.identity.shape, t.identity.colour, t.identity.texture) for t in scene.things)
        largest.append(max(kinds.values()))
    assert np.mean(np.array(largest) >= 3) > 0.9
    assert max(largest) >= 5


def test_tiny_and_touching_things(crowds):
    tiny = touching = 0
    for scene, masks in crowds:
        shares = masks.sum(axis=(1, 2)) / masks[0].size
        tiny += ((shares > 0) & (shares < 0.005)).sum() >= 2
        shown = [mask for mask in masks if mask.any()]
        wide = [binary_dilation(mask, iterations=1) for mask in shown]
        touching += any((wide[i] & shown[j]).any() for i in range(len(shown)) for j in range(i))
        assert len(scene.things) == len(masks)
    assert tiny > 0.5 * SCENES
    assert touching > 0.7 * SCENES


def test_some_things_are_seen_and_not_clear_and_all_others_are_clear(crowds):
    unclear = []
    for scene, masks in crowds:
        clear, seen = clear_and_seen(scene, masks)
        unclear.append(sum(seen) - sum(clear))
        kinds = [(t.identity.shape, t.identity.colour, t.identity.texture) for t in scene.things]
        shown = {kind for kind, there in zip(kinds, clear, strict=True) if there}
        assert set(kinds) == shown  # what is unclear is of a kind that is clear elsewhere
    assert set(unclear) == {0, 1}
    assert 0.2 < np.mean(unclear) < 0.5


def test_what_is_clear_by_hand():
    large, cover = thing("disk", pose=Pose(0.5, 0.5, 0.4, 0.0)), thing("square", pose=Pose(0.55, 0.5, 0.45, 0.0))
    speck, small = (thing("disk", pose=Pose(x, 0.1, 2 * r / 200, 0.0)) for x, r in ((0.1, 3.8), (0.3, 5.0)))
    outside = thing("disk", pose=Pose(2.0, 0.5, 0.3, 0.0))
    scene = scene_of(large, cover, speck, small, outside)
    masks = render(scene, 200, 200)[1]
    # The square hides most of the disk; 45 pixels are too few; what lies outside the frame cannot be seen.
    assert masks.sum(axis=(1, 2)).tolist()[2] == pytest.approx(45, abs=4)
    assert masks[0].sum() < 0.45 * np.pi * 40**2
    identities, poses = zip(*((item.identity, item.pose) for item in scene.things), strict=True)
    clear, seen = sight(identities, poses, masks)
    assert clear.tolist() == [False, True, False, True, False]
    assert seen.tolist() == [True, True, True, True, False]


def test_the_share_of_crowded_scenes():
    crowded = [is_crowded(7, index, 0.3) for index in range(400)]
    assert 0.22 < np.mean(crowded) < 0.38
    assert not any(is_crowded(7, index, 0.0) for index in range(100))
    assert all(is_crowded(7, index, 1.0) for index in range(100))
    for index in (0, 1):
        assert asked_scene(7, index, crowd=0.0).scene == numbered_scene(7, index)[0]
        assert asked_scene(7, index, crowd=1.0).scene == numbered_crowd(7, index)[0]


def test_the_scenes_of_sa1b_stay_as_they_were():
    """The embedded teacher was trained on them. Masks, which unlike JPEGs do not depend on the version of Pillow."""
    digest = hashlib.sha256()
    for index in range(3):
        scene, height, width = numbered_scene(1, index)
        masks = render(scene, height, width)[1]
        digest.update(json.dumps(sa1b_record(masks, index + 1, "x.jpg")).encode())
    assert digest.hexdigest()[:16] == "75e923025b2ab0d5"
