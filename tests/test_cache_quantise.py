"""The quantiser of the teacher cache, against values worked out by hand."""

from __future__ import annotations

import pytest
import torch

from datamodules.cache.quantise import LIMIT, channel_scales, errors, pack, quantise, relative_mse

STEP = 2.0**-24  # the smallest float16


def maps(*channels: list[float]) -> torch.Tensor:
    """One image with 2 x 2 maps."""
    return torch.tensor(channels).view(1, len(channels), 2, 2)


def restored(values: torch.Tensor, dtype: str) -> torch.Tensor:
    return pack([values], dtype).dequantised()[0]


def test_codes_are_made_with_the_rounded_scale() -> None:
    codes, scales = quantise(maps([1.27, -0.635, 0.01, 0.0], [-254.0, 2.0, 3.1, 0.9]), "int8")
    # 1.27 / 127 = 0.01 is 0.01000213623046875 in float16; 254 / 127 is 2.
    assert scales.tolist() == [[0.01000213623046875, 2.0]]
    assert (scales.dtype, codes.dtype) == (torch.float16, torch.int8)
    assert codes.flatten(2).tolist() == [[[127, -63, 1, 0], [-127, 1, 2, 0]]]


def test_each_channel_and_each_image_has_its_own_scale() -> None:
    values = torch.cat([maps([1, 1, 1, 0.5], [400, 0, 0, 0]), maps([1e-3, 0, 0, 0], [-3, 1, 1, 1])])
    _, scales = quantise(values, "int8")
    assert torch.allclose(scales.float() * 127, torch.tensor([[1, 400], [1e-3, 3]]), rtol=1e-3)
    # With one scale for the whole map the first channel would be lost: 400 / 127 > 1.
    assert relative_mse(values[:1, :1], restored(values, "int8")[:1, :1]).item() < 1e-4


def test_a_channel_of_zeros_stays_zero() -> None:
    values = maps([0, 0, 0, 0], [1, 2, 3, 4])
    codes, scales = quantise(values, "int8")
    assert scales[0, 0] == 0
    assert codes[0, 0].flatten().tolist() == [0] * 4
    assert restored(values, "int8").isfinite().all()
    nothing = maps([0, 0, 0, 0])
    assert errors([nothing], pack([nothing], "int8")).tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("peak", "scale"),
    [
        (127 * (1 + 2.0**-11 * 0.99), 1.0),  # rounded down by nearly half a place; 127.06 still has the code 127
        (127 * 1.4 * STEP, 2 * STEP),  # rounding down to one step would cut off at 127 of 177.8
        (127 * 0.3 * STEP, STEP),  # rounding down to nothing would lose the channel
        (0.0, 0.0),
    ],
)
def test_a_scale_reaches_its_peak(peak: float, scale: float) -> None:
    peaks = torch.tensor([[peak]])
    assert channel_scales(peaks).tolist() == [[scale]]
    value = restored(torch.full((1, 1, 2, 2), peak), "int8")[0, 0, 0, 0].item()
    assert abs(value - peak) <= scale / 2


def test_an_outlier_costs_the_rest_of_its_channel() -> None:
    values = torch.ones(1, 1, 4, 4)
    values[0, 0, 0, 0] = 1000
    # The scale is 1000 / 127 = 7.874, in float16 7.875: the outlier becomes 127 * 7.875 = 1000.125, the ones vanish.
    assert restored(values, "int8").flatten().tolist() == [1000.125] + [0.0] * 15
    expected = (0.125**2 + 15) / (1000**2 + 15)
    assert relative_mse(values, restored(values, "int8")).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("value", "dtype"), [(1e9, "int8"), (1e5, "fp16"), (float("nan"), "int8")])
def test_what_cannot_be_stored_is_never_close(value: float, dtype: str) -> None:
    values = maps([value, 1, 1, 1])
    assert not errors([values], pack([values], dtype)).item() <= LIMIT


def test_relative_mse_by_hand() -> None:
    values, other = torch.tensor([[4.0, 0.0], [0.0, 0.0]]), torch.tensor([[4.0, 1.0], [0.0, 1.0]])
    assert relative_mse(values, other).tolist() == [1 / 16, float("inf")]


@pytest.mark.parametrize(("dtype", "low", "high"), [("int8", 3e-5, LIMIT), ("bf16", 1e-6, 5e-6), ("fp16", 1e-8, 1e-7)])
def test_what_each_type_costs(dtype: str, low: float, high: float) -> None:
    generator = torch.Generator().manual_seed(0)
    loud = torch.tensor([1.0, 40.0, 0.01, 5.0]).view(1, 4, 1, 1)
    levels = [torch.randn(2, 4, 72, 72, generator=generator) * loud, torch.randn(2, 4, 8, 8, generator=generator)]
    cached = pack(levels, dtype)
    assert (cached.scales is None) == (dtype != "int8")
    found = errors(levels, cached)
    assert found.shape == (2, 2)
    assert low < found[:, 0].min()
    assert found.max() < high
