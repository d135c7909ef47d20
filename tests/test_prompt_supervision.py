"""The prompt loop's supervision: whose masks teach, and where nothing does."""

from __future__ import annotations

import pytest
import torch
from scripted import (
    ALL_WEIGHTS,
    COUNT,
    EVERYWHERE,
    GRID,
    LEFT,
    NOTHING,
    TARGET,
    UPPER,
    Scripted,
    added_cells,
    half,
    logits,
    run,
    some,
)
from torch import Tensor

from phd.contract import Masks
from phd.losses.mask import dice_loss, focal_loss, hard_iou, mask_loss
from phd.stages.prompt_loop import MaskWeights, Supervision, distillation_terms


def test_the_teachers_masks_supervise() -> None:
    student, teacher = Scripted(logits(0)), Scripted(logits(1))
    found = run(student, teacher, supervision="teacher").terms
    binary = (teacher.answers[0] > 0).float()
    torch.testing.assert_close(found["dice"], dice_loss(student.answers[0], binary).mean())
    torch.testing.assert_close(found["focal"], focal_loss(student.answers[0], binary).mean())
    # The ground truth plays no part.
    again = run(student, teacher, target=1 - TARGET, supervision="teacher").terms
    torch.testing.assert_close(found, again)


def test_the_ground_truth_supervises() -> None:
    student = Scripted(logits(0, 3))
    expected = mask_loss(student.answers[0], student.scores, TARGET.unsqueeze(1), ALL_WEIGHTS.mask_weights())
    torch.testing.assert_close(run(student, None, supervision="ground_truth").terms, expected)
    # A teacher, where there is one, answers for the panels but does not teach.
    result = run(student, Scripted(logits(1, 3)), supervision="ground_truth")
    torch.testing.assert_close(result.terms, expected)
    assert result.teacher is not None
    assert run(student, None, supervision="ground_truth").teacher is None


def test_both_supervise_with_equal_shares() -> None:
    models = Scripted(logits(0)), Scripted(logits(1))
    both = run(*models, supervision="both").terms
    alone: list[Supervision] = ["teacher", "ground_truth"]
    parts = [run(*models, supervision=supervision).terms for supervision in alone]
    for name, value in both.items():
        torch.testing.assert_close(value, (parts[0][name] + parts[1][name]) / 2)


@pytest.mark.parametrize(
    ("supervision", "with_teacher", "reference"),
    [("teacher", True, "teacher"), ("both", True, "teacher"), ("ground_truth", True, "truth"),
     ("ground_truth", False, "truth")],
)  # fmt: skip
def test_who_corrects(supervision: Supervision, with_teacher: bool, reference: str) -> None:
    # The student has nothing, the teacher the upper half, the ground truth the last two columns.
    target = (half(slice(None), slice(6, 8))[:, 0] > 0).float()
    for seed in range(5):
        student = Scripted(NOTHING)
        teacher = Scripted(UPPER) if with_teacher else None
        run(student, teacher, target=target, supervision=supervision, rounds=1, seed=seed)
        rows, columns = added_cells(student.asked[1])
        assert (rows < 4).all() if reference == "teacher" else (columns >= 6).all()
        assert (some(student.asked[1].labels) == 1).all()


def padded() -> Tensor:
    """Content on the upper five rows."""
    valid = EVERYWHERE.clone()
    valid[:, 5:] = False
    return valid


@pytest.mark.parametrize("supervision", ["teacher", "both", "ground_truth"])
def test_padding_is_left_out(supervision: Supervision) -> None:
    valid = padded()
    target = TARGET * valid
    on_padding = 20.0 * ~valid.unsqueeze(1)
    plain = run(Scripted(logits(0)), Scripted(logits(1)), target=target, valid=valid, supervision=supervision)
    student = Scripted(logits(0) + on_padding)
    loud = run(student, Scripted(logits(1) - 2 * on_padding), target=target, valid=valid, supervision=supervision)
    torch.testing.assert_close(loud.terms, plain.terms)
    torch.stack(list(loud.terms.values())).sum().backward()
    gradient = some(student.answers[0].grad)[:, 0]
    assert (gradient[~valid] == 0).all()
    assert (gradient[valid] != 0).any()
    assert (loud.student[~valid] < 0).all()


@pytest.mark.parametrize("supervision", ["teacher", "ground_truth"])
def test_means_are_over_the_content(supervision: Supervision) -> None:
    """A canvas with three of eight rows of padding costs what its content alone costs."""
    valid = padded()
    found = run(
        Scripted(logits(0)), Scripted(logits(1)), target=TARGET * valid, valid=valid, supervision=supervision
    ).terms
    content = logits(0)[:, :, :5]
    wanted = (logits(1)[:, :, :5] > 0).float() if supervision == "teacher" else TARGET[:, None, :5]
    torch.testing.assert_close(found["focal"], focal_loss(content, wanted).mean())
    torch.testing.assert_close(found["dice"], dice_loss(content, wanted).mean())


def test_padding_is_not_corrected() -> None:
    # They disagree everywhere, but only the upper five rows are image.
    for seed in range(10):
        student = Scripted(NOTHING)
        run(student, Scripted(-NOTHING), valid=padded(), rounds=1, seed=seed)
        rows, _ = added_cells(student.asked[1])
        assert (rows < 5).all()
    # Nor is a disagreement on padding alone one.
    student = Scripted(half(slice(5, 8), slice(None)))
    run(student, Scripted(NOTHING), valid=padded(), rounds=1)
    assert (some(student.asked[1].labels) == -1).all()


def test_candidates_are_compared_by_index() -> None:
    # The student's candidates are the teacher's in another order: as a set they agree, one by one they do not.
    candidates = 8 * torch.cat([UPPER, LEFT, NOTHING], dim=1)
    outside = torch.zeros(COUNT, 1, GRID, GRID, dtype=torch.bool)
    scores = torch.tensor([[0.9, 0.5, 0.4]]).repeat(COUNT, 1)
    weights = MaskWeights(dice=1.0, iou=1.0)
    same = distillation_terms(Masks(candidates, scores), Masks(candidates, scores), outside, weights)
    assert same["dice"].item() == pytest.approx(0, abs=1e-4)
    assert same["iou"].item() == pytest.approx(0)
    moved = Masks(candidates[:, [1, 0, 2]], scores)
    terms = distillation_terms(moved, Masks(candidates, scores), outside, weights)
    # Two halves of 32 cells that share 16 have IoU 1/3 and a smoothed Dice of 33/65; empty against empty has 1.
    assert terms["dice"].item() == pytest.approx((32 / 65 + 32 / 65 + 0) / 3, abs=1e-4)
    assert terms["iou"].item() == pytest.approx((0.9 * 2 / 3 + 0.5 * 2 / 3 + 0) / 3)


def test_the_score_learns_the_teachers_where_the_masks_agree() -> None:
    outside = torch.zeros(COUNT, 1, GRID, GRID, dtype=torch.bool)
    mine = Masks(logits(0, 3), torch.full((COUNT, 3), 0.5))
    theirs = Masks(logits(1, 3), torch.tensor([[1.4, 0.6, -0.3]]).repeat(COUNT, 1))
    agreement = hard_iou(mine.logits, (theirs.logits > 0).float())
    expected = (0.5 - torch.tensor([[1.0, 0.6, 0.0]]) * agreement).abs().mean()
    torch.testing.assert_close(distillation_terms(mine, theirs, outside, MaskWeights(iou=1.0)), {"iou": expected})
