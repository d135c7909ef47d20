"""What a detector learns from its teacher."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from concept_cases import detections, factors, normalisers, parameters, targets, terms_of

from phd.losses.concept_teacher import bernoulli_divergence, teacher_presence_loss, teacher_score_loss
from phd.losses.matching import Matches

ALONE = dict.fromkeys(("box_l1", "box_giou", "score", "presence", "mask_focal", "mask_dice"), 0.0)
ALONE |= {"semantic_focal": 0.0, "semantic_dice": 0.0, "auxiliary": 0.0, "one_to_many": 0.0}


def logit(*probabilities: float) -> torch.Tensor:
    return torch.logit(torch.tensor(probabilities))


def divergence(student: float, teacher: float) -> float:
    return teacher * math.log(teacher / student) + (1 - teacher) * math.log((1 - teacher) / (1 - student))


def test_divergence_by_hand() -> None:
    found = bernoulli_divergence(logit(0.3, 0.5, 0.9), logit(0.6, 0.5, 0.2))
    expected = [divergence(0.3, 0.6), 0.0, divergence(0.9, 0.2)]
    assert found.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_teacher_that_is_sure_gives_no_infinity() -> None:
    student = torch.tensor([-60.0, 60.0, 0.0], requires_grad=True)
    loss = bernoulli_divergence(student, torch.tensor([200.0, -200.0, 200.0])).sum()
    loss.backward()
    assert student.grad is not None
    assert torch.isfinite(loss)
    assert student.grad.tolist() == pytest.approx([-1.0, 1.0, -0.5])


def test_presence_by_hand() -> None:
    student = logit(0.3, 0.9).requires_grad_(True)
    teacher = logit(0.6, 0.2).requires_grad_(True)
    loss = teacher_presence_loss(student, teacher, torch.tensor(4.0))
    loss.backward()
    assert loss.item() == pytest.approx((divergence(0.3, 0.6) + divergence(0.9, 0.2)) / 4, rel=1e-5)
    assert student.grad is not None
    assert student.grad.tolist() == pytest.approx([(0.3 - 0.6) / 4, (0.9 - 0.2) / 4])
    assert teacher.grad is None


def test_scores_by_hand() -> None:
    student, teacher = logit(0.3, 0.5).view(1, 2), logit(0.1, 0.6).view(1, 2)
    crossed = Matches(torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([1, 0]))
    loss = teacher_score_loss(student, teacher, logit(0.25), crossed, torch.tensor(2.0))
    expected = 0.25 * (divergence(0.3, 0.6) + divergence(0.5, 0.1)) / (200 * 2)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_two_losses_are_the_divergence_of_presence_and_score_together() -> None:
    """The chain rule, on the three outcomes of one query: absent, there but not this one, there and this one."""
    presence, score, teacher_presence, teacher_score = 0.7, 0.4, 0.6, 0.9
    outcomes = (1 - presence, presence * (1 - score), presence * score)
    teachers = (1 - teacher_presence, teacher_presence * (1 - teacher_score), teacher_presence * teacher_score)
    joint = sum(t * math.log(t / s) for s, t in zip(outcomes, teachers, strict=True))
    only = Matches(*torch.zeros(3, 1, dtype=torch.long))
    one = torch.tensor(1.0)
    found = teacher_presence_loss(logit(presence), logit(teacher_presence), one)
    scores = logit(score).view(1, 1), logit(teacher_score).view(1, 1)
    found = found + 200 * teacher_score_loss(*scores, logit(teacher_presence), only, one)
    assert found.item() == pytest.approx(joint, rel=1e-5)


def test_a_student_that_agrees_pays_nothing_for_presence_and_scores() -> None:
    same = detections(2)
    terms, _ = terms_of(same, targets([1, 0, 2, 0]), replace(same))
    assert terms["teacher_presence"].item() == pytest.approx(0, abs=1e-6)
    assert terms["teacher_score"].item() == pytest.approx(0, abs=1e-6)


def test_the_order_of_the_queries_is_no_matter() -> None:
    student, teacher = detections(2), detections(4)
    order = torch.tensor([3, 1, 0, 5, 4, 2])
    assert isinstance(teacher.masks, torch.Tensor)
    shuffled = replace(
        teacher, logits=teacher.logits[:, order], boxes=teacher.boxes[:, order], masks=teacher.masks[:, order]
    )
    truth = targets([1, 0, 2, 0])
    first, second = (terms_of(student, truth, other)[0] for other in (teacher, shuffled))
    assert {k: v.item() for k, v in first.items()} == pytest.approx({k: v.item() for k, v in second.items()})


def test_masks_are_those_of_the_teachers_objects() -> None:
    student, teacher = detections(2, grad=True), detections(2)
    assert teacher.presence is not None
    assert isinstance(student.masks, torch.Tensor)
    assert isinstance(teacher.masks, torch.Tensor)
    teacher.presence = torch.tensor([9.0, -9.0, 9.0, 9.0])
    teacher.logits = torch.full_like(teacher.logits, -9.0)
    teacher.logits[0, 1] = teacher.logits[1, 2] = teacher.logits[2, 5] = 9.0
    truth = targets([0, 0, 0, 0])
    assert normalisers(truth, teacher).teacher_objects == 2  # phrase 1 is absent to the teacher
    terms, total = terms_of(student, truth, teacher, **ALONE)
    total.backward()
    assert student.masks.grad is not None
    taught = (student.masks.grad.flatten(2).abs().sum(-1) > 0).nonzero().tolist()
    assert len(taught) == 2
    assert [row[0] for row in taught] == [0, 2]
    # The matched masks against the teacher's, binarised: Dice by hand.
    expected = 0.0
    for (pair, query), other in zip(taught, (1, 5), strict=True):
        probability, mask = student.masks[pair, query].sigmoid(), (teacher.masks[pair, other] > 0).float()
        expected += 1 - (2 * (probability * mask).sum().item() + 1) / (probability.sum().item() + mask.sum().item() + 1)
    assert terms["teacher_dice"].item() == pytest.approx(expected / 2, rel=1e-5)


def test_the_teacher_takes_no_gradient_and_the_branches_no_lesson() -> None:
    student, teacher = detections(2, grad=True), detections(5, grad=True)
    teacher.presence = torch.full((4,), 4.0, requires_grad=True)
    terms_of(student, targets([1, 0, 2, 0]), teacher, **ALONE)[1].backward()
    assert all(value.grad is None for value in parameters(teacher).values())
    taught = {name for name, value in parameters(student).items() if value.grad is not None}
    assert taught == {"logits", "presence", "masks"}


def test_masks_as_products_on_both_sides() -> None:
    truth, student, teacher = targets([1, 0, 2, 0]), detections(2, branch=False), detections(5, branch=False)
    teacher.presence = torch.full((4,), 4.0)
    ours, theirs = factors(4, 3), factors(4, 8)
    dense = [torch.einsum("pqc,pchw->pqhw", one.embeddings, one.pixels) for one in (ours, theirs)]
    expected, _ = terms_of(replace(student, masks=dense[0]), truth, replace(teacher, masks=dense[1]))
    terms, _ = terms_of(replace(student, masks=ours), truth, replace(teacher, masks=theirs))
    assert terms["teacher_focal"].item() == pytest.approx(expected["teacher_focal"].item(), rel=1e-5)
    assert terms["teacher_dice"].item() > 0
