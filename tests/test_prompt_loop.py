"""The rounds of the prompt loop: who is asked what, and what comes back."""

from __future__ import annotations

import pytest
import torch
from scripted import BOXES, COUNT, GRID, LEFT, POINTS, SIDE, UPPER, Scripted, added_cells, logits, run, some

from phd.contract import Prompts
from phd.losses.mask import dice_loss
from phd.stages.prompt_loop import MaskWeights


@pytest.mark.parametrize("rounds", [0, 1, 3])
@pytest.mark.parametrize("prompts", [BOXES, POINTS])
def test_both_get_the_same_prompts_one_point_more_each_round(prompts: Prompts, rounds: int) -> None:
    student, teacher = Scripted(*(logits(s) for s in range(4))), Scripted(*(logits(s) for s in range(10, 14)))
    run(student, teacher, prompts, rounds=rounds)
    assert len(student.asked) == len(teacher.asked) == rounds + 1
    assert all(mine is theirs for mine, theirs in zip(student.asked, teacher.asked, strict=True))
    assert student.asked[0] is prompts
    first = 0 if prompts.points is None else 1
    for number, asked in enumerate(student.asked[1:], start=1):
        assert some(asked.points).shape == (COUNT, first + number, 2)
        assert some(asked.labels).shape == (COUNT, first + number)
        assert some(asked.labels).dtype == torch.long
        assert asked.image_index is prompts.image_index
        assert asked.boxes is prompts.boxes
        assert not asked.ambiguous
        # Earlier points stay as they were.
        if number > 1 or prompts.points is not None:
            before = student.asked[number - 1]
            assert torch.equal(some(asked.points)[:, :-1], some(before.points))
            assert torch.equal(some(asked.labels)[:, :-1], some(before.labels))


def test_the_students_last_mask_is_fed_back() -> None:
    student, teacher = Scripted(*(logits(s) for s in range(3))), Scripted(logits(9))
    run(student, teacher, rounds=2)
    assert student.asked[0].masks is None
    for number in (1, 2):
        fed = some(student.asked[number].masks)
        assert torch.equal(fed, student.answers[number - 1])
        assert not fed.requires_grad


def test_the_best_candidate_is_fed_back_and_returned() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.2], [0.1, 0.2, 0.9], [0.9, 0.2, 0.1]])
    student, teacher = (
        Scripted(logits(0, 3), logits(1, 3), scores=scores),
        Scripted(logits(2, 3), scores=scores.flip(1)),
    )
    result = run(student, teacher, POINTS, rounds=1)
    best, theirs, rows = torch.tensor([1, 2, 0]), torch.tensor([1, 0, 2]), torch.arange(COUNT)
    assert torch.equal(some(student.asked[1].masks)[:, 0], student.answers[0][rows, best])
    assert torch.equal(result.student, student.answers[1][rows, best])
    assert torch.equal(some(result.teacher), teacher.answers[0][rows, theirs])


def test_corrective_points_lie_where_the_two_disagree() -> None:
    # The student has the upper half, the teacher the left half: one quarter each is wrong.
    student, teacher = Scripted(UPPER), Scripted(LEFT)
    found = set()
    for seed in range(20):
        student.asked.clear()
        run(student, teacher, rounds=1, seed=seed)
        rows, columns = added_cells(student.asked[1])
        labels = some(student.asked[1].labels)[:, -1]
        assert ((rows < 4) != (columns < 4)).all()
        assert torch.equal(labels == 1, columns < 4)
        found |= set(labels.tolist())
    assert found == {0, 1}


def test_where_they_agree_the_point_says_nothing() -> None:
    student, teacher = Scripted(UPPER), Scripted(UPPER)
    run(student, teacher, rounds=2)
    assert some(student.asked[2].labels).tolist() == [[-1, -1]] * COUNT


def test_the_generator_decides_the_points() -> None:
    asked = []
    for seed in (1, 1, 2):
        student = Scripted(logits(0))
        run(student, Scripted(logits(1)), rounds=2, seed=seed)
        asked.append(some(student.asked[2].points))
    assert torch.equal(asked[0], asked[1])
    assert not torch.equal(asked[0], asked[2])


def test_the_teacher_has_no_gradient() -> None:
    student, teacher = Scripted(logits(0), logits(1)), Scripted(logits(2))
    result = run(student, teacher, rounds=1)
    assert student.graph == [True, True]
    assert teacher.graph == [False, False]
    torch.stack(list(result.terms.values())).sum().backward()
    assert [p.grad for p in teacher.parameters()] == [None, None]
    # Both rounds teach, and so does the score.
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())
    assert not some(result.teacher).requires_grad


def test_terms_are_means_over_the_rounds() -> None:
    student, teacher = Scripted(logits(0), logits(1), logits(2)), Scripted(logits(3), logits(4), logits(5))
    found = run(student, teacher, rounds=2).terms
    one_by_one = [run(Scripted(logits(n)), Scripted(logits(n + 3))).terms for n in range(3)]
    assert list(found) == ["focal", "cross_entropy", "dice", "iou"]
    for name, value in found.items():
        torch.testing.assert_close(value, torch.stack([terms[name] for terms in one_by_one]).mean())


def test_terms_without_a_weight_are_not_computed() -> None:
    found = run(Scripted(logits(0)), Scripted(logits(1)), supervision="both", weights=MaskWeights(dice=1.0))
    assert list(found.terms) == ["dice"]


def test_the_answer_of_the_last_round_is_returned() -> None:
    student, teacher = Scripted(*(logits(s) for s in range(3))), Scripted(*(logits(s) for s in range(5, 8)))
    result = run(student, teacher, rounds=2)
    assert torch.equal(result.student, student.answers[2][:, 0])
    assert torch.equal(some(result.teacher), teacher.answers[2][:, 0])


def test_a_finer_target_enlarges_the_logits_and_feeds_back_the_decoders_own() -> None:
    finer = 2 * GRID
    target = (torch.rand(COUNT, finer, finer, generator=torch.Generator().manual_seed(3)) > 0.5).float()
    valid = torch.ones(COUNT, finer, finer, dtype=torch.bool)
    student = Scripted(logits(0), logits(1))
    weights = MaskWeights(dice=1.0)
    result = run(student, None, target=target, valid=valid, supervision="ground_truth", weights=weights, rounds=1)
    large = [torch.nn.functional.interpolate(answer, (finer, finer), mode="bilinear") for answer in student.answers]
    expected = torch.stack([dice_loss(answer, target.unsqueeze(1)).mean() for answer in large]).mean()
    torch.testing.assert_close(result.terms["dice"], expected)
    torch.testing.assert_close(result.student, large[1][:, 0])
    assert torch.equal(some(student.asked[1].masks), student.answers[0])
    # The corrective point lies on a fine cell where the enlarged mask is wrong.
    x, y = ((some(student.asked[1].points)[:, -1] + 0.5) * finer / SIDE).unbind(-1)
    rows, columns = y.floor().long(), x.floor().long()
    wrong = (large[0][:, 0] > 0) != (target > 0)
    assert wrong[torch.arange(COUNT), rows, columns].all()
