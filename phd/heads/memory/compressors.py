"""The ways to make a frame's memory small, by setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from phd.errors import UserError
from phd.heads.memory.perceiver import SpatialPerceiver
from phd.heads.memory.state_space import StateSpace
from phd.heads.memory.tokens import Compressor, MemoryTokens, split_windows, window_centres

CompressorKind = Literal["none", "flat", "spatial", "both", "pool", "state_space"]


@dataclass
class MemorySettings:
    """How a student's memory is compressed.

    Attributes:
        kind: `none` keeps every cell, as the teacher does; `flat` has global latents only; `spatial` has a latent for
            each window only; `both` is the 2D spatial Perceiver; `pool` takes means over windows, as EfficientTAM
            (arXiv 2411.18933) does; `state_space` reads the windows off a linear recurrence.
        num_global: Global latents of `flat` and `both`.
        windows: Windows on a side; must divide the memory's grid.
        depth: Layers of the Perceiver or of the recurrence.
    """

    kind: CompressorKind = "both"
    num_global: int = 64
    windows: int = 8
    depth: int = 2


class Dense(Compressor):
    """Every cell is a token."""

    def __init__(self, grid: int, dim: int) -> None:
        super().__init__()
        self._settle(grid, dim, 0, window_centres(grid, grid))

    def forward(self, memory: Tensor, positions: Tensor) -> MemoryTokens:
        """See `Compressor.forward`."""
        return MemoryTokens(memory.flatten(2).transpose(1, 2), positions[0].flatten(1).T)


class Pool(Compressor):
    """The mean over each window."""

    def __init__(self, grid: int, dim: int, windows: int) -> None:
        super().__init__()
        self.windows = windows
        self._settle(grid, dim, 0, window_centres(grid, windows))

    def forward(self, memory: Tensor, positions: Tensor) -> MemoryTokens:
        """See `Compressor.forward`."""
        return MemoryTokens(split_windows(memory, self.windows).mean(2), self.positions.to(memory.dtype))


def build_compressor(settings: MemorySettings, grid: int, dim: int) -> Compressor:
    """A compressor with new weights.

    Args:
        settings: Which, and how large.
        grid: Cells on a side of the memory map.
        dim: Channels of the memory.

    Raises:
        UserError: The windows do not divide the grid, or a number is out of range.
    """
    if settings.num_global < 0 or settings.windows < 0 or settings.depth < 1:
        raise UserError(
            f"model.memory: num_global {settings.num_global}, windows {settings.windows}, depth {settings.depth}; give "
            f"at least 0, 0 and 1"
        )
    if settings.kind == "none":
        return Dense(grid, dim)
    if settings.kind == "pool":
        return Pool(grid, dim, settings.windows)
    if settings.kind == "state_space":
        return StateSpace(grid, dim, settings.windows, settings.depth)
    num_global = 0 if settings.kind == "spatial" else settings.num_global
    windows = 0 if settings.kind == "flat" else settings.windows
    return SpatialPerceiver(grid, dim, num_global, windows, settings.depth)


def nearest_windows(grid: int, tokens: int) -> int:
    """The legal number of windows on a side whose square is nearest to a number of tokens."""
    legal = [count for count in range(1, grid + 1) if grid % count == 0]
    return min(legal, key=lambda count: (abs(count * count - tokens), count))


def rotary_places(compressor: Compressor, frames: int) -> tuple[Tensor, Tensor]:
    """Where the tokens of several frames lie, and which of them have a place at all.

    Returns:
        Places (frames * K, 2) as (x, y) in cells, 0 for global tokens; and (frames * K,) bool.
    """
    placed = torch.ones(compressor.num_tokens, dtype=torch.bool, device=compressor.centres.device)
    placed[: compressor.num_global] = False
    places = compressor.centres.new_zeros(compressor.num_tokens, 2)
    places[compressor.num_global :] = compressor.centres
    return places.repeat(frames, 1), placed.repeat(frames)
