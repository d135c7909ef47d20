"""Feature losses against values by hand."""

from __future__ import annotations

import pytest
import torch

from phd.losses.feature import feature_cosine, feature_mse, relative_feature_mse

LOSSES = (feature_mse, relative_feature_mse, feature_cosine)


def maps(*values: float, channels: int = 2) -> torch.Tensor:
    """(1, channels, 1, w) from the values, channel by channel."""
    return torch.tensor(values, dtype=torch.float32).view(1, channels, 1, -1)


def random_maps(seed: int) -> torch.Tensor:
    return torch.randn(3, 5, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_mse_is_a_mean_over_elements() -> None:
    # Squared errors: 1, 4 in the first channel, 0, 9 in the second.
    assert feature_mse(maps(1, 2, 3, 4), maps(0, 0, 3, 1)).item() == pytest.approx(14 / 4)


def test_mse_counts_valid_positions_only() -> None:
    student, teacher = maps(1, 2, 3, 4), maps(0, 0, 3, 1)
    left, right = torch.tensor([[[True, False]]]), torch.tensor([[[False, True]]])
    assert feature_mse(student, teacher, left).item() == pytest.approx((1 + 0) / 2)
    assert feature_mse(student, teacher, right).item() == pytest.approx((4 + 9) / 2)


def test_mse_weighs_positions_alike_across_images() -> None:
    student, mask = torch.zeros(2, 1, 1, 3), torch.tensor([[[True, True, True]], [[True, False, False]]])
    teacher = torch.tensor([1.0, 1.0, 1.0, 5.0, 7.0, 7.0]).view(2, 1, 1, 3)
    assert feature_mse(student, teacher, mask).item() == pytest.approx((1 + 1 + 1 + 25) / 4)


def test_relative_mse_is_the_share_of_the_teachers_power() -> None:
    student, teacher = maps(1, 2, 3, 4), maps(0, 0, 3, 1)
    assert relative_feature_mse(student, teacher).item() == pytest.approx((14 / 4) / (10 / 4))
    # The power too is counted over the valid positions only.
    right = torch.tensor([[[False, True]]])
    assert relative_feature_mse(student, teacher, right).item() == pytest.approx(13 / 1)


@pytest.mark.parametrize("scale", [1e-2, 30.0])
def test_relative_mse_does_not_depend_on_the_scale(scale: float) -> None:
    student, teacher = random_maps(0), random_maps(1)
    relative = relative_feature_mse(student, teacher).item()
    assert relative_feature_mse(scale * student, scale * teacher).item() == pytest.approx(relative, rel=1e-4)
    assert feature_mse(scale * student, scale * teacher).item() == pytest.approx(
        scale**2 * feature_mse(student, teacher).item(), rel=1e-4
    )
    assert relative_feature_mse(torch.zeros_like(teacher), scale * teacher).item() == pytest.approx(1)


def test_relative_mse_of_a_silent_teacher_is_finite() -> None:
    assert relative_feature_mse(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)).item() == 0
    assert relative_feature_mse(torch.ones(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)).isfinite()


def test_cosine_by_hand() -> None:
    # Vectors over channels: (3, 4) against (3, 4), (0, 1) against (1, 0), (1, 1) against (-2, -2).
    student, teacher = maps(3, 0, 1, 4, 1, 1), maps(3, 1, -2, 4, 0, -2)
    assert feature_cosine(student, teacher).item() == pytest.approx((0 + 1 + 2) / 3, abs=1e-6)
    last_two = torch.tensor([[[False, True, True]]])
    assert feature_cosine(student, teacher, last_two).item() == pytest.approx((1 + 2) / 2, abs=1e-6)


def test_cosine_ignores_the_length_of_the_vectors() -> None:
    student, teacher = random_maps(0), random_maps(1)
    expected = feature_cosine(student, teacher).item()
    assert expected > 0.5
    assert feature_cosine(7 * student, 0.1 * teacher).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_full_mask_changes_nothing(loss) -> None:
    student, teacher = random_maps(0), random_maps(1)
    full = torch.ones(3, 4, 4, dtype=torch.bool)
    assert loss(student, teacher, full).item() == pytest.approx(loss(student, teacher).item(), rel=1e-5)
    assert loss(teacher, teacher, full).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_an_empty_mask_costs_nothing(loss) -> None:
    nowhere = torch.zeros(3, 4, 4, dtype=torch.bool)
    assert loss(random_maps(0), random_maps(1), nowhere).item() == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_stays_on_valid_positions_and_the_student(loss) -> None:
    student, teacher = random_maps(0).requires_grad_(), random_maps(1)
    mask = torch.zeros(3, 4, 4, dtype=torch.bool)
    mask[1, 2, :3] = True
    loss(student, teacher, mask).backward()
    assert student.grad is not None
    moved = student.grad.abs().sum(dim=1) > 0
    assert torch.equal(moved, mask)


def test_the_gradient_of_the_mse_by_hand() -> None:
    student = maps(1, 2, 3, 4).requires_grad_()
    feature_mse(student, maps(0, 0, 3, 1)).backward()
    torch.testing.assert_close(student.grad, maps(2 / 4, 4 / 4, 0, 6 / 4))


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_is_computed_in_full(loss) -> None:
    student, teacher = random_maps(0).bfloat16(), random_maps(1).bfloat16()
    value = loss(student, teacher)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(student.float(), teacher.float()).item(), rel=1e-6)
