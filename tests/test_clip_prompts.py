"""What a clip is asked in training."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from phd.errors import UserError
from phd.prompts import boxes_from_masks, jitter_boxes, random_points
from phd.stages.clip_prompts import ClipMix, draw_plan, first_prompts

MASK = ClipMix(mask=1.0, point=0.0, box=0.0)


def plans(mix: ClipMix, frames: int = 8, count: int = 400) -> list:
    generator = torch.Generator().manual_seed(0)
    return [draw_plan(mix, frames, generator) for _ in range(count)]


def test_shares_and_corrections() -> None:
    drawn = plans(ClipMix())
    kinds = Counter(plan.kind for plan in drawn)
    assert kinds["mask"] / 400 == pytest.approx(0.5, abs=0.08)
    assert kinds["point"] / 400 == pytest.approx(0.25, abs=0.08)
    assert Counter(len(plan.corrected) for plan in drawn).keys() == {1, 2}
    assert all(plan.clicks == 3 and set(plan.corrected) <= set(range(8)) for plan in drawn)
    # A mask that is given is right; what begins with a point or a box is corrected in its first frame.
    assert all((0 in plan.corrected) == (plan.kind != "mask") for plan in drawn)
    assert {frame for plan in drawn for frame in plan.corrected} == set(range(8))


def test_stills_are_asked_as_images_are() -> None:
    drawn = plans(ClipMix(stills=0.4))
    stills = [plan for plan in drawn if plan.frames == 1]
    assert len(stills) / 400 == pytest.approx(0.4, abs=0.08)
    assert {plan.kind for plan in stills} == {"point", "box"}
    assert {(plan.corrected, plan.clicks) for plan in stills} == {((0,), 3)}
    drawn = plans(ClipMix(mask=0.5, point=0.0, box=0.5, stills=0.9))
    assert {plan.kind for plan in drawn if plan.frames == 1} == {"box"}
    assert not any(plan.frames == 1 for plan in plans(ClipMix()))


def test_a_lead_in_is_drawn_and_the_same_number_of_frames_follows() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_plan(ClipMix(stills=0.1), 12, generator, lead_in=8) for _ in range(400)]
    clips = [plan for plan in drawn if plan.frames != 1]
    assert {plan.lead_in for plan in clips} == set(range(9))
    assert all(plan.frames == plan.lead_in + 4 for plan in clips)
    assert all(0 <= frame < plan.lead_in + 4 for plan in clips for frame in plan.corrected)
    assert {plan.lead_in for plan in drawn if plan.frames == 1} == {0}
    assert {(plan.frames, plan.lead_in) for plan in plans(ClipMix())} == {(8, 0)}
    assert {(plan.frames, plan.lead_in) for plan in plans(ClipMix(clicks=0))} == {(8, 0)}


def test_stills_need_a_point_or_a_box() -> None:
    with pytest.raises(UserError, match="stills begin with a point or a box"):
        ClipMix(mask=1.0, point=0.0, box=0.0, stills=0.1)
    with pytest.raises(UserError, match=r"stills is 1\.0; give a share"):
        ClipMix(stills=1.0)


@pytest.mark.parametrize("mix", [ClipMix(corrected_frames=0), ClipMix(clicks=0)])
def test_no_corrections(mix: ClipMix) -> None:
    assert all(plan.corrected == () for plan in plans(mix, count=20))


def test_a_clip_of_one_frame_has_none() -> None:
    assert {plan.corrected for plan in plans(MASK, frames=1, count=20)} == {()}


def test_first_prompts_by_hand() -> None:
    masks = torch.zeros(1, 8, 8)
    masks[0, 2:5, 1:6] = 1
    box = first_prompts("box", ClipMix(), masks, 16, None)
    assert box.boxes is not None
    assert box.boxes.tolist() == [[2.0, 4.0, 12.0, 10.0]]
    point = first_prompts("point", ClipMix(), masks, 16, None)
    assert point.points is not None
    assert point.labels is not None
    assert point.points.tolist() == [[[6.5, 6.5]]]  # the centre of cell (3, 3), whose pixels are 6 and 7
    assert point.labels.tolist() == [[1]]
    drawn = first_prompts("point", ClipMix(), masks, 16, torch.Generator().manual_seed(1))
    assert drawn.points is not None
    x, y = ((drawn.points[0, 0] + 0.5) / 2).tolist()
    assert masks[0, int(y), int(x)] == 1
    moved = first_prompts("box", ClipMix(box_jitter_limit=1.0), masks, 16, torch.Generator().manual_seed(1))
    assert moved.boxes is not None
    change = (moved.boxes - box.boxes).abs()
    assert 0 < float(change.max()) <= 1


def test_first_prompts_make_one_draw() -> None:
    """Another order would give a run that is repeated, or goes on, other prompts."""
    masks = torch.zeros(3, 8, 8)
    masks[0, 2:5, 1:6], masks[1, :7, 3], masks[2] = 1, 1, 1
    box = first_prompts("box", ClipMix(), masks, 16, torch.Generator().manual_seed(2))
    point = first_prompts("point", ClipMix(), masks, 16, torch.Generator().manual_seed(2))
    boxes = jitter_boxes(boxes_from_masks(masks), 0.1, 20 * 8 / 16, 8, torch.Generator().manual_seed(2))
    points = random_points(masks, torch.Generator().manual_seed(2))
    assert box.boxes is not None
    assert torch.equal(box.boxes, 2 * boxes)
    assert point.points is not None
    assert torch.equal(point.points[:, 0], 2 * points - 0.5)
    assert box.image_index.tolist() == point.image_index.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "settings", [{"mask": -0.1}, {"mask": 0.0, "point": 0.0, "box": 0.0}, {"clicks": -1}, {"corrected_frames": -1}]
)
def test_settings_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(UserError, match="prompts"):
        ClipMix(**settings)  # type: ignore[arg-type]
