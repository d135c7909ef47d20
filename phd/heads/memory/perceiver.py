"""The 2D spatial Perceiver: a frame's memory as a few global latents and one latent for each window.

After EdgeTAM (arXiv 2501.07256, section 3.2). Parameters have the names of its port in `transformers`, so its weights
load where the shapes agree. Ours differs in three things: it is batched over objects, its windows may be any number
that divides the grid, and a window's latent lies at the window's centre in cells of the query grid (EdgeTAM numbers
the windows 0, 1, 2 while the queries run to 63).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from phd.errors import UserError
from phd.heads.memory.tokens import Compressor, MemoryTokens, split_windows, window_centres


class Attention(nn.Module):
    """Multi-head attention without biases; a code of positions is added to projected keys and values."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.o_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, query: Tensor, source: Tensor, positions: Tensor | None = None) -> Tensor:
        """Let `query` (N, Q, C) read `source` (N, S, C); `positions` is (1, S, C)."""
        key, value = self.k_proj(source), self.v_proj(source)
        if positions is not None:
            key, value = key + positions, value + positions
        heads = [part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (self.q_proj(query), key, value)]
        read = F.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        return self.o_proj(read.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Norm, up, GELU, down."""

    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(dim)
        self.up_proj = nn.Linear(dim, ratio * dim, bias=False)
        self.down_proj = nn.Linear(ratio * dim, dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., C) to (..., C)."""
        return self.down_proj(F.gelu(self.up_proj(self.layer_norm(tokens))))


class PerceiverLayer(nn.Module):
    """Latents read the map, then each other."""

    def __init__(self, dim: int, num_heads: int, ratio: int) -> None:
        super().__init__()
        self.cross_attention = Attention(dim, num_heads)
        self.mlp = FeedForward(dim, ratio)
        self.self_attention = Attention(dim, num_heads)
        self.self_mlp = FeedForward(dim, ratio)
        self.layer_norm_input = nn.LayerNorm(dim)
        self.layer_norm_latents = nn.LayerNorm(dim)
        self.layer_norm_self = nn.LayerNorm(dim)

    def forward(self, latents: Tensor, source: Tensor, positions: Tensor | None = None) -> Tensor:
        """Latents (N, L, C) after reading `source` (N, S, C)."""
        source = self.layer_norm_input(source)
        latents = latents + self.cross_attention(self.layer_norm_latents(latents), source, positions)
        latents = latents + self.mlp(latents)
        normed = self.layer_norm_self(latents)
        latents = latents + self.self_attention(normed, normed)
        return latents + self.self_mlp(latents)


class SpatialPerceiver(Compressor):
    """K = `num_global` + `windows`^2 tokens for each frame; the two kinds share the layers.

    Args:
        grid: Cells on a side of the memory map.
        dim: Channels of the memory, C.
        num_global: Latents that read the whole map; 0 for none.
        windows: Windows on a side, each read by one latent; 0 for none.
        depth: Layers.
        num_heads: Heads of each attention.
        ratio: Width of the feed-forward layers, relative to C.

    Raises:
        UserError: There is no latent at all, or the windows do not divide the grid.
    """

    def __init__(
        self,
        grid: int,
        dim: int = 64,
        num_global: int = 64,
        windows: int = 8,
        depth: int = 2,
        num_heads: int = 1,
        ratio: int = 4,
    ) -> None:
        super().__init__()
        if num_global < 1 and windows < 1:
            raise UserError("model.memory: num_global and windows are both 0, so a frame would leave nothing; set one")
        self.grid, self.windows = grid, windows
        centres = window_centres(grid, windows) if windows else torch.zeros(0, 2)
        self._settle(grid, dim, num_global, centres)
        if num_global:
            self.latents_1d = nn.Parameter(torch.randn(num_global, dim))
        if windows:
            self.latents_2d = nn.Parameter(torch.randn(windows * windows, dim))
        self.layers = nn.ModuleList(PerceiverLayer(dim, num_heads, ratio) for _ in range(depth))
        self.layer_norm = nn.LayerNorm(dim)
        self._start_as_means()

    @torch.no_grad()
    def _start_as_means(self) -> None:
        """Start as a mean of what each latent reads, which an inherited memory attention can already use.

        Values pass unchanged and every other residual branch starts small (after Fixup, arXiv 1901.09321). From
        random latents and projections the attention would first have to learn a language that it does not know.
        """
        for name, parameter in self.named_parameters(recurse=False):
            if name.startswith("latents"):
                parameter.mul_(0.02)
        for layer in self.layers:
            assert isinstance(layer, PerceiverLayer)
            for projection in (layer.cross_attention.v_proj, layer.cross_attention.o_proj):
                nn.init.eye_(projection.weight)
            for branch in (layer.mlp.down_proj, layer.self_attention.o_proj, layer.self_mlp.down_proj):
                branch.weight.mul_(0.1)

    def forward(self, memory: Tensor, positions: Tensor) -> MemoryTokens:
        """See `Compressor.forward`."""
        found: list[Tensor] = []
        if self.num_global:
            found.append(self._read_whole(memory, positions))
        if self.windows:
            found.append(self._read_windows(memory))
        return MemoryTokens(self.layer_norm(torch.cat(found, dim=1)), self.positions.to(memory.dtype))

    def _read_whole(self, memory: Tensor, positions: Tensor) -> Tensor:
        source, code = memory.flatten(2).transpose(1, 2), positions.flatten(2).transpose(1, 2)
        latents = self.latents_1d.expand(len(memory), -1, -1)
        for layer in self.layers:
            latents = layer(latents, source, code)
        return latents

    def _read_windows(self, memory: Tensor) -> Tensor:
        count = len(memory)
        source = split_windows(memory, self.windows).flatten(0, 1)
        latents = self.latents_2d.repeat(count, 1).unsqueeze(1)
        for layer in self.layers:
            latents = layer(latents, source)
        return latents.view(count, self.windows * self.windows, -1)
