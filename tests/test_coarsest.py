"""Stage 1 on the coarsest level of each branch alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_encoder_distill import at, make, rectangles
from tiny import tiny_sam, tiny_sam2

from phd.errors import UserError
from phd.losses.feature import feature_mse
from phd.segmenter import Segmenter
from phd.stages import Phase
from phd.student import Student
from phd.teachers.base import Teacher
from phd.teachers.toy import new_toy


@pytest.mark.parametrize("make_teacher", [tiny_sam, tiny_sam2, new_toy])
@pytest.mark.parametrize("neck", [None, "light", "teacher"])
def test_it_is_the_last_of_all_levels(make_teacher: type[Teacher], neck: str | None) -> None:
    teacher = make_teacher()
    model: Segmenter = teacher
    if neck is not None:
        model = Student.create("efficientvit_b0", teacher, neck=neck, pretrained=False)  # type: ignore[arg-type]
    model.eval()  # type: ignore[attr-defined]
    side = model.contract.image_size
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        everything, coarsest = model.encode(images), model.encode(images, coarsest=True)
        tracker = model.encode(images, ("tracker",), coarsest=True)
    assert coarsest.branches.keys() == everything.branches.keys() == model.contract.branches.keys()
    for branch, levels in everything.branches.items():
        assert [level.shape for level in coarsest.branches[branch]] == [levels[-1].shape]
        assert torch.equal(coarsest.branches[branch][0], levels[-1])
    assert list(tracker.branches) == ["tracker"]
    assert torch.equal(tracker.tracker[0], everything.tracker[-1])


def test_a_step_compares_it_alone(toy_folder: Path) -> None:
    stage = at(make(toy_folder, Phase(feature_mse=2.0, levels="coarsest")), 0, 10)
    batch = rectangles(stage.contract)
    output = stage.step(batch, train=True)
    assert output.student_features is not None
    assert output.teacher_features is not None
    pairs = [
        (output.student_features.branches[name][0], output.teacher_features.branches[name][0])
        for name in stage.contract.branches
    ]
    by_hand = torch.stack([feature_mse(mine, theirs) for mine, theirs in pairs]).mean()
    torch.testing.assert_close(output.terms["feature_mse"], by_hand)
    torch.testing.assert_close(output.loss, 2.0 * by_hand)

    output.loss.backward()
    # The heads of the finer levels learn nothing, and distributed training waits for no gradient.
    gradients = {name: weight.grad for name, weight in stage.learner.neck.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    still = {name for name, gradient in gradients.items() if gradient is not None and not gradient.any()}
    for branch, levels in stage.contract.branches.items():
        for place in range(len(levels)):
            heads = {name for name in gradients if name.startswith(f"branches.{branch}.{place}.project")}
            assert heads
            assert (heads <= still) == (place < len(levels) - 1)


def test_validation_compares_all_levels(toy_folder: Path) -> None:
    stage = at(make(toy_folder, Phase(feature_mse=1.0, levels="coarsest")).eval(), 0, 10)
    with torch.no_grad():
        output = stage.step(rectangles(stage.contract), train=False)
    assert output.student_features is not None
    assert len(output.student_features.tracker) == len(stage.contract.tracker) > 1


@pytest.mark.parametrize("term", ["focal", "dice", "iou", "cross_entropy"])
def test_masks_need_all_levels(toy_folder: Path, term: str) -> None:
    phases = (Phase(feature_mse=1.0), Phase(levels="coarsest", **{term: 1.0}))
    with pytest.raises(UserError, match=r"model.losses: phase 1 has a mask term, but levels is 'coarsest'"):
        make(toy_folder, *phases)
