"""Mask losses against values by hand and against torchvision."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from phd.losses.mask import MASK_LOSSES, cross_entropy_loss, dice_loss, focal_loss, hard_iou, mask_loss

SURE = 40.0  # a logit whose sigmoid is 1 in fp32


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def random_case(count: int = 4, candidates: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(count, candidates, 6, 5, generator=generator)
    targets = (torch.rand(count, 1, 6, 5, generator=generator) > 0.6).float()
    return logits, targets


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.75, 2.0), (-1.0, 2.0), (0.25, 0.5)])
def test_focal_equals_torchvision(alpha: float, gamma: float) -> None:
    logits, targets = random_case()
    expected = sigmoid_focal_loss(logits, targets.expand_as(logits), alpha, gamma).mean((2, 3))
    torch.testing.assert_close(focal_loss(logits, targets, alpha, gamma), expected)


def test_focal_by_hand() -> None:
    logits = torch.tensor([logit(0.9), logit(0.9)]).view(1, 1, 1, 2)
    targets = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    right, wrong = -0.25 * 0.1**2 * math.log(0.9), -0.75 * 0.9**2 * math.log(0.1)
    assert focal_loss(logits, targets).item() == pytest.approx((right + wrong) / 2, rel=1e-5)


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([logit(0.9), logit(0.2)]).view(1, 1, 1, 2)
    targets = torch.tensor([1.0, 1.0]).view(1, 1, 1, 2)
    expected = -(math.log(0.9) + math.log(0.2)) / 2
    assert cross_entropy_loss(logits, targets).item() == pytest.approx(expected, rel=1e-5)


def test_dice_by_hand() -> None:
    # Three pixels foreground in the prediction, two of them and one more in the target: overlap 2, total 3 + 3.
    logits = torch.tensor([SURE, SURE, SURE, -SURE, -SURE]).view(1, 1, 1, 5)
    targets = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0]).view(1, 1, 1, 5)
    assert dice_loss(logits, targets).item() == pytest.approx(1 - (2 * 2 + 1) / (6 + 1))
    assert dice_loss(logits, targets, smooth=0.0).item() == pytest.approx(1 - 4 / 6)
    # Probabilities count, not decisions.
    half = torch.zeros(1, 1, 1, 5)
    assert dice_loss(half, targets).item() == pytest.approx(1 - (2 * 1.5 + 1) / (2.5 + 3 + 1))


def test_dice_at_its_ends() -> None:
    nothing, everything = torch.full((1, 1, 2, 2), -SURE), torch.full((1, 1, 2, 2), SURE)
    assert dice_loss(nothing, torch.zeros(1, 1, 2, 2)).item() == pytest.approx(0)
    assert dice_loss(everything, torch.ones(1, 1, 2, 2)).item() == pytest.approx(0)
    assert dice_loss(everything, torch.zeros(1, 1, 2, 2)).item() == pytest.approx(1 - 1 / 5)
    assert dice_loss(nothing, torch.ones(1, 1, 2, 2)).item() == pytest.approx(1 - 1 / 5)


def test_hard_iou_by_hand() -> None:
    logits = torch.tensor([[1.0, 1.0, -1.0, -1.0], [-1.0, -1.0, -1.0, -1.0], [2.0, 0.0, 3.0, -1.0]]).view(1, 3, 2, 2)
    targets = torch.tensor([1.0, 0.0, 1.0, 0.0]).view(1, 1, 2, 2)
    # A logit of exactly 0 is background.
    torch.testing.assert_close(hard_iou(logits, targets), torch.tensor([[1 / 3, 0.0, 1.0]]))


def test_hard_iou_of_two_empty_masks_is_one() -> None:
    assert hard_iou(torch.full((1, 1, 2, 2), -1.0), torch.zeros(1, 1, 2, 2)).item() == 1


def test_hard_iou_has_no_gradient() -> None:
    logits, targets = random_case()
    assert not hard_iou(logits.requires_grad_(), targets).requires_grad


@pytest.mark.parametrize("loss", [*MASK_LOSSES.values(), hard_iou])
def test_only_valid_pixels_count(loss) -> None:
    """As if the others were cut away, whatever they say; the numbers of valid pixels differ between instances."""
    logits, targets = random_case()
    valid = torch.zeros(4, 1, 6, 5, dtype=torch.bool)
    for instance, rows in enumerate((6, 4, 3, 1)):
        valid[instance, :, :rows] = True
    loud_logits = torch.where(valid, logits, 50.0)
    found = loss(loud_logits, torch.where(valid, targets, 1.0), valid=valid)
    for instance, rows in enumerate((6, 4, 3, 1)):
        cut = loss(logits[instance : instance + 1, :, :rows], targets[instance : instance + 1, :, :rows])
        torch.testing.assert_close(found[instance : instance + 1], cut)
    everything = torch.ones_like(valid)
    torch.testing.assert_close(loss(logits, targets, valid=everything), loss(logits, targets))


@pytest.mark.parametrize("loss", MASK_LOSSES.values())
def test_other_pixels_get_no_gradient(loss) -> None:
    logits, targets = random_case()
    valid = torch.rand(4, 1, 6, 5, generator=torch.Generator().manual_seed(2)) > 0.5
    loss(logits.requires_grad_(), targets, valid=valid).sum().backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad != 0, valid.expand_as(logits))


@pytest.mark.parametrize("loss", MASK_LOSSES.values())
def test_without_a_valid_pixel_nothing_is_lost(loss) -> None:
    logits, targets = random_case()
    assert torch.equal(loss(logits, targets, valid=torch.zeros(4, 1, 6, 5, dtype=torch.bool)), torch.zeros(4, 3))


@pytest.mark.parametrize("loss", [*MASK_LOSSES.values(), hard_iou])
def test_instances_and_candidates_do_not_mix(loss) -> None:
    logits, targets = random_case()
    found = loss(logits, targets)
    assert found.shape == (4, 3)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(loss(logits[order], targets[order]), found[order])
    for instance in range(4):
        for candidate in range(3):
            alone = loss(logits[instance, candidate][None, None], targets[instance][None])
            torch.testing.assert_close(alone, found[instance, candidate].view(1, 1))


@pytest.mark.parametrize("loss", MASK_LOSSES.values())
def test_the_gradient_points_to_the_target(loss) -> None:
    logits = torch.zeros(1, 1, 2, 2, requires_grad=True)
    targets = torch.tensor([1.0, 0.0, 1.0, 0.0]).view(1, 1, 2, 2)
    loss(logits, targets).sum().backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad < 0, targets > 0.5)
    assert (logits.grad != 0).all()


def test_gradients_against_torchvision_and_by_hand() -> None:
    logits, targets = random_case()
    logits.requires_grad_()
    (ours,) = torch.autograd.grad(focal_loss(logits, targets).sum(), logits)
    theirs = sigmoid_focal_loss(logits, targets.expand_as(logits)).mean((2, 3)).sum()
    torch.testing.assert_close(ours, torch.autograd.grad(theirs, logits)[0])
    (ours,) = torch.autograd.grad(cross_entropy_loss(logits, targets).sum(), logits)
    torch.testing.assert_close(ours, (logits.detach().sigmoid() - targets) / 30)
    # Dice: the derivative of (2 o + 1) / (t + 1) by a probability is (2 y (t + 1) - (2 o + 1)) / (t + 1)^2.
    (ours,) = torch.autograd.grad(dice_loss(logits, targets).sum(), logits)
    p = logits.detach().sigmoid()
    overlap = (p * targets).sum((2, 3), keepdim=True)
    total = (p + targets).sum((2, 3), keepdim=True) + 1
    torch.testing.assert_close(ours, -(2 * targets * total - (2 * overlap + 1)) / total**2 * p * (1 - p))


@pytest.mark.parametrize("loss", MASK_LOSSES.values())
def test_half_precision_is_computed_in_full(loss) -> None:
    logits, targets = random_case()
    found = loss(logits.bfloat16(), targets.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(logits.bfloat16().float(), targets), rtol=1e-5, atol=1e-7)


def test_the_best_candidate_is_taught_and_no_other() -> None:
    targets = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 2, 2).repeat(2, 1, 1, 1)
    good, bad = 4 * targets - 2, 2 - 4 * targets
    logits = torch.cat([torch.cat([bad, good], 1)[:1], torch.cat([good, bad], 1)[1:]]).requires_grad_()
    terms = mask_loss(logits, torch.zeros(2, 2), targets, {"focal": 20.0, "dice": 1.0})
    assert list(terms) == ["focal", "dice"]
    torch.testing.assert_close(terms["focal"], focal_loss(good, targets).mean())
    torch.testing.assert_close(terms["dice"], dice_loss(good, targets).mean())
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert logits.grad is not None
    moved = logits.grad.abs().sum((2, 3)) > 0
    assert moved.tolist() == [[False, True], [True, False]]


def test_the_weights_decide_which_candidate_is_best() -> None:
    # Three sure pixels right and one surely wrong, against four undecided ones: dice and cross-entropy disagree.
    targets = torch.ones(1, 1, 2, 2)
    undecided, one_wrong = torch.full((1, 1, 2, 2), -0.5), torch.tensor([SURE, SURE, SURE, -SURE]).view(1, 1, 2, 2)
    logits = torch.cat([undecided, one_wrong], 1)
    by_dice = mask_loss(logits, torch.zeros(1, 2), targets, {"dice": 1.0, "cross_entropy": 1e-6})
    by_cross_entropy = mask_loss(logits, torch.zeros(1, 2), targets, {"dice": 1e-6, "cross_entropy": 1.0})
    torch.testing.assert_close(by_dice["cross_entropy"], cross_entropy_loss(one_wrong, targets).squeeze())
    torch.testing.assert_close(by_cross_entropy["dice"], dice_loss(undecided, targets).squeeze())


def test_the_iou_loss_reaches_every_candidate() -> None:
    logits = torch.tensor([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]]).view(1, 2, 2, 2)
    targets = torch.tensor([1.0, 0.0, 1.0, 0.0]).view(1, 1, 2, 2)
    scores = torch.tensor([[0.5, 0.75]], requires_grad=True)
    terms = mask_loss(logits, scores, targets, {"iou": 1.0})
    assert list(terms) == ["iou"]
    # Their IoUs are 1/3 and 1.
    assert terms["iou"].item() == pytest.approx(((0.5 - 1 / 3) + (1 - 0.75)) / 2)
    terms["iou"].backward()
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, torch.tensor([[0.5, -0.5]]))


def test_a_term_without_a_weight_is_left_out() -> None:
    logits, targets = random_case()
    scores = torch.zeros(4, 3)
    assert mask_loss(logits, scores, targets, {"focal": 0.0, "iou": 0.0}) == {}
    assert list(mask_loss(logits, scores, targets, {"focal": 0.0, "dice": 1.0})) == ["dice"]
    # The weight chooses the candidate; the term itself is returned unweighted.
    once, twice = (mask_loss(logits, scores, targets, {"dice": weight})["dice"] for weight in (1.0, 2.0))
    torch.testing.assert_close(once, twice)


def test_the_order_of_the_instances_does_not_matter() -> None:
    logits, targets = random_case()
    scores, order = torch.rand(4, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([3, 1, 0, 2])
    weights = {"focal": 20.0, "cross_entropy": 1.0, "dice": 1.0, "iou": 1.0}
    before = mask_loss(logits, scores, targets, weights)
    after = mask_loss(logits[order], scores[order], targets[order], weights)
    assert list(before) == ["focal", "cross_entropy", "dice", "iou"]
    torch.testing.assert_close(after, before)
