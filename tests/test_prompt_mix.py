"""Which prompts a step asks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from phd.contract import Prompts
from phd.errors import UserError
from phd.prompts import boxes_from_masks, centre_points, coarse_masks, jitter_boxes, random_points
from phd.stages.prompt_mix import PromptMix, draw_prompts, fixed_prompts

GRID, SIDE = 16, 64  # one cell covers four pixels


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def given(values: Tensor | None) -> Tensor:
    assert values is not None
    return values


def rectangles(count: int, seed: int = 0) -> Tensor:
    """Masks (count, GRID, GRID) of random rectangles, at least 2 x 2."""
    generator = seeded(seed)
    low = torch.randint(0, GRID - 2, (count, 2), generator=generator)
    high = torch.maximum(low + 2, torch.randint(0, GRID + 1, (count, 2), generator=generator))
    index = torch.arange(GRID)
    columns = (index >= low[:, :1]) & (index < high[:, :1])
    rows = (index >= low[:, 1:]) & (index < high[:, 1:])
    return (rows[:, :, None] & columns[:, None, :]).float()


def draw(mix: PromptMix, masks: Tensor, seed: int = 0) -> dict[str, tuple[Tensor, Prompts]]:
    # Images in descending order, so that an index into the instances cannot pass for one into the images.
    return draw_prompts(mix, masks, torch.arange(len(masks)).flip(0), SIDE, seeded(seed))


def covered(masks: Tensor, points: Tensor) -> Tensor:
    """Value of each mask in the cell under its point (P, 1, 2) in contract pixels."""
    x, y = ((points[:, 0] + 0.5) * GRID / SIDE).floor().long().unbind(-1)
    return masks[torch.arange(len(masks)), y, x]


def test_shares_are_kept_and_every_instance_gets_one_kind() -> None:
    masks = rectangles(2000)
    drawn = draw(PromptMix(box=1.0, point=2.0, mask=1.0), masks)
    assert list(drawn) == ["box", "point", "mask"]
    shares = [len(chosen) / 2000 for chosen, _ in drawn.values()]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    everyone = torch.cat([chosen for chosen, _ in drawn.values()])
    assert everyone.sort().values.tolist() == list(range(2000))


def test_prompts_belong_to_the_images_of_their_instances() -> None:
    drawn = draw(PromptMix(mask=0.5), rectangles(60))
    assert len(drawn) == 3
    for chosen, prompts in drawn.values():
        assert len(prompts) == len(chosen) > 5
        assert torch.equal(prompts.image_index, 59 - chosen)


@pytest.mark.parametrize("kind", ["box", "point", "mask"])
def test_a_kind_without_a_share_is_not_asked(kind: str) -> None:
    only = PromptMix(**{"box": 0.0, "point": 0.0, "mask": 0.0, kind: 1.0})
    assert list(draw(only, rectangles(30))) == [kind]
    others = PromptMix(**{"box": 1.0, "point": 1.0, "mask": 1.0, kind: 0.0})
    assert kind not in draw(others, rectangles(30))


def test_each_kind_brings_its_own_fields() -> None:
    drawn = draw(PromptMix(mask=0.5), rectangles(60))
    fields = {
        kind: [name for name in ("points", "labels", "boxes", "masks") if getattr(prompts, name) is not None]
        for kind, (_, prompts) in drawn.items()
    }
    assert fields == {"box": ["boxes"], "point": ["points", "labels"], "mask": ["masks"]}
    assert {kind: prompts.ambiguous for kind, (_, prompts) in drawn.items()} == {
        "box": False,
        "point": True,
        "mask": False,
    }


def test_boxes_without_jitter_are_tight() -> None:
    masks = rectangles(20)
    chosen, prompts = draw(PromptMix(box=1.0, point=0.0, box_jitter=0.0), masks)["box"]
    assert prompts.boxes is not None
    assert torch.equal(prompts.boxes, 4 * boxes_from_masks(masks[chosen]))


def test_the_limit_of_the_jitter_is_in_contract_pixels() -> None:
    masks = rectangles(300)
    chosen, prompts = draw(PromptMix(box=1.0, point=0.0, box_jitter=0.5, box_jitter_limit=6.0), masks)["box"]
    assert prompts.boxes is not None
    change = (prompts.boxes - 4 * boxes_from_masks(masks[chosen])).abs()
    # An edge moves by up to 6; only where a thin box turns inside out do its edges trade places.
    untouched = (masks[chosen].sum((1, 2)) > 60)[:, None]
    assert (change * untouched).max().item() == pytest.approx(6.0, abs=1e-4)
    assert prompts.boxes.min() >= 0
    assert prompts.boxes.max() <= SIDE


def test_points_are_positive_and_on_their_masks() -> None:
    masks = rectangles(200)
    chosen, prompts = draw(PromptMix(box=0.0, point=1.0), masks)["point"]
    assert prompts.points is not None
    assert prompts.points.shape == (200, 1, 2)
    assert prompts.labels is not None
    assert prompts.labels.tolist() == [[1]] * 200
    assert (covered(masks[chosen], prompts.points) == 1).all()


@pytest.mark.parametrize(("centre", "low", "high"), [(0.0, 0.0, 0.2), (0.5, 0.45, 0.7), (1.0, 1.0, 1.0)])
def test_the_share_of_central_points(centre: float, low: float, high: float) -> None:
    masks = rectangles(600)
    chosen, prompts = draw(PromptMix(box=0.0, point=1.0, centre=centre), masks)["point"]
    assert prompts.points is not None
    central = (prompts.points[:, 0] == 4 * centre_points(masks[chosen]) - 0.5).all(dim=1)
    assert low <= central.float().mean().item() <= high


def test_mask_prompts_resemble_their_masks() -> None:
    masks = rectangles(100)
    chosen, prompts = draw(PromptMix(box=0.0, point=0.0, mask=1.0), masks)["mask"]
    assert prompts.masks is not None
    assert prompts.masks.shape == (100, 1, GRID, GRID)
    overlap = ((prompts.masks[:, 0] > 0) & (masks[chosen] > 0)).sum((1, 2))
    assert (overlap > 0).all()
    assert not torch.equal((prompts.masks[:, 0] > 0).float(), masks[chosen])


def test_prompts_are_a_function_of_the_generator() -> None:
    mix, masks = PromptMix(mask=0.5), rectangles(40)
    first, again, other = draw(mix, masks, 1), draw(mix, masks, 1), draw(mix, masks, 2)
    for kind, (chosen, prompts) in first.items():
        assert torch.equal(chosen, again[kind][0])
        for name in ("image_index", "points", "boxes", "masks"):
            mine, theirs = getattr(prompts, name), getattr(again[kind][1], name)
            assert theirs is None if mine is None else torch.equal(mine, theirs)
    assert not torch.equal(first["box"][0], other["box"][0])


def test_the_order_of_the_draws_is_kept() -> None:
    """Another order would give a run that is repeated, or goes on, other prompts."""
    mix, masks, generator = PromptMix(box=1.0, point=1.0, mask=1.0), rectangles(40), seeded(3)
    drawn = draw(mix, masks, 3)
    kinds = torch.multinomial(torch.ones(3), 40, replacement=True, generator=generator)
    boxed, pointed, masked = (masks[kinds == number] for number in range(3))
    boxes = jitter_boxes(boxes_from_masks(boxed), 0.1, 20 * GRID / SIDE, GRID, generator)
    central = torch.rand(len(pointed), 1, generator=generator) < 0.3
    points = torch.where(central, centre_points(pointed), random_points(pointed, generator))
    assert torch.equal(given(drawn["box"][1].boxes), 4 * boxes)
    assert torch.equal(given(drawn["point"][1].points)[:, 0], 4 * points - 0.5)
    assert torch.equal(given(drawn["mask"][1].masks), coarse_masks(masked, generator))


def test_fixed_prompts_are_tight_boxes_and_centres() -> None:
    masks = torch.zeros(2, GRID, GRID)
    masks[0, 2:5, 6:11] = 1
    masks[1, 15, 0] = 1
    fixed = fixed_prompts(masks, torch.tensor([1, 0]), SIDE)
    assert list(fixed) == ["box", "point"]
    for chosen, prompts in fixed.values():
        assert chosen.tolist() == [0, 1]
        assert prompts.image_index.tolist() == [1, 0]
    boxes, points = fixed["box"][1], fixed["point"][1]
    assert boxes.boxes is not None
    assert boxes.boxes.tolist() == [[24, 8, 44, 20], [0, 60, 4, 64]]
    assert points.points is not None
    # The middle cells, columns 8 and 0, rows 3 and 15.
    assert points.points.tolist() == [[[33.5, 13.5]], [[1.5, 61.5]]]
    assert points.labels is not None
    assert points.labels.tolist() == [[1], [1]]
    assert boxes.points is None
    assert points.boxes is None


@pytest.mark.parametrize("shares", [(0.0, 0.0, 0.0), (1.0, -0.1, 0.5)])
def test_impossible_shares(shares: tuple[float, float, float]) -> None:
    box, point, mask = shares
    with pytest.raises(UserError, match=r"^prompts: the shares of box, point and mask are \(.*\); give .* not all 0$"):
        PromptMix(box=box, point=point, mask=mask)
