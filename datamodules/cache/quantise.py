"""Teacher features in few bytes: int8 with a scale for each channel, or half precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from phd.batches import CachedTrunk

Dtype = Literal["int8", "fp16", "bf16"]
TORCH_TYPES: dict[Dtype, torch.dtype] = {"int8": torch.int8, "fp16": torch.float16, "bf16": torch.bfloat16}
# Counts up whenever the same features would be stored as other bytes.
QUANTISER = 1
# Of a sample's relative MSE. Int8 of a Gaussian channel has about 7e-5.
LIMIT = 1e-4
STEPS = 127


def channel_scales(peaks: Tensor) -> Tensor:
    """What codes in [-127, 127] are multiplied with to reach the peaks; float16, 0 for a channel of zeros.

    Rounding to float16 moves a scale by at most 1 in 2048, which costs nothing as long as the codes are made with the
    rounded scale. Only among the subnormals a scale can end so far below that values would be cut off; those are
    rounded up.
    """
    scales = (peaks.float() / STEPS).half()
    too_low = scales.float() * (STEPS + 0.5) < peaks
    following = (scales.view(torch.int16) + 1).view(torch.float16)  # the bits of positive numbers are in their order
    return torch.where(too_low & scales.isfinite(), following, scales)


def quantise(values: Tensor, dtype: Dtype) -> tuple[Tensor, Tensor | None]:
    """What is stored of a map (B, C, h, w): the map in its small type, and for int8 the scales (B, C) float16."""
    if dtype != "int8":
        return values.to(TORCH_TYPES[dtype]).contiguous(), None
    values = values.float()
    scales = channel_scales(values.flatten(2).abs().amax(dim=2))
    divisors = torch.where(scales > 0, scales, 1).float()[:, :, None, None]
    return (values / divisors).round_().clamp_(-STEPS, STEPS).to(torch.int8).contiguous(), scales


def pack(levels: Sequence[Tensor], dtype: Dtype) -> CachedTrunk:
    """The maps of a trunk, each (B, C, h, w), as the cache stores them."""
    stored = [quantise(level, dtype) for level in levels]
    scales = tuple(scale for _, scale in stored if scale is not None)
    return CachedTrunk(tuple(level for level, _ in stored), scales or None)


def relative_mse(values: Tensor, restored: Tensor) -> Tensor:
    """Squared error over the power of the values, by sample, (B,); infinite where all values are 0 and one is not met.

    Args:
        values: (B, ...) the live features.
        restored: (B, ...) what the cache gives back.
    """
    values = values.float()
    error = (values - restored).square().flatten(1).sum(dim=1)
    power = values.square().flatten(1).sum(dim=1)
    return torch.where(error == 0, 0.0, error / power)


def errors(levels: Sequence[Tensor], cached: CachedTrunk) -> Tensor:
    """Relative MSE by sample and level, (B, levels)."""
    pairs = zip(levels, cached.dequantised(), strict=True)
    return torch.stack([relative_mse(level, restored) for level, restored in pairs], dim=1)
