"""Concept losses against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from phd.losses.concept_boxes import box_giou_loss, box_l1_loss, box_overlap, corners
from phd.losses.concept_masks import (
    mask_dice_loss,
    mask_focal_loss,
    phrase_masks,
    resized,
    semantic_dice_loss,
    semantic_focal_loss,
)
from phd.losses.concept_scores import presence_loss, score_loss
from phd.losses.matching import Matches

ONE = torch.tensor(1.0)


def matched(*triples: tuple[int, int, int]) -> Matches:
    """Matches from (pair, query, target)."""
    return Matches(*torch.tensor(triples, dtype=torch.long).reshape(-1, 3).T)


def test_corners() -> None:
    assert corners(torch.tensor([0.5, 0.4, 0.2, 0.6])).tolist() == pytest.approx([0.4, 0.1, 0.6, 0.7])


def test_overlap_by_hand() -> None:
    # 0.4 x 0.2 against itself shifted right by 0.2: intersection .04, union .12, hull .12.
    first, second = torch.tensor([0.3, 0.5, 0.4, 0.2]), torch.tensor([0.5, 0.5, 0.4, 0.2])
    iou, giou = box_overlap(first, second)
    assert (float(iou), float(giou)) == pytest.approx((1 / 3, 1 / 3))
    # Apart, at opposite corners: areas .04 each in a hull of 1.
    iou, giou = box_overlap(torch.tensor([0.1, 0.1, 0.2, 0.2]), torch.tensor([0.9, 0.9, 0.2, 0.2]))
    assert (float(iou), float(giou)) == pytest.approx((0.0, -0.92))
    # One above the other: the two axes are not mixed up.
    iou, giou = box_overlap(torch.tensor([0.5, 0.1, 0.4, 0.2]), torch.tensor([0.5, 0.5, 0.4, 0.2]))
    assert (float(iou), float(giou)) == pytest.approx((0.0, -(0.24 - 0.16) / 0.24))


def test_boxes_without_area_have_values_and_gradients() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]], requires_grad=True)
    loss = box_giou_loss(boxes, torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.2, 0.2]]), ONE)
    loss.backward()
    assert torch.isfinite(loss)
    assert boxes.grad is not None
    assert torch.isfinite(boxes.grad).all()


def test_box_losses_by_hand() -> None:
    boxes = torch.tensor([[0.3, 0.5, 0.4, 0.2], [0.5, 0.5, 0.2, 0.2]])
    targets = torch.tensor([[0.5, 0.5, 0.4, 0.2], [0.5, 0.5, 0.3, 0.1]])
    assert float(box_l1_loss(boxes, targets, torch.tensor(4.0))) == pytest.approx((0.2 + 0.1 + 0.1) / 4)
    # The second pair: intersection .02, union .05, hull .06.
    second = 0.02 / 0.05 - 0.01 / 0.06
    assert float(box_giou_loss(boxes, targets, torch.tensor(4.0))) == pytest.approx((2 / 3 + 1 - second) / 4)


def entropy(probability: float, target: float) -> float:
    return -target * math.log(probability) - (1 - target) * math.log(1 - probability)


def scores(*probabilities: list[float]) -> Tensor:
    return torch.logit(torch.tensor(probabilities)).requires_grad_(True)


def flags(*values: bool) -> Tensor:
    return torch.tensor(values)


def test_scores_by_hand() -> None:
    logits = scores([0.4, 0.2, 0.9])
    loss = score_loss(logits, torch.tensor([0.81]), matched((0, 0, 0)), flags(True), flags(True), ONE)
    target = 0.4**0.25 * 0.81**0.75
    total = 10 * entropy(0.4, target) + 0.2**2 * entropy(0.2, 0) + 0.9**2 * entropy(0.9, 0)
    assert loss.item() == pytest.approx(total / 200, rel=1e-5)


def test_a_matched_score_is_never_taught_less_than_a_hundredth() -> None:
    loss = score_loss(scores([0.4]), torch.tensor([0.0]), matched((0, 0, 0)), flags(True), flags(True), ONE)
    assert loss.item() == pytest.approx(10 * entropy(0.4, 0.01) / 200, rel=1e-5)


def test_more_queries_than_two_hundred_are_averaged() -> None:
    logits = torch.zeros(1, 400)
    loss = score_loss(logits, torch.tensor([]), matched(), flags(True), flags(True), ONE)
    assert loss.item() == pytest.approx(0.25 * math.log(2))


def test_the_last_match_of_a_query_counts() -> None:
    matches = matched((0, 1, 0), (0, 1, 1), (0, 0, 1))
    loss = score_loss(scores([0.3, 0.4]), torch.tensor([1.0, 0.0, 1.0]), matches, flags(True), flags(True), ONE)
    expected = 10 * (entropy(0.4, 0.01) + entropy(0.3, 0.3**0.25)) / 200
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_phrase_without_instances_teaches_no_score() -> None:
    logits = scores([0.5, 0.6], [0.7, 0.8])
    loss = score_loss(logits, torch.tensor([1.0]), matched((0, 0, 0)), flags(True, False), flags(True, True), ONE)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[0] != 0).all()
    assert logits.grad[1].tolist() == [0, 0]


def test_a_phrase_that_is_not_exhaustive_teaches_its_matches_alone() -> None:
    logits = scores([0.4, 0.6])
    loss = score_loss(logits, torch.tensor([1.0]), matched((0, 0, 0)), flags(True), flags(False), ONE)
    loss.backward()
    assert loss.item() == pytest.approx(10 * entropy(0.4, 0.4**0.25) / 200, rel=1e-5)
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0


def test_gradients_of_scores() -> None:
    logits, iou = scores([0.5, 0.6]), torch.tensor([0.81], requires_grad=True)
    score_loss(logits, iou, matched((0, 0, 0)), flags(True), flags(True), ONE).backward()
    # The target takes none, so that of the match is 10 (p - t); the weight p^2 of the other takes its share:
    # d/dx of -p^2 log(1 - p) is 2 p^2 (1 - p) (-log(1 - p)) + p^3.
    other = 2 * 0.6**2 * 0.4 * -math.log(0.4) + 0.6**3
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([10 * (0.5 - 0.5**0.25 * 0.81**0.75) / 200, other / 200], rel=1e-4)
    assert iou.grad is None


def test_presence_by_hand() -> None:
    logits = torch.logit(torch.tensor([0.8, 0.3, 0.9])).requires_grad_(True)
    loss = presence_loss(logits, flags(True, False, False), flags(True, True, False), torch.tensor(2.0))
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * (entropy(0.8, 1) + entropy(0.3, 0)) / 2)
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx([0.25 * (0.8 - 1), 0.25 * 0.3, 0], abs=1e-6)


def test_masks_by_hand() -> None:
    # Four pixels at p = 0.8, two of them on the object.
    logits = torch.full((1, 2, 2), math.log(4))
    targets = torch.tensor([[[1, 1], [0, 0]]], dtype=torch.uint8)
    focal = (2 * 0.25 * 0.2**2 * entropy(0.8, 1) + 2 * 0.75 * 0.8**2 * entropy(0.8, 0)) / 4
    assert float(mask_focal_loss(logits, targets, torch.tensor(2.0))) == pytest.approx(focal / 2, rel=1e-5)
    dice = 1 - (2 * 1.6 + 1) / (3.2 + 2 + 1)
    assert float(mask_dice_loss(logits, targets, torch.tensor(2.0))) == pytest.approx(dice / 2)
    # Semantic masks weigh the object's pixels more, and leave phrases out.
    two, known = logits.repeat(2, 1, 1), flags(True, False)
    focal = (2 * 0.6 * 0.2**2 * entropy(0.8, 1) + 2 * 0.4 * 0.8**2 * entropy(0.8, 0)) / 4
    assert float(semantic_focal_loss(two, targets.repeat(2, 1, 1), known, ONE)) == pytest.approx(focal, rel=1e-5)
    assert float(semantic_dice_loss(two, targets.repeat(2, 1, 1), known, ONE)) == pytest.approx(dice)


def test_logits_are_resized_to_the_targets() -> None:
    logits = torch.tensor([[[0.0, 4.0]]])
    # Bilinear, pixel centres: the outer quarters are clamped to the outer values.
    assert resized(logits, torch.zeros(1, 1, 4)).tolist() == [[[0.0, 1.0, 3.0, 4.0]]]
    assert resized(logits, torch.zeros(1, 1, 2)) is logits


def test_no_masks_cost_nothing() -> None:
    logits = torch.zeros(0, 4, 4, requires_grad=True)
    targets = torch.zeros(0, 8, 8)
    loss = mask_focal_loss(resized(logits, targets), targets, ONE) + mask_dice_loss(
        resized(logits, targets), targets, ONE
    )
    loss.backward()
    assert loss.item() == 0


def test_the_union_of_a_phrase() -> None:
    masks = torch.tensor([[[1, 0, 0]], [[0, 1, 0]], [[0, 1, 1]]], dtype=torch.uint8)
    union = phrase_masks(masks, torch.tensor([0, 0, 2]), 3)
    assert union.tolist() == [[[True, True, False]], [[False] * 3], [[False, True, True]]]
    assert phrase_masks(masks[:0], torch.tensor([], dtype=torch.long), 2).any().logical_not()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_the_losses_of_full(dtype: torch.dtype) -> None:
    logits = torch.linspace(-6, 6, 32).view(2, 16).to(dtype)
    arguments = torch.tensor([0.9]), matched((1, 3, 0)), flags(True, True), flags(True, True), ONE
    assert score_loss(logits, *arguments).dtype == torch.float32
    assert torch.equal(score_loss(logits, *arguments), score_loss(logits.float(), *arguments))
    boxes = torch.tensor([[0.3, 0.5, 0.4, 0.2]]).to(dtype)
    others = boxes.float() * 1.1
    assert torch.equal(box_giou_loss(boxes, others, ONE), box_giou_loss(boxes.float(), others, ONE))
