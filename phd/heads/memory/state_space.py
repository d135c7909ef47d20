"""A linear state-space compressor: the answer of a recurrence over the cells, read off at each window.

The paper (EfficientSAM3, arXiv 2511.15833) asks whether a state-space model could take the Perceiver's place. This is
the diagonal, input-dependent recurrence of Mamba (Gu and Dao, arXiv 2312.00752, section 3.2) in plain PyTorch: a step
h = a h + (1 - a) v, whose a depends on the cell, over the cells row by row, forwards and backwards.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from phd.heads.memory.tokens import Compressor, MemoryTokens, split_windows, window_centres

EXPANSION = 2


def linear_recurrence(decay: Tensor, update: Tensor) -> Tensor:
    """All states of h_t = decay_t h_(t-1) + update_t with h_0 = update_0.

    By doubling (Hillis and Steele, "Data parallel algorithms", CACM 1986): log2 of the length steps, each over the
    whole sequence, so that it is fast without a kernel of its own.

    Args:
        decay: (N, T, D) in [0, 1].
        update: (N, T, D).

    Returns:
        (N, T, D).
    """
    length, reach = decay.shape[1], 1
    while reach < length:
        earlier_decay, earlier = decay[:, :-reach], update[:, :-reach]
        update = torch.cat([update[:, :reach], update[:, reach:] + decay[:, reach:] * earlier], dim=1)
        decay = torch.cat([decay[:, :reach], decay[:, reach:] * earlier_decay], dim=1)
        reach *= 2
    return update


class Recurrence(nn.Module):
    """One layer: gate, short convolution, recurrence in both directions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        inner = EXPANSION * dim
        self.norm = nn.LayerNorm(dim)
        self.input = nn.Linear(dim, 2 * inner)
        self.mix = nn.Conv1d(inner, inner, kernel_size=3, padding=1, groups=inner)
        self.decay = nn.Linear(inner, 2 * inner)
        self.output = nn.Linear(inner, dim)
        # Half-lives from about one cell to a row and more, as S4D (arXiv 2206.11893) spreads its time constants.
        with torch.no_grad():
            self.decay.bias.copy_(torch.linspace(0.0, 5.0, inner).repeat(2))

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, C) to (N, T, C), with the residual."""
        value, gate = self.input(self.norm(tokens)).chunk(2, dim=-1)
        value = F.silu(self.mix(value.transpose(1, 2)).transpose(1, 2))
        forwards, backwards = torch.sigmoid(self.decay(value)).chunk(2, dim=-1)
        state = linear_recurrence(forwards, (1 - forwards) * value)
        back = linear_recurrence(backwards.flip(1), ((1 - backwards) * value).flip(1)).flip(1)
        return tokens + self.output((state + back) * F.silu(gate))


class StateSpace(Compressor):
    """`windows`^2 tokens for each frame: means over the windows, after the recurrence has carried the map along.

    Args:
        grid: Cells on a side of the memory map.
        dim: Channels of the memory.
        windows: Windows on a side.
        depth: Layers.

    Raises:
        UserError: The windows do not divide the grid.
    """

    def __init__(self, grid: int, dim: int, windows: int, depth: int) -> None:
        super().__init__()
        self.grid, self.windows = grid, windows
        self._settle(grid, dim, 0, window_centres(grid, windows))
        self.layers = nn.ModuleList(Recurrence(dim) for _ in range(depth))
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, memory: Tensor, positions: Tensor) -> MemoryTokens:
        """See `Compressor.forward`."""
        tokens = (memory + positions).flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens)
        read = self.layer_norm(tokens).transpose(1, 2).unflatten(2, (self.grid, self.grid))
        return MemoryTokens(split_windows(read, self.windows).mean(2), self.positions.to(memory.dtype))
