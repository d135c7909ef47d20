import pytest
import torch

from phd.metrics import FeatureMSE


def test_by_hand():
    student = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
    metric = FeatureMSE()
    metric.update(student, torch.zeros(1, 1, 2, 2))
    assert metric.compute().item() == pytest.approx((1 + 4 + 9 + 16) / 4)


def test_mask_counts_valid_elements_of_all_channels():
    student = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 1, 2)
    mask = torch.tensor([[[True, False]]])
    metric = FeatureMSE()
    metric.update(student, torch.zeros(1, 2, 1, 2), mask)
    assert metric.compute().item() == pytest.approx((1 + 9) / 2)


def test_garbage_in_the_padding_does_not_count():
    student, teacher = torch.ones(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    teacher[..., 1] = torch.nan
    metric = FeatureMSE()
    metric.update(student, teacher, torch.tensor([[[True, False]]]))
    assert metric.compute().item() == 1.0


def test_parts_equal_the_whole_also_with_uneven_masks():
    student, teacher, mask = _features()
    whole, parts = FeatureMSE(), FeatureMSE()
    whole.update(student, teacher, mask)
    for part in (slice(0, 1), slice(1, None)):
        parts.update(student[part], teacher[part], mask[part])
    assert parts.compute().item() == pytest.approx(whole.compute().item())
    expected = (student - teacher).square().permute(0, 2, 3, 1)[mask].mean()
    assert whole.compute().item() == pytest.approx(expected.item())


def test_low_precision_is_summed_in_float32():
    student = torch.full((1, 1, 100, 100), 3.0, dtype=torch.float16)
    metric = FeatureMSE()
    metric.update(student, torch.zeros_like(student))
    assert metric.compute().item() == 9.0  # the sum, 90000, is beyond float16


def test_more_elements_than_float32_can_count():
    metric = FeatureMSE()
    metric.count.fill_(2**24)
    metric.update(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    assert metric.count == 2**24 + 1


def test_shapes_that_would_broadcast_are_refused():
    metric = FeatureMSE()
    with pytest.raises(ValueError, match="against"):
        metric.update(torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="mask of shape"):
        metric.update(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool))


def _features() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 5, 6, generator=generator)
    mask = torch.rand(3, 5, 6, generator=generator) < torch.tensor([0.1, 0.5, 0.9]).view(3, 1, 1)
    return student, teacher, mask
