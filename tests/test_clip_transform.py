"""Clips of videos: which frames, which objects, one view for all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from moving_videos import HEIGHT, WIDTH, moving, reading
from raw_samples import contract, image_bytes, rectangle
from record_samples import changed, video_members, video_record

from datamodules import rle
from datamodules.augmentation import Augmentation, generator
from datamodules.clip_frames import drawn_clip, first_clip, jittered_steps, reflected
from datamodules.clip_transform import ClipChoice, ClipTransform
from datamodules.video_record import frame_extension
from phd.errors import UserError

STILL = Augmentation(0.0, 0.0, (1.0, 1.0), 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("positions", "frames", "expected"),
    [
        ([0, 1, 2, 3, 4, 5, 6], 3, [0, 1, 2, 1, 0, 1, 2]),
        ([1, 0, -1, -2, -3], 3, [1, 0, 1, 2, 1]),
        ([0, 3, 6, 9], 5, [0, 3, 2, 1]),
        ([0, 1, 2], 1, [0, 0, 0]),
        ([0, 1, 2, 3], 2, [0, 1, 0, 1]),
    ],
)
def test_reflection(positions: list[int], frames: int, expected: list[int]):
    assert reflected(np.array(positions), frames).tolist() == expected


def test_steps_are_drawn_from_the_gaps_and_fit():
    drawn = np.stack([jittered_steps(generator(0, epoch, "v"), 8, 100, (1, 3)) for epoch in range(200)])
    assert (drawn[:, 0] == 0).all()
    assert set(np.diff(drawn).ravel()) == {1, 2, 3}
    # 15 frames: 7 steps of 2 just fit, steps of 3 do not.
    narrow = np.stack([jittered_steps(generator(0, epoch, "v"), 8, 15, (1, 3)) for epoch in range(200)])
    assert set(np.diff(narrow).ravel()) == {1, 2}
    assert narrow.max() <= 14
    assert jittered_steps(generator(0, 0, "v"), 1, 15, (1, 3)).tolist() == [0]
    assert np.diff(jittered_steps(generator(0, 0, "v"), 4, 5, (2, 3))).tolist() == [2, 2, 2]  # never below the range


def test_drawn_clips_begin_where_allowed_and_run_both_ways():
    starts = np.zeros(30, dtype=bool)
    starts[[3, 4, 20]] = True
    clips = [drawn_clip(generator(1, epoch, "v"), starts, 8, (1, 2), 0.5) for epoch in range(300)]
    assert {clip[0] for clip in clips} == {3, 4, 20}
    backwards = [clip for clip in clips if clip[1] < clip[0]]
    assert 110 < len(backwards) < 190
    for clip in clips:
        steps = np.diff(clip)
        assert (steps > 0).all() or (steps < 0).all()  # it fits from one of the starts, so it is not reflected
        assert set(np.abs(steps)) <= {1, 2}
    assert all((np.diff(drawn_clip(generator(1, n, "v"), starts, 8, (1, 2), 0.0)) > 0).all() for n in range(50))


def test_drawn_clips_of_short_videos_are_reflected():
    only_last = np.array([False, False, True])
    assert drawn_clip(generator(0, 0, "v"), only_last, 5, (1, 1), 0.0).tolist() == [2, 1, 0, 1, 2]
    nowhere = np.zeros(3, dtype=bool)
    assert drawn_clip(generator(0, 0, "v"), nowhere, 3, (1, 1), 0.0).tolist() == [0, 1, 2]
    assert first_clip(np.array([False, True, True, True]), 5, 2).tolist() == [1, 3, 1, 1, 3]


@pytest.mark.parametrize(
    "augmentation",
    [None, replace(STILL, horizontal_flip=1.0), replace(STILL, crop_probability=1.0, crop_scale=(0.5, 0.8))],
    ids=["plain", "flip", "crop"],
)
@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_masks_lie_on_their_object_in_every_frame(augmentation: Augmentation | None, resize: str):
    record, members = moving(16)
    transform = ClipTransform(contract(60, 30, resize), augmentation, ClipChoice(max_objects=1, min_area_cells=1))
    record["objects"] = record["objects"][:1]
    for epoch in range(6):
        example = transform(record, reading(members), "v", epoch, 6)
        assert example.frames.shape == (6, 3, 60, 60)
        assert example.valid.tolist() == [True]
        red = torch.nn.functional.avg_pool2d(example.frames[:, 0].float() / 255, 2)
        mask = example.masks[:, 0].bool()
        assert not (mask & (red < 0.2)).any()
        assert not (~mask & (red > 0.8)).any()
        assert mask[0].any()
        # The frames are those that are named: green is 10 for each frame of the source.
        frame = example.frames[:, 1, : int(example.content[0]), : int(example.content[1])].float().mean(dim=(1, 2)) / 10
        assert (frame - example.numbers / 4).abs().max() < 0.3


def test_validation_is_the_first_clip_of_every_epoch():
    record, members = moving(12)
    record["objects"][1]["masks"][:3] = [None] * 3
    record["objects"][0]["masks"][:2] = [None] * 2
    asked: list[int] = []
    transform = ClipTransform(contract(), None, ClipChoice(gaps=(2, 3)), train=False)
    example = transform(record, reading(members, asked), "v", 0, 4)
    assert example.numbers.tolist() == asked == [8, 16, 24, 32]
    # Only object 1 is to be seen in frame 2, so only it is followed.
    assert example.valid.tolist() == [True, False, False]
    assert not example.masks[:, 1:].any()
    again = transform(record, reading(members), "v", 5, 4)
    assert torch.equal(again.frames, example.frames)


def test_short_videos_are_reflected_and_every_frame_is_read_once():
    record, members = moving(3)
    asked: list[int] = []
    example = ClipTransform(contract(), train=False)(record, reading(members, asked), "v", 0, 6)
    assert example.numbers.tolist() == [0, 4, 8, 4, 0, 4]
    assert asked == [0, 4, 8]
    assert torch.equal(example.frames[1], example.frames[3])
    assert torch.equal(example.masks[1], example.masks[5])


def test_objects_of_the_first_frame_absence_and_crowds():
    record, members = moving(6)
    record["objects"].append({"id": 3, "masks": record["objects"][1]["masks"], "iscrowd": 1})
    record["objects"][0]["masks"][3] = None
    for epoch in range(8):
        example = ClipTransform(contract(), None, ClipChoice(max_objects=4))(record, reading(members), "v", epoch, 4)
        first = example.numbers[0] // 4
        assert example.valid.sum() == (1 if first == 3 else 2)  # never the crowd
        assert (example.masks[0].flatten(1).any(dim=1) == example.valid).all()
        for time, number in enumerate(example.numbers.tolist()):
            if number == 12 and first != 3:
                assert sorted(example.masks[time].flatten(1).any(dim=1).tolist()) == [False, False, False, True]


def test_objects_are_drawn():
    record, members = moving(4)
    transform = ClipTransform(contract(), None, ClipChoice(max_objects=1))
    lower = [bool(transform(record, reading(members), "v", epoch, 2).masks[0, 0, 10:].any()) for epoch in range(40)]
    assert 8 < sum(lower) < 32


def test_a_crop_without_an_object_in_the_first_frame_is_not_used():
    record, members = moving(4)
    record["objects"] = [{"id": 1, "masks": [rle.encode(rectangle(HEIGHT, WIDTH, 0, 0, 6, 6))] * 4}]
    crops = replace(STILL, crop_probability=1.0, crop_scale=(0.1, 0.1))
    transform = ClipTransform(contract(60, 60), crops)
    assert all(transform(record, reading(members), "v", epoch, 2).valid[0] for epoch in range(12))


def test_a_video_without_objects_gives_a_clip_without_objects():
    record, members = moving(4)
    example = ClipTransform(contract())({**record, "objects": []}, reading(members), "v", 0, 3)
    assert not example.valid.any()
    assert not example.masks.any()
    assert example.labelled.all()


def test_unlabelled_frames_and_void():
    record, members = moving(9)
    record["labelled"] = [0, 4, 8]
    for item in record["objects"]:
        item["masks"] = [mask if place in (0, 4, 8) else None for place, mask in enumerate(item["masks"])]
    undecided = rectangle(HEIGHT, WIDTH, 0, 0, 20, WIDTH)
    record["void"] = [rle.encode(undecided), *[None] * 8]
    labelled = ClipTransform(contract(), train=False)(record, reading(members), "v", 0, 3)
    assert labelled.numbers.tolist() == [0, 16, 32]
    assert labelled.labelled.tolist() == [True] * 3
    assert labelled.void.dtype == torch.bool
    assert labelled.void.flatten(1).sum(dim=1).tolist() == [8 * 16, 0, 0]  # the upper half of a grid of 16
    every = ClipTransform(contract(), None, ClipChoice(labelled_only=False), train=False)
    example = every(record, reading(members), "v", 0, 6)
    assert example.numbers.tolist() == [0, 4, 8, 12, 16, 20]
    assert example.labelled.tolist() == [True, False, False, False, True, False]
    assert not example.masks[~example.labelled].any()


def test_colours_change_alike_in_all_frames():
    """Two flat frames of another grey keep their order and distance under any contrast."""
    record, _ = moving(2)
    members = {
        frame_extension(4 * n): image_bytes(np.full((HEIGHT, WIDTH, 3), level, dtype=np.uint8))
        for n, level in enumerate((100, 140))
    }
    transform = ClipTransform(contract(), replace(STILL, contrast=0.5), ClipChoice(reverse_probability=0.0))
    contrasts = set()
    for epoch in range(12):
        example = transform(record, reading(members), "v", epoch, 2)
        levels = dict(zip(example.numbers.tolist(), example.frames.float().mean(dim=(1, 2, 3)).tolist(), strict=True))
        assert levels[int(example.numbers[0])] == pytest.approx(100 if example.numbers[0] == 0 else 140, abs=1)
        contrasts.add(round((levels[4] - levels[0]) / 40, 1))
    assert len(contrasts) > 3  # were each frame measured by itself, the distance would stay 40
    assert min(contrasts) >= 0.5
    assert max(contrasts) <= 1.5


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("labelled",), [], "s: v: of its 3 frames none is labelled"),
        (("labelled",), [0, 3], '"labelled" names a place beyond them'),
        (("objects", 0, "masks"), [None], "an object or void has 1 masks for 3 frames"),
        (("objects", 0, "masks", 0), {"size": [9, 9], "counts": "1"}, r"object 7: frame 0: the RLE has size \[9, 9\]"),
        (("video", "height"), 21, "RLE has size|frame 0 is 20 x 30 pixels .height x width. but the video 21 x 30"),
    ],
)
def test_damage_is_named(path: tuple[Any, ...], value: Any, message: str):
    record = changed(video_record(), *path, to=value)
    members = video_members(video_record())
    with pytest.raises(UserError, match=message):
        ClipTransform(contract(), train=False)(record, reading(members), "v", 0, 2, "s: v")
