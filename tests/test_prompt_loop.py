"""The rounds of the prompt loop, with models whose answers are written down."""

from __future__ import annotations

import pytest
import torch
from fake_segmenter import make_contract
from torch import Tensor, nn

from phd.contract import ImageFeatures, Masks, Prompts
from phd.losses.mask import dice_loss, focal_loss, hard_iou, mask_loss
from phd.segmenter import Segmenter
from phd.stages.prompt_loop import MaskWeights, Rounds, Side, Supervision, distillation_terms, run_rounds

GRID, SIDE = 8, 32  # one cell covers four pixels
COUNT = 3
ALL_WEIGHTS = MaskWeights(focal=20.0, cross_entropy=1.0, dice=1.0, iou=1.0)
INDEX = torch.tensor([1, 0, 1])
BOXES = Prompts(INDEX, boxes=torch.tensor([[4.0, 4.0, 20.0, 12.0]]).repeat(COUNT, 1))
POINTS = Prompts(INDEX, points=torch.tensor([[[9.5, 5.5]]]).repeat(COUNT, 1, 1), labels=torch.ones(COUNT, 1).long())
EVERYWHERE = torch.ones(COUNT, GRID, GRID, dtype=torch.bool)


class Scripted(Segmenter):
    """Gives its answers in order, the last one again and again; keeps what it was asked."""

    def __init__(self, *answers: Tensor, scores: Tensor | None = None) -> None:
        super().__init__()
        self.contract = make_contract(SIDE, GRID)
        self.answers = nn.ParameterList(nn.Parameter(answer.clone()) for answer in answers)
        self.scores = nn.Parameter(torch.full((COUNT, answers[0].shape[1]), 0.5) if scores is None else scores)
        self.asked: list[Prompts] = []
        self.graph: list[bool] = []

    def segment(self, features: ImageFeatures, prompts: Prompts, multimask: bool | None = None) -> Masks:
        number = min(len(self.asked), len(self.answers) - 1)
        self.asked.append(prompts)
        self.graph.append(torch.is_grad_enabled())
        return Masks(1 * self.answers[number], 1 * self.scores)


def side(model: Segmenter) -> Side:
    return Side(model, ImageFeatures({"tracker": (torch.zeros(2, 1, 1, 1),)}))


def logits(seed: int, candidates: int = 1) -> Tensor:
    return 3 * torch.randn(COUNT, candidates, GRID, GRID, generator=torch.Generator().manual_seed(seed))


def half(rows: slice, columns: slice, inside: float = 5.0) -> Tensor:
    """Logits (COUNT, 1, GRID, GRID): `inside` in the region, -5 elsewhere."""
    found = torch.full((COUNT, 1, GRID, GRID), -5.0)
    found[:, :, rows, columns] = inside
    return found


NOTHING = half(slice(0), slice(0))
UPPER, LEFT = half(slice(4), slice(None)), half(slice(None), slice(4))
TARGET = (logits(9)[:, 0] > 0).float()


def run(
    student: Segmenter,
    teacher: Segmenter | None,
    prompts: Prompts = BOXES,
    *,
    target: Tensor = TARGET,
    valid: Tensor = EVERYWHERE,
    supervision: Supervision = "teacher",
    weights: MaskWeights = ALL_WEIGHTS,
    rounds: int = 0,
    seed: int = 0,
) -> Rounds:
    return run_rounds(
        side(student),
        None if teacher is None else side(teacher),
        prompts,
        target,
        valid=valid,
        supervision=supervision,
        weights=weights,
        rounds=rounds,
        generator=torch.Generator().manual_seed(seed),
    )


def some(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def added_cells(prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Rows and columns of the grid under the last point of each prompt."""
    x, y = ((some(prompts.points)[:, -1] + 0.5) * GRID / SIDE).unbind(-1)
    return y.floor().long(), x.floor().long()


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


def test_the_answer_of_the_last_round_is_returned() -> None:
    student, teacher = Scripted(*(logits(s) for s in range(3))), Scripted(*(logits(s) for s in range(5, 8)))
    result = run(student, teacher, rounds=2)
    assert torch.equal(result.student, student.answers[2][:, 0])
    assert torch.equal(some(result.teacher), teacher.answers[2][:, 0])
