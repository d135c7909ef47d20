"""Memory tokens and where they lie on the grid of the queries."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from phd.errors import UserError


@dataclass
class MemoryTokens:
    """What one frame leaves in memory, for N objects.

    The global tokens come first; they belong to no place, so they get no rotary code.

    Attributes:
        values: (N, K, C).
        positions: (K, C) sine code of each token's place, 0 for global tokens.
    """

    values: Tensor
    positions: Tensor


class Compressor(nn.Module):
    """Base of what turns the memory map of a frame into K tokens.

    Attributes:
        num_global: Tokens without a place.
        centres: (K - num_global, 2) where the others lie, (x, y) in cells of the query grid, whose first cell is 0.
        positions: (K, C) sine code of each token.
    """

    num_global: int
    centres: Tensor
    positions: Tensor

    def _settle(self, grid: int, channels: int, num_global: int, centres: Tensor) -> None:
        """Keep where the tokens lie; the code is recomputed, so it is not part of a checkpoint."""
        self.num_global = num_global
        self.register_buffer("centres", centres, persistent=False)
        places = sine_positions(centres, grid, channels)
        code = torch.cat([places.new_zeros(num_global, channels), places])
        self.register_buffer("positions", code, persistent=False)

    @property
    def num_tokens(self) -> int:
        """K, the tokens that a frame leaves for each object."""
        return self.num_global + len(self.centres)

    def forward(self, memory: Tensor, positions: Tensor) -> MemoryTokens:
        """Compress.

        Args:
            memory: (N, C, h, w) map of a frame for each of N objects.
            positions: (1, C, h, w) sine code of the map's cells.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")


def sine_positions(centres: Tensor, grid: int, channels: int) -> Tensor:
    """The sine code of places on a grid, as SAM 2's memory encoder gives it to its cells.

    Half of the channels are for y and half for x, sine and cosine in turn (DETR, arXiv 2005.12872, appendix A.4), over
    one turn from edge to edge. A place between cells gets the code between theirs.

    Args:
        centres: (N, 2) places (x, y) in cells; the first cell is 0.
        grid: Cells on a side.
        channels: Of the code, a multiple of 4.

    Returns:
        (N, channels).
    """
    half = channels // 2
    angles = (centres.float() + 1) / (grid + 1e-6) * (2 * math.pi)
    frequency = 10000 ** (2 * (torch.arange(half, device=centres.device) // 2) / half)
    waves = angles.unsqueeze(-1) / frequency
    code = torch.stack([waves[..., 0::2].sin(), waves[..., 1::2].cos()], dim=-1).flatten(-2)
    return torch.cat([code[:, 1], code[:, 0]], dim=-1)


def window_centres(grid: int, windows: int) -> Tensor:
    """Centres (windows^2, 2) of square windows in row order, (x, y) in cells of the grid; the first cell is 0.

    Raises:
        UserError: The windows do not divide the grid.
    """
    legal = [count for count in range(1, grid + 1) if grid % count == 0]
    if windows not in legal:
        raise UserError(
            f"model.memory.windows is {windows}, which does not divide the memory's grid of {grid} x {grid}; "
            f"choose one of {', '.join(map(str, legal))}"
        )
    side = grid // windows
    line = torch.arange(windows) * side + (side - 1) / 2
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=-1)


def split_windows(memory: Tensor, windows: int) -> Tensor:
    """Cut maps (N, C, h, w) into windows in row order, (N, windows^2, cells of a window, C)."""
    count, channels, height, width = memory.shape
    tiles = memory.view(count, channels, windows, height // windows, windows, width // windows)
    return tiles.permute(0, 2, 4, 3, 5, 1).reshape(count, windows * windows, -1, channels)
